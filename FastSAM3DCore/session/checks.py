"""Refuses prompts that cannot be worked with, before anything changes."""

from __future__ import annotations

import numpy as np

from ..errors import PromptError
from ..prompts import IJK, BoxPrompt, LassoPrompt, MaskPrompt, PointPrompt, Prompt, ScribblePrompt
from ..types import VoxelBox
from .shapes import polygon_mask

__all__ = ["check_prompt", "inside_box", "inside_lasso", "inside_scan", "inside_stroke"]


def inside_scan(point: IJK, scan: VoxelBox) -> IJK:
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


def inside_stroke(points: tuple[IJK, ...], scan: VoxelBox) -> tuple[IJK, ...]:
    """The points themselves; PromptError if there are none, or one lies outside the scan."""
    if not points:
        raise PromptError("The scribble has no points.")
    return tuple(inside_scan(point, scan) for point in points)


def inside_lasso(polygon: tuple[IJK, ...], scan: VoxelBox) -> tuple[IJK, ...]:
    """The polygon itself; PromptError if it is no contour in one slice, or holds no voxel of the scan."""
    box, inside = polygon_mask(np.array(polygon, dtype=np.float64).reshape(-1, 3), scan.shape_ijk)
    if box.is_empty or not inside.any():
        raise PromptError("The lasso encloses no voxel of the scan; draw it larger and inside the scan.")
    return polygon


def check_prompt(prompt: Prompt, scan: VoxelBox) -> None:
    """Raise PromptError if a prompt of a log does not fit the scan."""
    match prompt:
        case PointPrompt():
            inside_scan(prompt.point_ijk, scan)
        case BoxPrompt():
            inside_box(prompt.box, scan)
        case ScribblePrompt():
            inside_stroke(prompt.points_ijk, scan)
        case LassoPrompt():
            inside_lasso(prompt.polygon_ijk, scan)
        case MaskPrompt():
            if prompt.shape_kji != scan.shape_ijk[::-1]:
                raise PromptError("A mask in the prompt log belongs to a scan of another size.")
