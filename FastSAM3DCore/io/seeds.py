"""Reading a segmentation back, one segment at a time, onto the grid of a scan."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..errors import ImageError
from ..types import Volume
from .images import load_labels
from .native import affine_from_image, array_from_image, first_sentence, image_from_array
from .segmentation import SEGMENTATION_SUFFIXES

__all__ = ["StoredSegmentation", "load_segmentation", "mask_on_grid", "seed_mask"]


@dataclass(frozen=True, slots=True, eq=False)
class StoredSegment:
    """A segment in a file. Its mask is made when it is asked for: a label map of 117 organs of a large CT holds 25 GB.

    Attributes:
        name, color, terminology, id, tags: as of `Segment`.
        layer_kji: label values of the file, indexed [k, j, i].
        value: the segment's own.
    """

    name: str
    color: tuple[float, float, float] | None
    terminology: str | None
    id: str | None
    tags: dict[str, str]
    layer_kji: NDArray[Any]
    value: int

    @property
    def mask_kji(self) -> NDArray[np.bool_]:
        """The structure on the file's grid, a new array."""
        return np.asarray(self.layer_kji == self.value)


@dataclass(frozen=True, slots=True, eq=False)
class StoredSegmentation:
    """The segments of a file; their masks are on the file's own grid.

    Attributes:
        segments: in file order; a plain label map has one per value, named "1", "2", ...
        ijk_to_ras: (4, 4) affine of the file's grid.
    """

    segments: tuple[StoredSegment, ...]
    ijk_to_ras: NDArray[np.float64]


def load_segmentation(path: Path | str) -> StoredSegmentation:
    """Read a `.seg.nrrd` or a label map.

    Raises:
        ImageError: as `load_labels`.
    """
    path = Path(path)
    if not path.name.lower().endswith(SEGMENTATION_SUFFIXES):
        labels = load_labels(path)
        values = [int(v) for v in np.unique(labels.array_kji) if v != 0]
        segments = tuple(StoredSegment(str(v), None, None, None, {}, labels.array_kji, v) for v in values)
        return StoredSegmentation(segments, labels.ijk_to_ras)
    if not path.is_file():
        raise ImageError(f"{path} does not exist; check the path.")
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise ImageError(f"{path.name} cannot be read as a segmentation: {first_sentence(error)}.") from error
    if image.GetDimension() != 3:
        raise ImageError(f"{path.name} is not a 3D segmentation.")
    layers = _layers(image)
    keys = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys() if key.startswith("Segment")}
    found: list[StoredSegment] = []
    while f"Segment{len(found)}_ID" in keys:
        found.append(_segment(keys, len(found), layers, path))
    if not found:
        raise ImageError(f"{path.name} lists no segments.")
    return StoredSegmentation(tuple(found), affine_from_image(image))


def _layers(image: sitk.Image) -> list[NDArray[Any]]:
    count = image.GetNumberOfComponentsPerPixel()
    if count == 1:
        return [array_from_image(image)]
    return [array_from_image(sitk.VectorIndexSelectionCast(image, n)) for n in range(count)]


def _segment(keys: dict[str, str], number: int, layers: list[NDArray[Any]], path: Path) -> StoredSegment:
    def get(name: str, default: str) -> str:
        return keys.get(f"Segment{number}_{name}", default)

    try:
        layer, value = layers[int(get("Layer", "0"))], int(get("LabelValue", str(number + 1)))
        red, green, blue = (float(v) for v in get("Color", "0.5 0.7 0.5").split())
    except (ValueError, IndexError) as error:
        raise ImageError(f"{path.name} is damaged: segment {number} has unreadable fields.") from error
    tags = dict(tag.split(":", 1) for tag in get("Tags", "").split("|") if ":" in tag)
    name, terminology = get("Name", f"Segment {number + 1}"), tags.pop("TerminologyEntry", None)
    return StoredSegment(name, (red, green, blue), terminology, get("ID", ""), tags, layer, value)


def seed_mask(path: Path | str, reference: Volume, name: str | None = None) -> NDArray[np.uint8]:
    """One segment of a file on the grid of a scan, uint8 {0, 1}, indexed [k, j, i].

    Args:
        path: `.seg.nrrd` or label map, on any grid.
        reference: the scan.
        name: which segment, by name, ID or label value; may be left out when there is only one.

    Raises:
        ImageError: unreadable, no such segment, or nothing of it inside the scan.
    """
    stored = load_segmentation(path)
    if name is None and len(stored.segments) == 1:
        chosen = stored.segments[0]
    else:
        matches = [s for s in stored.segments if name in (s.name, s.id)]
        if len(matches) != 1:
            names = ", ".join(s.name for s in stored.segments) or "none"
            wanted = "several segments" if name is None else f"no single segment {name!r}"
            raise ImageError(f"{Path(path).name} has {wanted}; choose one with --mask-segment: {names}.")
        chosen = matches[0]
    mask = mask_on_grid(chosen.mask_kji, stored.ijk_to_ras, reference)
    if not mask.any():
        raise ImageError(f"The segment {chosen.name!r} of {Path(path).name} does not overlap the scan.")
    return mask


def mask_on_grid(mask_kji: NDArray[Any], ijk_to_ras: NDArray[np.float64], reference: Volume) -> NDArray[np.uint8]:
    """Resample a mask to a scan's grid (nearest voxel); as it is when the grids agree."""
    if mask_kji.shape == reference.array_kji.shape and _same_places(ijk_to_ras, reference):
        return np.asarray(mask_kji != 0, dtype=np.uint8)
    source = image_from_array((mask_kji != 0).astype(np.uint8), ijk_to_ras)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ reference.ijk_to_ras
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(sitk.sitkNearestNeighbor)
    resampler.SetSize(reference.shape_ijk)
    resampler.SetOutputSpacing(reference.spacing_ijk)
    resampler.SetOutputDirection((lps[:3, :3] / np.asarray(reference.spacing_ijk)).reshape(-1).tolist())
    resampler.SetOutputOrigin(lps[:3, 3].tolist())
    return np.asarray(array_from_image(resampler.Execute(source)), dtype=np.uint8)


def _same_places(ijk_to_ras: NDArray[np.float64], reference: Volume) -> bool:
    """Whether every voxel of a grid lies where the scan's does, to a hundredth of a voxel: what float32 headers lose.

    Compared at the corners, since half a degree of tilt hardly shows in the matrices and moves them by voxels.
    """
    corners = np.array(list(product(*((0, n - 1) for n in reference.shape_ijk))), dtype=np.float64)
    there = corners @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3]
    return bool(np.abs(there - reference.ijk_to_ras_points(corners)).max() < 0.01 * min(reference.spacing_ijk))
