"""Distances to a mask on its own grid."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

__all__ = ["signed_distance"]


def signed_distance(
    mask_kji: NDArray[np.bool_], spacing_ijk: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> NDArray[np.float32]:
    """Distance of each voxel to the mask's border, positive outside; exact (Maurer et al., IEEE TPAMI 2003).

    Args:
        mask_kji: indexed [k, j, i]; what lies beyond the array does not count.
        spacing_ijk: mm, the distances' unit; by default they are in voxels.

    Returns:
        float32: outside, to the nearest voxel of the mask; inside, minus that to the nearest of its own border voxels,
        which have zero.
    """
    image = sitk.GetImageFromArray(mask_kji.astype(np.uint8))
    image.SetSpacing([float(s) for s in spacing_ijk])
    distance = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    return np.asarray(sitk.GetArrayFromImage(distance), dtype=np.float32)
