"""Single DICOM files: what their header says, and whether their pixels are all there."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..errors import ImageError
from .native import first_sentence

__all__ = [
    "MODALITY",
    "SERIES_DESCRIPTION",
    "SERIES_NUMBER",
    "DicomSlice",
    "check_complete",
    "read_header",
    "read_slice",
    "refuse_damaged",
    "tag_of",
]

log = logging.getLogger(__name__)

# DICOM tags (PS3.6) as GDCM writes them.
SERIES_DESCRIPTION, SERIES_NUMBER, INSTANCE_NUMBER, POSITION = "0008|103e", "0020|0011", "0020|0013", "0020|0032"
BITS_ALLOCATED = "0028|0100"
MODALITY = "0008|0060"
MODALITY_BYTES = b"\x08\x00\x60\x00"
PIXEL_DATA = b"\xe0\x7f\x10\x00"


@dataclass(frozen=True, slots=True)
class DicomSlice:
    """What the header of one file says."""

    file: str
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    components: int
    pixel_id: int
    origin: NDArray[np.float64]
    axes: NDArray[np.float64]
    """(3, 3) LPS direction cosines, columns i, j, normal."""
    instance: int
    has_position: bool

    @property
    def kind(self) -> tuple[object, ...]:
        """Slices of one volume share this."""
        return (self.size, self.components, tuple(np.round(self.axes[:, :2].reshape(-1), 2)))


def read_header(file: str) -> sitk.ImageFileReader | None:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        log.debug("%s is not a DICOM image: %s", file, first_sentence(error))
        return None
    return reader


def tag_of(reader: sitk.ImageFileReader, key: str) -> str:
    return str(reader.GetMetaData(key)).strip() if reader.HasMetaDataKey(key) else ""


def read_slice(file: str) -> DicomSlice:
    reader = read_header(file)
    if reader is None:
        raise ImageError(f"The DICOM file {Path(file).name} is damaged or truncated; copy the series again.")
    check_complete(file, reader)
    instance = tag_of(reader, INSTANCE_NUMBER)
    return DicomSlice(
        file,
        tuple(reader.GetSize()),
        tuple(reader.GetSpacing()),
        reader.GetNumberOfComponents(),
        reader.GetPixelIDValue(),
        np.asarray(reader.GetOrigin(), dtype=np.float64),
        np.reshape(reader.GetDirection(), (3, 3)).astype(np.float64),
        int(instance) if instance.lstrip("+-").isdigit() else 0,
        reader.HasMetaDataKey(POSITION),
    )


def check_complete(file: str, reader: sitk.ImageFileReader) -> None:
    """Refuse an uncompressed file whose pixel data were cut off; GDCM fills them up without a word.

    Raises:
        ImageError: the pixel data element promises more bytes than follow it.
    """
    bits = tag_of(reader, BITS_ALLOCATED)
    if not bits.isdigit():
        return
    expected = int(np.prod(reader.GetSize())) * reader.GetNumberOfComponents() * int(bits) // 8
    content = Path(file).read_bytes()
    at = content.find(PIXEL_DATA)
    while at >= 0:
        explicit = content[at + 4 : at + 6] in (b"OW", b"OB")
        start = at + (12 if explicit else 8)
        if start <= len(content):
            length = struct.unpack("<I", content[start - 4 : start])[0]
            # Only an element of just this image's length counts: the tag's bytes also occur inside pixels.
            if length in (expected, expected + expected % 2) and start + length > len(content):
                raise ImageError(f"The DICOM file {Path(file).name} is truncated; copy it again.")
        at = content.find(PIXEL_DATA, at + 1)


def refuse_damaged(candidates: Iterable[Path], modality: str) -> None:
    """Refuse a series beside which lies an image of its kind that GDCM could not read: a slice would be missing.

    GDCM leaves such files out of a series without a word. Structure sets, reports and segmentations are fine.

    Args:
        candidates: files of the folder that belong to no series.
        modality: of the series, "CT" or "MR".

    Raises:
        ImageError: one of them is a damaged image.
    """
    for path in candidates:
        with path.open("rb") as file:
            if file.read(132)[128:] != b"DICM":
                continue
            content = file.read()
        at = content.find(MODALITY_BYTES)
        # Explicit VR: "CS", length, value; implicit: length, value. The value is found in the first bytes of both.
        value = content[at + 8 : at + 8 + len(modality)] if at >= 0 else b""
        if value == modality.encode() and PIXEL_DATA in content:
            raise ImageError(f"The DICOM file {path.name} is damaged or truncated; copy the series again.")
