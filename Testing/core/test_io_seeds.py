"""Masks to start from: memory that does not grow with the number of labels, and grids that are almost the scan's."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from FastSAM3DCore.io import mask_on_grid, seed_mask
from FastSAM3DCore.io.native import image_from_array
from FastSAM3DCore.types import Volume

SIZE = 160


def grid(degrees: float = 0.0, shift: float = 0.0) -> np.ndarray:
    """A grid turned about the scan's first voxel in the axial plane, and moved along R, in mm."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0, shift], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


@pytest.mark.parametrize(("labels", "budget"), [(5, 6.0), (120, 6.0)])
def test_one_label_of_many_is_taken_without_a_mask_of_each(labels: int, budget: float, tmp_path: Path) -> None:
    array = (np.arange(60 * SIZE * SIZE).reshape(60, SIZE, SIZE) // 999 % (labels + 1)).astype(np.uint8)
    path = tmp_path / "organs.nii.gz"
    sitk.WriteImage(image_from_array(array, grid()), str(path))
    tracemalloc.start()
    mask = seed_mask(path, Volume(array, grid()), "3")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(mask, array == 3)
    assert peak < budget * array.size


def test_a_tilt_of_half_a_degree_is_followed_and_a_header_rounded_to_float32_is_not() -> None:
    mask = np.zeros((6, SIZE, SIZE), np.uint8)
    mask[2:4, 140:150, 140:150] = 1
    scan = Volume(np.arange(mask.size, dtype=np.int32).reshape(mask.shape), grid())
    tilted = mask_on_grid(mask, grid(0.5), scan)
    middle = np.argwhere(tilted).mean(axis=0)[::-1]
    turned = grid(0.5)[:3, :3] @ np.array([144.5, 144.5, 2.5])
    assert np.abs(middle - turned).max() < 0.5
    rounded = grid(0.5, 0.1).astype(np.float32).astype(np.float64)
    oblique = Volume(scan.array_kji, grid(0.5, 0.1))
    assert np.array_equal(mask_on_grid(mask, rounded, oblique), mask)
