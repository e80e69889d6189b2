"""Which slice deserves a look: uncertainty summed over slices, near the mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["grown", "slice_doubt"]

NEAR = 2


def slice_doubt(uncertainty_kji: NDArray[np.float32], mask_kji: NDArray[np.bool_], axis: int) -> NDArray[np.float64]:
    """Summed uncertainty of each slice across a voxel axis (0 = i, 1 = j, 2 = k).

    The mask and `NEAR` voxels around it count, or everything without a mask. Over everything a prompt touched, the mild
    doubt of a wide background outweighs the border: rank correlation with the slice's wrong voxels .70 instead of .83,
    and .58 instead of .82 with calibrated probabilities (30 held-out structures, three masks and three axes each).

    Args:
        uncertainty_kji: 0 (sure) to 1 (undecided), indexed [k, j, i].
        mask_kji: of the same shape.
        axis: voxel axis.
    """
    doubt: NDArray[Any] = uncertainty_kji * grown(mask_kji, NEAR) if mask_kji.any() else uncertainty_kji
    return np.asarray(doubt.sum(axis=tuple(a for a in range(3) if a != 2 - axis), dtype=np.float64))


def grown(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """A mask and what lies within so many steps along the axes, one axis after the other."""
    out = mask.copy()
    for axis in range(3):
        for _ in range(reach):
            here = np.moveaxis(out, axis, 0)
            before = here.copy()
            here[1:] |= before[:-1]
            here[:-1] |= before[1:]
    return out
