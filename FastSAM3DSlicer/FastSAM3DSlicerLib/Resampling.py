"""Boxes and masks from one voxel grid to another; numpy only."""

from __future__ import annotations

import itertools

import numpy as np

from FastSAM3DCore.types import VoxelBox

# Grids whose voxels agree to this many voxels over the whole scan count as the same grid.
SAME_GRID_VOXELS = 0.02


def shiftBox(box: VoxelBox, shift: np.ndarray) -> VoxelBox:
    """The box moved by whole voxels (i, j, k)."""
    lower = tuple(int(v + s) for v, s in zip(box.lower, shift, strict=True))
    upper = tuple(int(v + s) for v, s in zip(box.upper, shift, strict=True))
    return VoxelBox(lower, upper)  # type: ignore[arg-type]


def wholeVoxelShift(matrix: np.ndarray) -> np.ndarray | None:
    """The shift (i, j, k) if a (4, 4) voxel-to-voxel matrix is one by whole voxels, else None."""
    shift = np.rint(matrix[:3, 3])
    # 512 voxels away from the origin the grids must still agree.
    reach = np.abs(matrix[:3, :3] - np.eye(3)).max() * 512
    if reach > SAME_GRID_VOXELS or np.abs(matrix[:3, 3] - shift).max() > SAME_GRID_VOXELS:
        return None
    return shift.astype(int)


def boundsThrough(matrix: np.ndarray, box: VoxelBox) -> VoxelBox:
    """The box, in the target's voxels, around a box seen through a (4, 4) voxel-to-voxel matrix."""
    if box.is_empty:
        return VoxelBox.empty()
    edges = zip(np.array(box.lower) - 0.5, np.array(box.upper) - 0.5, strict=True)
    corners = np.array(list(itertools.product(*edges))) @ matrix[:3, :3].T + matrix[:3, 3]
    lower = np.floor(corners.min(axis=0)).astype(int)
    upper = np.ceil(corners.max(axis=0)).astype(int) + 1
    return VoxelBox(tuple(lower), tuple(upper))


def sampleNearest(source: np.ndarray, sourceBox: VoxelBox, matrix: np.ndarray, box: VoxelBox) -> np.ndarray:
    """`source` (bool, the content of `sourceBox`) at the voxels of `box`, nearest voxel, False outside.

    Args:
        matrix: (4, 4) from voxels of `box`'s grid to voxels of `sourceBox`'s grid.
    """
    out = np.zeros(box.shape_ijk[::-1], bool)
    if sourceBox.is_empty or box.is_empty:
        return out
    i = np.arange(box.lower[0], box.upper[0])[None, :]
    j = np.arange(box.lower[1], box.upper[1])[:, None]
    size = source.shape[::-1]
    for n, k in enumerate(range(box.lower[2], box.upper[2])):
        # One slice at a time keeps the coordinates in cache and the memory at three slices.
        at = [
            np.floor(matrix[a, 0] * i + matrix[a, 1] * j + matrix[a, 2] * k + matrix[a, 3] + 0.5).astype(int)
            - sourceBox.lower[a]
            for a in range(3)
        ]
        inside = np.logical_and.reduce([(c >= 0) & (c < s) for c, s in zip(at, size, strict=True)])
        out[n][inside] = source[at[2][inside], at[1][inside], at[0][inside]]
    return out
