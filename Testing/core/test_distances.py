"""Distances to a mask against distances measured voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest

from FastSAM3DCore.distances import signed_distance


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.0, 2.5)])
def test_outside_it_is_the_nearest_voxel_and_inside_the_nearest_border_voxel(spacing):
    mask = np.zeros((6, 7, 8), bool)
    mask[1:5, 2:6, 1:5] = True
    inner = np.zeros_like(mask)
    inner[2:4, 3:5, 2:4] = True
    places = np.argwhere(np.ones_like(mask)) * np.array(spacing[::-1])

    def nearest(voxels: np.ndarray) -> np.ndarray:
        targets = np.argwhere(voxels) * np.array(spacing[::-1])
        return np.linalg.norm(places[:, None] - targets, axis=2).min(axis=1).reshape(mask.shape)

    expected = np.where(mask, -nearest(mask & ~inner), nearest(mask))
    assert np.allclose(signed_distance(mask, spacing), expected, atol=1e-4)


def test_without_a_spacing_distances_are_in_voxels():
    mask = np.zeros((3, 3, 9), bool)
    mask[1, 1, 0] = True
    assert signed_distance(mask)[1, 1].tolist() == list(range(9))
