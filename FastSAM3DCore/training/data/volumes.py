"""Label maps and scans in memory, with the boxes of their structures.

scipy and SimpleITK are imported where files are read: a machine that is there for its card, and has neither, trains on
random shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import ImageError

__all__ = ["LabelledVolume", "Structure", "load_volume"]

_SMALLEST = 60


@dataclass(frozen=True, slots=True)
class Structure:
    """One label and its half-open box in voxels."""

    label: int
    lower: tuple[int, int, int]
    upper: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class LabelledVolume:
    """A scan with labels, or a label map without a scan; axes run to the right, anterior and superior.

    Attributes:
        name: of the case.
        spacing: (3,) mm, in the order of the arrays' axes.
        labels: (D, H, W) int16 tensor.
        structures: labels large enough to be targets.
        image: (D, H, W) float32, or None for a label map.
        means: (labels,) mean equalised intensity of each supervoxel, or None for real labels.
    """

    name: str
    spacing: Tensor
    labels: Tensor
    structures: list[Structure]
    image: Tensor | None = None
    means: Tensor | None = None


def find_structures(labels: np.ndarray) -> list[Structure]:
    """Boxes of all labels above zero that have at least 60 voxels."""
    from scipy import ndimage

    counts = np.bincount(labels.ravel())
    found = []
    for index, box in enumerate(ndimage.find_objects(labels)):
        if box is not None and counts[index + 1] >= _SMALLEST:
            lower, upper = tuple(s.start for s in box), tuple(s.stop for s in box)
            found.append(Structure(index + 1, lower, upper))
    return found


def read_array(path: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Voxels with axes to the right, anterior and superior, as sessions cut their crops, and their spacing.

    Raises:
        ImageError: if the file cannot be read or is not a scalar 3D volume.
    """
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(path))
        if image.GetDimension() == 4 and image.GetSize()[3] == 1:
            image = image[:, :, :, 0]
    except RuntimeError as error:
        raise ImageError(f"cannot read {path}: {str(error).strip().splitlines()[-1]}") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() > 1:
        raise ImageError(f"{path} is not one 3D volume of grey values or labels; training needs such, a file each")
    upright = sitk.DICOMOrient(image, "RAS")
    return np.ascontiguousarray(sitk.GetArrayFromImage(upright).transpose(2, 1, 0)), upright.GetSpacing()


def load_volume(
    name: str, labels: Path | None, image: Path | None = None, device: torch.device | str = "cpu"
) -> LabelledVolume:
    """Read a label map, a labelled scan, or a scan alone (labels all zero).

    Raises:
        ImageError: if a file cannot be read, or image and labels have different shapes.
    """
    scan, spacing = (None, (1.0, 1.0, 1.0)) if image is None else read_array(image)
    if labels is None:
        ids = np.zeros_like(scan, dtype=np.int16)
    else:
        array, spacing = read_array(labels)
        ids = np.rint(array).astype(np.int16)
    if scan is not None and scan.shape != ids.shape:
        raise ImageError(f"{name}: image {scan.shape} and labels {ids.shape} have different shapes")
    voxels = None if scan is None else torch.from_numpy(np.nan_to_num(scan.astype(np.float32))).to(device)
    return LabelledVolume(
        name=name,
        spacing=torch.tensor(spacing, dtype=torch.float32),
        labels=torch.from_numpy(ids).to(device),
        structures=find_structures(ids),
        image=voxels,
    )
