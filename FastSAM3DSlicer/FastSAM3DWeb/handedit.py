"""Paint and erase: a brush stroke in one slice, exactly as drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from FastSAM3DCore.errors import PromptError
from FastSAM3DCore.types import VoxelBox
from FastSAM3DSlicerLib.History import SegmentLog
from FastSAM3DSlicerLib.SliceLimit import SliceLimit
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, pointsToIjk, shapeIjk

__all__ = ["paint", "stroke_mask"]


def stroke_mask(points_ras: np.ndarray, ijk_to_ras: np.ndarray, box: VoxelBox, radius_mm: float) -> np.ndarray:
    """Voxels whose centre lies within `radius_mm` of a polyline.

    Args:
        points_ras: (N, 3) mm.
        ijk_to_ras: (4, 4).
        box: the voxels to look at.

    Returns:
        bool, indexed [k, j, i].
    """
    i, j, k = (np.arange(low, high) for low, high in zip(box.lower, box.upper, strict=True))
    kk, jj, ii = np.meshgrid(k, j, i, indexing="ij")
    centres = np.stack([ii, jj, kk], axis=-1) @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3]
    near = np.zeros(centres.shape[:3], bool)
    ends = points_ras[1:] if len(points_ras) > 1 else points_ras
    for start, end in zip(points_ras, ends, strict=False):
        along = end - start
        length = float(along @ along)
        t = np.clip((centres - start) @ along / length, 0.0, 1.0) if length > 0 else np.zeros(near.shape)
        off = centres - start - t[..., None] * along
        near |= np.einsum("...c,...c->...", off, off) <= radius_mm**2
    return near


def paint(
    logic: Any, points_ras: list[tuple[float, float, float]], radius_mm: float, limit: SliceLimit, add: bool
) -> VoxelBox:
    """Add a stroke to the active segment or take it away; one undo step.

    Returns:
        the voxels that changed.

    Raises:
        PromptError: no segment, it is locked, or the stroke is outside the scan.
    """
    active = logic.active
    if active is None:
        raise PromptError("No segment is chosen; add a segment first.")
    active.check(logic.scene)
    logic.rules.checkUnlocked(active.image())
    volume_node = logic.volumeNode
    world, shape = ijkToWorld(volume_node), shapeIjk(volume_node)
    points = np.asarray(points_ras, dtype=float)
    reach = radius_mm / np.linalg.norm(world[:3, :3], axis=0)
    ijk = pointsToIjk(volume_node, points)
    box = VoxelBox(
        tuple(np.floor(ijk.min(axis=0) - reach).astype(int)), tuple(np.ceil(ijk.max(axis=0) + reach).astype(int) + 1)
    )
    box = limit.bounds(box.intersect(VoxelBox((0, 0, 0), shape)))
    if box.is_empty:
        raise PromptError("That stroke is outside the scan; nothing was changed.")
    stroke = stroke_mask(points, world, box, radius_mm) & limit.inside(box)
    before = active.image().read(box) != 0
    wanted = before | stroke if add else before & ~stroke
    logic.beforeWrite()
    changed, changes = active.writer(logic.rules).write(box, wanted)
    if not changes:
        return changed
    log = active.log
    active.settle(log, changed, logic.model)
    after = SegmentLog((*log.prompts, active.maskPrompt()), log.threshold)
    logic.history.push(active.step("paint" if add else "erase", changes, log, after, "reload"))
    active.settle(after, changed, logic.model)
    logic.link.forget()
    return changed
