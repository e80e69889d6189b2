"""Segmentations on disk: 3D Slicer's .seg.nrrd, and plain label maps.

The .seg.nrrd layout (field names, layers, reference geometry) is the one that 3D Slicer 5's
vtkMRMLSegmentationStorageNode reads and writes; `Testing/mrml` reads these files with that very class.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..errors import ImageError, OutputError
from ..types import Volume, VoxelBox
from . import nifti
from .atomic import atomic_path, check_writable
from .native import image_from_array
from .terminology import DISTINCT_COLORS, terminology_for

__all__ = ["LABEL_SUFFIXES", "SEGMENTATION_SUFFIXES", "Segment", "check_output", "mask_box", "save_segmentation"]

log = logging.getLogger(__name__)

SEGMENTATION_SUFFIXES = (".seg.nrrd",)
LABEL_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """One named structure.

    Attributes:
        name: shown to people.
        mask_kji: the structure, non-zero inside, indexed [k, j, i] on the reference scan's grid.
        color: red, green, blue from 0 to 1; None for the colour that goes with the name.
        terminology: value of the TerminologyEntry tag; None for the codes that go with the name.
        id: identifier, unique in the file; None for a numbered one.
        tags: further tags stored with the segment (provenance, say); no "|" in them.
    """

    name: str
    mask_kji: NDArray[Any]
    color: tuple[float, float, float] | None = None
    terminology: str | None = None
    id: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


def check_output(path: Path | str) -> Path:
    """Whether a segmentation can be written there, asked before the work.

    Raises:
        OutputError: unknown format, or a place that cannot be written.
    """
    path = Path(path)
    if not path.name.lower().endswith(SEGMENTATION_SUFFIXES + LABEL_SUFFIXES):
        known = ", ".join(SEGMENTATION_SUFFIXES + LABEL_SUFFIXES)
        raise OutputError(f"{path.name} has no known ending; name the output with one of {known}.")
    return check_writable(path)


def save_segmentation(path: Path | str, segments: Sequence[Segment], reference: Volume) -> None:
    """Write segments on a scan's grid, atomically.

    `.seg.nrrd` keeps names, colours, codes and overlaps. The label maps (`.nii.gz`, `.nii`, `.nrrd`, `.mha`)
    hold 1, 2, ... in the order given; where segments overlap the later one wins, with a logged warning.

    Raises:
        OutputError: unknown ending, a mask on another grid, no segments, or the file cannot be written; then
            whatever was there before is untouched.
    """
    path = check_output(path)
    if not segments:
        raise OutputError("There are no segments to write.")
    for segment in segments:
        if segment.mask_kji.shape != reference.array_kji.shape:
            raise OutputError(f"The segment {segment.name!r} is not on the grid of the scan; resample it first.")
    if path.name.lower().endswith(SEGMENTATION_SUFFIXES):
        image = _segmentation_image(segments, reference)
    else:
        image = _label_image(segments, reference)
    with atomic_path(path) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True)
        if nifti.is_nifti(temporary):
            _check_written(path, temporary)


def _check_written(path: Path, temporary: Path) -> None:
    """Niftilib reports no error when the disk is full; the file is then too short."""
    try:
        header = nifti.read_header(temporary)
        complete = header is not None
        if header is not None:
            nifti.check_complete(temporary, header)
    except ImageError as error:
        raise OutputError(f"Cannot write {path}: the file came out incomplete; is the disk full?") from error
    if not complete:
        raise OutputError(f"Cannot write {path}: not even its header fits; is the disk full?")


def mask_box(mask_kji: NDArray[Any]) -> VoxelBox:
    """The smallest half-open box around the non-zero voxels; empty if there are none."""
    return VoxelBox.around(mask_kji)


def _label_image(segments: Sequence[Segment], reference: Volume) -> sitk.Image:
    labels = np.zeros(reference.array_kji.shape, np.uint8 if len(segments) < 256 else np.uint16)
    for value, segment in enumerate(segments, start=1):
        box = mask_box(segment.mask_kji).slices_kji
        inside = segment.mask_kji[box] != 0
        hidden = int(np.count_nonzero(labels[box][inside]))
        if hidden:
            log.warning("%d voxels of %r lie in other segments too; they become its own.", hidden, segment.name)
        labels[box][inside] = value
    return image_from_array(labels, reference.ijk_to_ras)


@dataclass(frozen=True, slots=True)
class _Place:
    layer: int
    value: int
    box: VoxelBox


def _segmentation_image(segments: Sequence[Segment], reference: Volume) -> sitk.Image:
    layers, places = _layers(segments, reference.array_kji.shape)
    array = layers[0] if len(layers) == 1 else np.stack(layers, axis=-1)
    image = image_from_array(array, reference.ijk_to_ras)
    for key, value in _metadata(segments, places, reference).items():
        image.SetMetaData(key, value)
    return image


def _layers(segments: Sequence[Segment], shape: tuple[int, ...]) -> tuple[list[NDArray[Any]], list[_Place]]:
    """Put each segment on the first layer where it covers no other."""
    dtype = np.uint8 if len(segments) < 256 else np.uint16
    layers: list[NDArray[Any]] = []
    used: list[int] = []
    places = []
    for segment in segments:
        box = mask_box(segment.mask_kji)
        inside = segment.mask_kji[box.slices_kji] != 0
        free = (n for n, layer in enumerate(layers) if not layer[box.slices_kji][inside].any())
        index = next(free, len(layers))
        if index == len(layers):
            layers.append(np.zeros(shape, dtype))
            used.append(0)
        used[index] += 1
        layers[index][box.slices_kji][inside] = used[index]
        places.append(_Place(index, used[index], box))
    return layers, places


def _metadata(segments: Sequence[Segment], places: Sequence[_Place], reference: Volume) -> dict[str, str]:
    fields = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ConversionParameters": _reference_geometry(reference),
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    ids: set[str] = set()
    for number, (segment, place) in enumerate(zip(segments, places, strict=True)):
        meaning = terminology_for(segment.name)
        tags = {**segment.tags, "TerminologyEntry": segment.terminology or meaning.entry()}
        extent = [(l, u - 1) for l, u in zip(place.box.lower, place.box.upper, strict=True)]
        color = segment.color or tuple(v / 255 for v in meaning.color or _distinct(number))
        fields |= {
            f"Segment{number}_{key}": value
            for key, value in {
                "ID": _unique_id(segment, number, ids),
                "Name": _one_line(segment.name),
                "NameAutoGenerated": "0",
                "Color": " ".join(f"{v:.6g}" for v in color),
                "ColorAutoGenerated": "0",
                "LabelValue": str(place.value),
                "Layer": str(place.layer),
                "Extent": " ".join(f"{l} {u}" for l, u in extent),
                "Tags": "".join(f"{_one_line(k)}:{_one_line(v)}|" for k, v in tags.items()),
            }.items()
        }
    return fields


def _distinct(number: int) -> tuple[int, int, int]:
    return DISTINCT_COLORS[number % len(DISTINCT_COLORS)]


def _unique_id(segment: Segment, number: int, taken: set[str]) -> str:
    wanted = re.sub(r"[^A-Za-z0-9_.-]", "_", segment.id or f"Segment_{number + 1}")
    while wanted in taken:
        wanted += "_"
    taken.add(wanted)
    return wanted


def _one_line(text: str) -> str:
    """NRRD key/value pairs and Slicer's tag lists have no way to hold line breaks or bars."""
    return re.sub(r"[\x00-\x1f|]+", " ", text).strip()


def _reference_geometry(reference: Volume) -> str:
    """Slicer's serialised reference image geometry: the image-to-world matrix by rows and the extent."""
    matrix = ";".join(f"{v:.15g}" for v in reference.ijk_to_ras.reshape(-1))
    extent = ";".join(f"0;{n - 1}" for n in reference.shape_ijk)
    return f"Reference image geometry|{matrix};{extent};|Geometry of the scan that was segmented.&"
