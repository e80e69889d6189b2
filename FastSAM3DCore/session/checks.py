"""Refuses scans and prompts that cannot be worked with, before anything changes."""

from __future__ import annotations

import numpy as np

from ..errors import ImageError, PromptError
from ..prompts import BoxPrompt, LassoPrompt, MaskPrompt, PointPrompt, Prompt, ScribblePrompt
from ..types import Volume, VoxelBox
from .shapes import flat_axis

__all__ = ["check_prompt", "check_voxels", "inside_box", "inside_scan"]


def check_voxels(volume: Volume) -> None:
    """Refuse scans that cannot be normalised.

    Raises:
        ImageError: NaN or infinite voxels, or all voxels equal.
    """
    array = volume.array_kji
    if array.dtype.kind == "f":
        for plane in array:  # slice by slice: a whole-volume flag array would cost a byte per voxel
            if not np.isfinite(plane).all():
                raise ImageError(
                    "The scan has NaN or infinite voxels; replace them (for example by 0) and load it again."
                )
    first = array[0, 0, 0]
    if not any((plane != first).any() for plane in array):
        raise ImageError(f"All voxels of the scan have the value {first}; there is nothing to segment.")


def inside_scan(point: tuple[float, float, float], scan: VoxelBox) -> tuple[float, float, float]:
    """The point itself; PromptError if it lies outside the scan."""
    if not scan.contains(point):
        where = ", ".join(f"{v:.1f}" for v in point)
        raise PromptError(f"The point ({where}) lies outside the scan of {scan.shape_ijk} voxels (i, j, k).")
    return point


def inside_box(box: VoxelBox, scan: VoxelBox) -> VoxelBox:
    """The part of a box that lies in the scan; PromptError if there is none."""
    if box.is_empty:
        raise PromptError(f"The box from {box.lower} to {box.upper} is empty or inverted; give the lower corner first.")
    clipped = box.intersect(scan)
    if clipped.is_empty:
        raise PromptError(f"The box from {box.lower} to {box.upper} lies outside the scan.")
    return clipped


def check_prompt(prompt: Prompt, scan: VoxelBox) -> None:
    """Raise PromptError if a prompt of a log does not fit the scan."""
    match prompt:
        case PointPrompt():
            inside_scan(prompt.point_ijk, scan)
        case BoxPrompt():
            inside_box(prompt.box, scan)
        case ScribblePrompt():
            for point in prompt.points_ijk:
                inside_scan(point, scan)
        case LassoPrompt():
            flat_axis(np.array(prompt.polygon_ijk))
        case MaskPrompt():
            if prompt.shape_kji != scan.shape_ijk[::-1]:
                raise PromptError("A mask in the prompt log belongs to a scan of another size.")
