"""A scan the size of a real one, made on the spot: an abdomen of ellipsoids with CT-like values and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import Volume

__all__ = ["Organ", "abdomen"]


@dataclass(frozen=True, slots=True)
class Organ:
    """An ellipsoid in fractions of the scan's extent along i, j, k, and its CT value in Hounsfield units."""

    name: str
    centre: tuple[float, float, float]
    radius: tuple[float, float, float]
    value: int


# Later ones lie on top of earlier ones.
ORGANS = (
    Organ("body", (0.5, 0.5, 0.5), (0.42, 0.30, 9.0), -90),
    Organ("muscle", (0.5, 0.5, 0.5), (0.38, 0.26, 9.0), 55),
    Organ("fat inside", (0.5, 0.46, 0.45), (0.33, 0.20, 0.9), -100),
    Organ("right lung", (0.33, 0.47, 1.0), (0.13, 0.17, 0.28), -820),
    Organ("left lung", (0.67, 0.47, 1.0), (0.13, 0.17, 0.28), -820),
    Organ("liver", (0.35, 0.45, 0.62), (0.17, 0.15, 0.17), 110),
    Organ("spleen", (0.72, 0.54, 0.62), (0.07, 0.08, 0.09), 120),
    Organ("right kidney", (0.37, 0.62, 0.40), (0.045, 0.055, 0.10), 190),
    Organ("left kidney", (0.63, 0.62, 0.43), (0.045, 0.055, 0.10), 190),
    Organ("aorta", (0.52, 0.60, 0.5), (0.022, 0.022, 9.0), 260),
    Organ("vertebrae", (0.5, 0.69, 0.5), (0.05, 0.045, 9.0), 300),
)
NOISE_HU = 18.0


def abdomen(shape_ijk: tuple[int, int, int] = (512, 512, 400), spacing_mm: float = 0.8) -> tuple[Volume, Organ]:
    """A scan and the organ in it that is meant to be clicked.

    Args:
        shape_ijk: voxels along i, j, k.
        spacing_mm: voxel size along all axes; the scan's axes are LPS as those of most CT.

    Returns:
        int16 volume in Hounsfield units, and the right kidney.
    """
    i, j = (((np.arange(n) + 0.5) / n).astype(np.float32) for n in shape_ijk[:2])
    generator = np.random.default_rng(0)
    # One slice of noise, shifted differently in every slice: fresh noise would take longer than all the rest.
    noise = generator.normal(0, NOISE_HU, (shape_ijk[1], shape_ijk[0])).astype(np.int16)
    offsets = generator.integers(0, min(shape_ijk[:2]), (shape_ijk[2], 2))
    array = np.empty(shape_ijk[::-1], dtype=np.int16)
    flat = [_in_plane(organ, i, j) for organ in ORGANS]
    for k in range(shape_ijk[2]):
        plane = array[k]
        plane[...] = -1000
        for organ, (window, distance) in zip(ORGANS, flat, strict=True):
            height = ((k + 0.5) / shape_ijk[2] - organ.centre[2]) / organ.radius[2]
            if abs(height) < 1:
                np.putmask(plane[window], distance < 1 - height**2, organ.value)
        plane += np.roll(noise, tuple(offsets[k]), axis=(0, 1))
    affine = np.diag([-spacing_mm, -spacing_mm, spacing_mm, 1.0])
    return Volume(array, affine), next(organ for organ in ORGANS if organ.name == "right kidney")


def _in_plane(
    organ: Organ, i: NDArray[np.float32], j: NDArray[np.float32]
) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
    """Rows and columns that an organ can cover, and there the squared distance from its axis in units of its radii."""
    x = np.square((i - organ.centre[0]) / organ.radius[0])
    y = np.square((j - organ.centre[1]) / organ.radius[1])
    rows, columns = (_extent(values < 1) for values in (y, x))
    return (rows, columns), np.asarray(x[None, columns] + y[rows, None], dtype=np.float32)


def _extent(flags: NDArray[np.bool_]) -> slice:
    """From the first to the last true value; empty if there is none."""
    found = np.flatnonzero(flags)
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0)
