"""A synthetic scan with known structures: what the page's tests click on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

__all__ = ["Ball", "Phantom", "dice", "make_phantom"]


@dataclass(frozen=True)
class Ball:
    """A round structure: centre in RAS mm, radius in mm, mean grey value."""

    center_ras: tuple[float, float, float]
    radius: float
    value: float


@dataclass(frozen=True)
class Phantom:
    """A scan on disk and what is in it.

    Attributes:
        array_kji: voxels.
        affine: ijk to RAS, mm.
        path: the NIfTI file.
        balls: the structures; labels(n) gives the voxels of one.
    """

    array_kji: np.ndarray
    affine: np.ndarray
    path: Path
    balls: tuple[Ball, ...]

    def label(self, index: int) -> np.ndarray:
        """bool [k, j, i] of one structure."""
        return inside(self.balls[index], self.array_kji.shape, self.affine)

    @property
    def center_ras(self) -> np.ndarray:
        shape = np.array(self.array_kji.shape[::-1])
        return self.affine[:3, :3] @ ((shape - 1) / 2) + self.affine[:3, 3]


def inside(ball: Ball, shape_kji: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Voxels whose centre is in the ball, bool [k, j, i]."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in shape_kji), indexing="ij")
    ras = np.stack([i, j, k], axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    return ((ras - np.array(ball.center_ras)) ** 2).sum(axis=-1) <= ball.radius**2


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of two masks, 0 to 1."""
    return 2 * np.logical_and(a, b).sum() / (a.sum() + b.sum())


# A radius of 12.5 voxels of 1.5 mm is exactly what the fake session answers to a click in the middle.
BALLS = (
    Ball((30.0, 12.0, 6.0), 18.75, 210.0),
    Ball((-36.0, -15.0, -9.0), 18.75, 160.0),
    Ball((-30.0, 45.0, 18.0), 12.0, 190.0),
)


def make_phantom(
    path: Path, shape_kji: tuple[int, int, int] = (81, 113, 97), spacing: float = 1.5, scale: float = 1.0
) -> Phantom:
    """Write a noisy body with three balls to `path`; the first axis runs to the left, as in most scans."""
    rng = np.random.default_rng(7)
    affine = np.diag([-spacing, -spacing, spacing, 1.0])
    shape = np.array(shape_kji[::-1])
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    balls = tuple(Ball(tuple(scale * c for c in b.center_ras), scale * b.radius, b.value) for b in BALLS)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape_kji), indexing="ij")
    body = (i / 0.92) ** 2 + (j / 0.95) ** 2 + (k / 1.6) ** 2 < 1
    array = np.where(body, 90.0, 8.0)
    for ball in balls:
        array[inside(ball, shape_kji, affine)] = ball.value
    array = np.clip(array + rng.normal(0, 7, shape_kji), 0, 255).astype(np.int16)
    image = sitk.GetImageFromArray(array)
    lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :3] / spacing
    image.SetDirection(lps.ravel())
    image.SetSpacing([spacing] * 3)
    image.SetOrigin((np.diag([-1.0, -1.0, 1.0]) @ affine[:3, 3]).tolist())
    sitk.WriteImage(image, str(path))
    return Phantom(array, affine, path, balls)
