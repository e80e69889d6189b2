"""The inside of a flat contour that follows no voxel axis, as one path from voxel to voxel."""

from __future__ import annotations

import numpy as np


def insidePath(contourIjk: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """A walk over the voxels inside a flat contour, each step to a neighbour, so that it never leaves the inside.

    Args:
        contourIjk: (N, 3) voxel coordinates of a closed contour in any plane.
        shape: voxels of the scan along i, j, k; what lies outside is left away.

    Returns:
        (M, 3) voxel coordinates; empty if no sample of a one-voxel raster lies inside.
    """
    center = contourIjk.mean(axis=0)
    u, v = np.linalg.svd(contourIjk - center, full_matrices=False)[2][:2]
    flat = (contourIjk - center) @ np.stack([u, v], axis=1)
    low, high = np.floor(flat.min(axis=0)), np.ceil(flat.max(axis=0))
    a, b = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1), indexing="ij")
    inside = evenOdd(flat, a, b)
    ijk = center + a[..., None] * u + b[..., None] * v
    inside &= ((np.rint(ijk) >= 0) & (np.rint(ijk) < shape)).all(axis=-1)
    return ijk[tuple(np.array(walk(inside), dtype=int).reshape(-1, 2).T)]


def evenOdd(polygon: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which of the points (a, b) are inside a polygon (N, 2), by the even-odd rule."""
    inside = np.zeros(a.shape, bool)
    for (a0, b0), (a1, b1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if b0 != b1:
            crosses = (b0 > b) != (b1 > b)
            inside ^= crosses & (a < (a1 - a0) * (b - b0) / (b1 - b0) + a0)
    return inside


def walk(inside: np.ndarray) -> list[tuple[int, int]]:
    """Visit the largest reachable part of a 2D mask, neighbour by neighbour, returning over known ground."""
    left = {(int(x), int(y)) for x, y in np.argwhere(inside)}
    best: list[tuple[int, int]] = []
    while left:
        start = min(left)
        left.remove(start)
        path, stack, seen = [start], [start], 1
        while stack:
            x, y = stack[-1]
            following = next((n for n in ((x, y + 1), (x + 1, y), (x, y - 1), (x - 1, y)) if n in left), None)
            if following is None:
                stack.pop()
                if stack:
                    path.append(stack[-1])
                continue
            left.remove(following)
            seen += 1
            stack.append(following)
            path.append(following)
        if seen > len(set(best)):
            best = path
    return best
