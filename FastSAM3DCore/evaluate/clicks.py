"""The simulated user: where the next click goes.

Rule: the first click lies at the voxel deepest inside the structure; each next one at the deepest voxel of
the largest error component of the current mask, positive if that component was missed, negative if it is
extra. Deep means far, in mm, from the nearest voxel outside; the world beyond the scan is outside.
Components are connected through voxel faces, missed and extra ones apart. Ties: the larger component; missed
before extra; the component, and the voxel, that comes first in [k, j, i] order. No randomness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..distances import signed_distance
from ..io.native import array_from_image
from ..io.segmentation import mask_box
from ..types import VoxelBox

__all__ = ["Click", "deepest_voxel", "distance_inside", "next_click"]

Mask = NDArray[Any]
# Distances that differ by less count as equal, so that rounding does not decide between voxels.
TIE_MM = 1e-4


@dataclass(frozen=True, slots=True)
class Click:
    """A simulated click at a voxel."""

    point_ijk: tuple[int, int, int]
    positive: bool


def next_click(current_kji: Mask, truth_kji: Mask, spacing_ijk: tuple[float, float, float]) -> Click | None:
    """The click a user would place next; None if the mask is right.

    Args:
        current_kji: the mask so far, non-zero inside, indexed [k, j, i]; empty for the first click.
        truth_kji: the structure.
        spacing_ijk: voxel size in mm.
    """
    box = mask_box(current_kji).union(mask_box(truth_kji))
    current, truth = current_kji[box.slices_kji] != 0, truth_kji[box.slices_kji] != 0
    if not current.any() and truth.any():
        return Click(_shift(deepest_voxel(truth, spacing_ijk), box), True)
    missed, extra = _largest_component(truth & ~current), _largest_component(current & ~truth)
    positive = extra is None or (missed is not None and bool(missed.sum() >= extra.sum()))
    component = missed if positive else extra
    if component is None:
        return None
    return Click(_shift(deepest_voxel(component, spacing_ijk), box), positive)


def _shift(point: tuple[int, int, int], box: VoxelBox) -> tuple[int, int, int]:
    i, j, k = (p + l for p, l in zip(point, box.lower, strict=True))
    return (i, j, k)


def _largest_component(mask_kji: Mask) -> Mask | None:
    """The largest face-connected component, the first one in [k, j, i] order if several are as large."""
    box = mask_box(mask_kji)
    if box.is_empty:
        return None
    image = sitk.GetImageFromArray(mask_kji[box.slices_kji].astype(np.uint8))
    labels = array_from_image(sitk.ConnectedComponent(image, False))
    sizes = np.bincount(labels.reshape(-1))
    sizes[0] = 0
    largest = np.flatnonzero(sizes == sizes.max())
    if len(largest) > 1:  # ITK numbers components in scan order, but does not promise to
        first = [int(np.argmax(labels.reshape(-1) == label)) for label in largest]
        largest = largest[[int(np.argmin(first))]]
    component = np.zeros(mask_kji.shape, bool)
    component[box.slices_kji] = labels == largest[0]
    return component


def distance_inside(mask_kji: Mask, spacing_ijk: tuple[float, float, float]) -> NDArray[np.float32]:
    """Distance in mm of each voxel of a mask to the nearest voxel outside it; zero outside.

    The array's border counts as outside.
    """
    outside = np.pad(mask_kji == 0, 1, constant_values=True)
    return np.maximum(signed_distance(outside, spacing_ijk)[1:-1, 1:-1, 1:-1], 0)


def deepest_voxel(mask_kji: Mask, spacing_ijk: tuple[float, float, float]) -> tuple[int, int, int]:
    """(i, j, k) of the voxel of a mask that is farthest from everything outside it.

    Raises:
        ValueError: the mask is empty.
    """
    box = mask_box(mask_kji)
    if box.is_empty:
        raise ValueError("An empty mask has no deepest voxel.")
    depth = distance_inside(mask_kji[box.slices_kji], spacing_ijk)
    flat = int(np.argmax(depth >= depth.max() - TIE_MM))
    k, j, i = np.unravel_index(flat, depth.shape)
    return _shift((int(i), int(j), int(k)), box)
