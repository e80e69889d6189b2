"""Standard codes and colours for common structure names, so that a segment means something to 3D Slicer and PACS.

Codes are SNOMED CT (SCT) as listed in 3D Slicer's "General Anatomy" and "DICOM master" terminologies; a test
compares every row with those lists. Colours are the lists' recommended display colours where they give one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["DISTINCT_COLORS", "TISSUE", "Terminology", "terminology_for"]

GENERAL = "Segmentation category and type - 3D Slicer General Anatomy list"
MASTER = "Segmentation category and type - DICOM master list"
REGION = "Anatomic codes - DICOM master list"

CATEGORIES = {
    "tissue": ("85756007", "Tissue"),
    "anatomy": ("123037004", "Anatomical Structure"),
    "altered": ("49755003", "Morphologically Altered Structure"),
}
SIDES = {"right": ("24028007", "Right"), "left": ("7771000", "Left")}

# Easily told apart on grey scans, for segments without a colour of their own.
DISTINCT_COLORS: tuple[tuple[int, int, int], ...] = (
    (128, 174, 128),
    (241, 214, 145),
    (177, 122, 101),
    (111, 184, 210),
    (216, 101, 79),
    (221, 130, 101),
    (144, 238, 144),
    (192, 104, 188),
    (220, 245, 20),
    (78, 130, 220),
    (255, 181, 158),
    (0, 151, 206),
)


@dataclass(frozen=True, slots=True)
class Terminology:
    """A coded meaning.

    Attributes:
        context: the terminology list the codes are from.
        category: key of `CATEGORIES`.
        code: SCT code of the type.
        meaning: its name in the list.
        color: recommended display colour, 0 to 255, or None.
        sided: whether the list lets left and right be told.
        side: "left", "right" or "".
    """

    context: str
    category: str
    code: str
    meaning: str
    color: tuple[int, int, int] | None = None
    sided: bool = False
    side: str = ""

    def entry(self) -> str:
        """The value of a segment's TerminologyEntry tag."""
        category = "SCT^{}^{}".format(*CATEGORIES[self.category])
        modifier = "SCT^{}^{}".format(*SIDES[self.side]) if self.side else "^^"
        return f"{self.context}~{category}~SCT^{self.code}^{self.meaning}~{modifier}~{REGION}~^^~^^"


TISSUE = Terminology(GENERAL, "tissue", "85756007", "Tissue", (128, 174, 128))


def _general(code: str, meaning: str, color: tuple[int, int, int] | None = None, sided: bool = False) -> Terminology:
    return Terminology(GENERAL, "anatomy", code, meaning, color, sided)


def _master(code: str, meaning: str, sided: bool = False) -> Terminology:
    return Terminology(MASTER, "anatomy", code, meaning, None, sided)


# Looked for first: a liver tumour is a tumour. Keys are whole words of a structure's name, lower case.
PATHOLOGY = {
    **dict.fromkeys(
        ("tumour", "tumor", "neoplasm", "sarcoma", "glioma", "carcinoma", "metastasis", "gtv"),
        Terminology(MASTER, "altered", "108369006", "Neoplasm"),
    ),
    **dict.fromkeys(("mass", "lesion"), Terminology(GENERAL, "altered", "4147007", "Mass", (144, 238, 144))),
    "cyst": Terminology(GENERAL, "altered", "367643001", "Cyst", (205, 205, 100)),
    "edema": Terminology(GENERAL, "altered", "79654002", "Edema", (140, 224, 228)),
    "hemorrhage": Terminology(GENERAL, "altered", "50960005", "Hemorrhage", (188, 65, 28)),
    "necrosis": Terminology(GENERAL, "altered", "6574001", "Necrosis", (216, 191, 216)),
}

ANATOMY = {
    "tissue": TISSUE,
    "artery": Terminology(GENERAL, "tissue", "51114001", "Artery", (216, 101, 79)),
    "vein": Terminology(GENERAL, "tissue", "29092000", "Vein", (0, 151, 206)),
    "bone": Terminology(GENERAL, "tissue", "272673000", "Bone", (241, 214, 145)),
    "muscle": Terminology(GENERAL, "tissue", "71616004", "Muscle", (192, 104, 88)),
    "cartilage": Terminology(GENERAL, "tissue", "309312004", "Cartilage", (111, 184, 210)),
    "lymph node": Terminology(GENERAL, "tissue", "59441001", "Lymph node", (68, 172, 100)),
    "fat": Terminology(GENERAL, "tissue", "248300009", "Body fat", (230, 220, 70)),
    "skin": Terminology(GENERAL, "tissue", "39937001", "Skin", (177, 122, 101)),
    "liver": _general("10200004", "Liver", (221, 130, 101)),
    "spleen": _general("78961009", "Spleen", (157, 108, 162)),
    "kidney": _general("64033007", "Kidney", sided=True),
    "pancreas": _general("15776009", "Pancreas", (249, 180, 111)),
    "gallbladder": _general("28231008", "Gallbladder", (139, 150, 98)),
    "stomach": _general("69695003", "Stomach", (216, 132, 105)),
    "duodenum": _general("38848004", "Duodenum", (255, 253, 229)),
    "small bowel": _general("30315005", "Small Intestine", (205, 167, 142)),
    "small intestine": _general("30315005", "Small Intestine", (205, 167, 142)),
    "colon": _general("71854001", "Colon", (204, 168, 143)),
    "bladder": _general("89837001", "Bladder", (222, 154, 132)),
    "prostate": _general("41216001", "Prostate", (230, 158, 140)),
    "uterus": _general("35039007", "Uterus", (255, 181, 158)),
    "adrenal gland": _general("23451007", "Adrenal gland", sided=True),
    "lung": _general("39607008", "Lung", sided=True),
    "lung upper lobe": _general("45653009", "Upper lobe of lung", sided=True),
    "lung lower lobe": _general("90572001", "Lower lobe of lung", sided=True),
    "trachea": _general("44567001", "Trachea", (182, 228, 255)),
    "esophagus": _general("32849002", "Esophagus", (211, 171, 143)),
    "heart": _general("80891009", "Heart", (206, 110, 84)),
    "left ventricle": _general("87878005", "Left Ventricle", (152, 55, 13)),
    "right ventricle": _general("53085002", "Right Ventricle", (181, 85, 57)),
    "aorta": _general("15825003", "Aorta", (224, 97, 76)),
    "brain": _general("12738006", "Brain", (250, 250, 225)),
    "brain ventricle": _general("35764002", "Brain ventricle", (88, 106, 215)),
    "lateral ventricle": _general("66720007", "Lateral ventricle", sided=True),
    "white matter": _general("389080008", "White Matter", (250, 250, 210)),
    "grey matter": _general("389081007", "Gray Matter", (200, 200, 235)),
    "gray matter": _general("389081007", "Gray Matter", (200, 200, 235)),
    "putamen": _general("89278009", "Putamen", sided=True),
    "caudate": _general("11000004", "Caudate nucleus", sided=True),
    "thalamus": _general("119406000", "Thalamus", sided=True),
    "amygdala": _general("4958002", "Amygdala", sided=True),
    "spinal cord": _general("2748008", "Spinal cord", (244, 214, 49)),
    "skull": _general("89546000", "Skull", (241, 213, 144)),
    "mandible": _general("91609006", "Mandible", (222, 198, 101)),
    "rib": _general("113197003", "Rib", (253, 232, 158)),
    "sternum": _general("56873002", "Sternum", (244, 217, 154)),
    "thyroid": _general("69748006", "Thyroid", (62, 162, 114)),
    "tooth": _general("38199008", "Tooth", (255, 250, 220)),
    "hippocampus": _master("5366008", "Hippocampus", sided=True),
    "cerebellum": _master("113305005", "Cerebellum"),
    "vertebra": _master("51282000", "Vertebra"),
    "vertebrae": _master("51282000", "Vertebra"),
    "sacrum": _master("54735007", "Sacrum"),
    "femur": _master("71341001", "Femur", sided=True),
    "humerus": _master("85050009", "Humerus", sided=True),
    "scapula": _master("79601000", "Scapula", sided=True),
    "inferior vena cava": _master("64131007", "Inferior vena cava"),
    "superior vena cava": _master("48345005", "Superior vena cava"),
}


def terminology_for(name: str) -> Terminology:
    """The best coded meaning for a free name ("kidney_left", "Liver", "L Putamen"); Tissue if none is certain."""
    words = re.findall(r"[a-z]+", name.lower())
    text = f" {' '.join(words)} "
    for table in (PATHOLOGY, ANATOMY):
        keys = [key for key in table if f" {key} " in text]
        if keys:
            found = table[max(keys, key=len)]
            side = _side(words) if found.sided else ""
            return Terminology(found.context, found.category, found.code, found.meaning, found.color, found.sided, side)
    return TISSUE


def _side(words: list[str]) -> str:
    left, right = {"left", "l"} & set(words), {"right", "r"} & set(words)
    if bool(left) == bool(right):
        return ""
    return "left" if left else "right"
