"""Small scans with a known structure, on awkward grids."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from FastSAM3DCore.types import Volume

OBLIQUE = np.array([[0.8, -0.5, 0.1, -20.0], [0.6, 0.7, -0.3, 35.0], [0.1, 0.4, 2.2, -7.0], [0, 0, 0, 1]])
"""Roughly axial, rotated about two axes; orthogonalised below with spacing 1.0, 0.9, 2.2."""

_q, _ = np.linalg.qr(OBLIQUE[:3, :3])
_q *= np.sign(np.diag(_q.T @ OBLIQUE[:3, :3]))
OBLIQUE[:3, :3] = _q * (1.0, 0.9, 2.2)


def orientations() -> list[NDArray[np.float64]]:
    """All 48 axis permutations and flips, with spacing 1.2, 0.7, 2.0 along i, j, k."""
    affines = []
    for axes in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            affine = np.eye(4)
            affine[:3, :3] = np.eye(3)[:, axes] * np.array(signs) * (1.2, 0.7, 2.0)
            affine[:3, 3] = (11.0, -7.0, 3.0)
            affines.append(affine)
    return affines


def ball_scan(
    affine: NDArray[np.float64] | None = None,
    shape_ijk: tuple[int, int, int] = (48, 56, 36),
    centre_ijk: tuple[float, float, float] = (26, 24, 17),
    radius_mm: float = 12.0,
    dtype: type = np.int16,
) -> tuple[Volume, NDArray[np.bool_]]:
    """A bright ball in a dark, slightly noisy background; returns the scan and the ball's mask [k, j, i]."""
    affine = np.diag([1.0, 1.0, 1.0, 1.0]) if affine is None else affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    i, j, k = np.meshgrid(*(np.arange(n) for n in shape_ijk), indexing="ij")
    distance = sum(((axis - c) * s) ** 2 for axis, c, s in zip((i, j, k), centre_ijk, spacing, strict=True))
    mask = (distance <= radius_mm**2).transpose(2, 1, 0)
    noise = np.random.default_rng(0).normal(0, 3, mask.shape)
    return Volume((np.where(mask, 200, 20) + noise).astype(dtype), affine), mask


def dice(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Dice of two masks; 1 if both are empty."""
    a, b = np.asarray(a) != 0, np.asarray(b) != 0
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2.0 * int((a & b).sum()) / total
