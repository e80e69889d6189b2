"""Which voxel values can be worked with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ImageError

__all__ = ["check_voxels"]

# No scanner's grey value: beside -FLT_MAX or 1e20, which mark voxels without one, a scan's contrast is nothing, and
# masks come out wrong without a word. Whole numbers of 32 bits stay below.
LARGEST = 1e10


def check_voxels(array_kji: NDArray[Any], name: str = "The scan") -> None:
    """Refuse voxel values with which nothing can be segmented.

    Raises:
        ImageError: NaN or infinite voxels, numbers beyond `LARGEST`, or one value everywhere.
    """
    first, varies = array_kji[0, 0, 0], False
    small = array_kji.dtype.kind != "f" and array_kji.dtype.itemsize <= 4
    for plane in array_kji:  # slice by slice: flags of a whole volume would cost a byte per voxel
        varies = varies or bool((plane != first).any())
        if small and varies:
            return
        ends = np.array([plane.min(), plane.max()], dtype=np.float64)  # NaN and infinity show in these two
        if not np.isfinite(ends).all():
            raise ImageError(f"{name} holds NaN or infinite voxels; replace them (for example by 0) and load it again.")
        if np.abs(ends).max() > LARGEST:
            mark = ends[np.abs(ends).argmax()]
            raise ImageError(
                f"{name} holds voxels of {mark:g}, which must be a mark for 'no value'; replace them (for example by "
                "the lowest real value) and load it again."
            )
    if not varies:
        raise ImageError(f"{name} has the same value ({first:g}) in every voxel; there is nothing to segment.")
