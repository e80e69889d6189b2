"""Voxels of scribbles and lassos."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..distances import signed_distance
from ..errors import PromptError
from ..prompts import IJK
from ..types import VoxelBox

__all__ = ["flat_axis", "polygon_mask", "polygon_points", "polyline_voxels"]

# A lasso counts as lying in one slice if its corners stray no further than this from a plane, in voxels.
FLATNESS_VOXELS = 0.75


def polyline_voxels(points_ijk: Sequence[Sequence[float]], count: int | None = None) -> NDArray[np.float64]:
    """Points along a polyline, (n, 3): every voxel it passes, or `count` evenly spread ones at most."""
    points: NDArray[np.float64] = np.asarray(points_ijk, dtype=np.float64)
    if len(points) > 1:
        legs = np.abs(np.diff(points, axis=0)).max(axis=1)
        parts = [
            start + (stop - start) * np.linspace(0, 1, int(np.ceil(leg)) + 1)[:, None]
            for start, stop, leg in zip(points[:-1], points[1:], legs, strict=True)
        ]
        points = np.concatenate(parts)
    voxels = np.unique(np.round(points), axis=0) if count is None else points
    if count is not None and len(voxels) > count:
        voxels = voxels[np.linspace(0, len(voxels) - 1, count).round().astype(int)]
    return voxels


def flat_axis(polygon_ijk: NDArray[np.float64]) -> int:
    """The voxel axis (0 = i, 1 = j, 2 = k) across the slice a lasso lies in.

    Raises:
        PromptError: fewer than three corners, or not in one slice.
    """
    if len(polygon_ijk) < 3:
        raise PromptError("A lasso needs at least three corners; draw around the structure in one slice.")
    spread = np.ptp(polygon_ijk, axis=0)
    axis = int(spread.argmin())
    if spread[axis] > 2 * FLATNESS_VOXELS:
        raise PromptError(
            "The lasso does not lie in one slice of the scan; draw it in an axial, sagittal or coronal slice view."
        )
    return axis


def polygon_mask(polygon_ijk: NDArray[np.float64], shape_ijk: Sequence[int]) -> tuple[VoxelBox, NDArray[np.bool_]]:
    """The voxels inside a lasso: its one-slice box clipped to the scan, and flags indexed [k, j, i].

    A voxel is inside if its centre is (even-odd rule).
    """
    axis = flat_axis(polygon_ijk)
    lower = np.floor(polygon_ijk.min(axis=0)).astype(int)
    upper = np.ceil(polygon_ijk.max(axis=0)).astype(int) + 1
    lower[axis] = round(float(polygon_ijk[:, axis].mean()))
    upper[axis] = lower[axis] + 1
    lower, upper = np.maximum(lower, 0), np.minimum(upper, shape_ijk)
    box = VoxelBox(tuple(lower.tolist()), tuple(upper.tolist()))
    if box.is_empty:
        return VoxelBox.empty(), np.zeros((0, 0, 0), dtype=bool)
    u, v = (a for a in range(3) if a != axis)
    columns = np.arange(lower[u], upper[u])[:, None]
    rows = np.arange(lower[v], upper[v])
    inside = np.zeros((columns.size, rows.size), dtype=bool)
    for start, stop in zip(polygon_ijk, np.roll(polygon_ijk, -1, axis=0), strict=True):
        first, last = (np.searchsorted(rows, end) for end in sorted((start[v], stop[v])))
        if first == last:
            continue
        at = start[u] + (rows[first:last] - start[v]) * (stop[u] - start[u]) / (stop[v] - start[v])
        inside[:, first:last] ^= columns < at
    flags = np.expand_dims(inside, axis)  # indexed [i, j, k]
    return box, flags.transpose(2, 1, 0)


@lru_cache(maxsize=64)  # asked for every crop of every later prompt
def polygon_points(polygon_ijk: tuple[IJK, ...], shape_ijk: tuple[int, int, int], count: int) -> NDArray[np.float64]:
    """Up to `count` voxels of a scan inside a lasso, (n, 3) ijk, read-only: its middle, then evenly spread ones."""
    polygon = np.array(polygon_ijk)
    box, flags = polygon_mask(polygon, shape_ijk)
    where = np.argwhere(flags)[:, ::-1] + np.asarray(box.lower)
    if len(where) == 0:
        points: NDArray[np.float64] = np.asarray(polygon.mean(axis=0, keepdims=True))
    else:
        chosen = [int(((where - where.mean(axis=0)) ** 2).sum(axis=1).argmin())]
        around = tuple((int(n > 1),) * 2 for n in flags.shape)  # the lasso is a border, where it fills its box too
        flags = np.pad(flags, around)
        distance = (1 - signed_distance(flags)[flags]) ** 2
        while len(chosen) < min(count, len(where)):
            distance = np.minimum(distance, ((where - where[chosen[-1]]) ** 2).sum(axis=1))
            chosen.append(int(distance.argmax()))
        points = where[chosen].astype(np.float64)
    points.setflags(write=False)
    return points
