"""Voxels of lassos: how many corners, how thin, how far beyond the scan."""

from __future__ import annotations

import numpy as np
import pytest

from FastSAM3DCore.prompts import IJK
from FastSAM3DCore.session.shapes import polygon_mask, polygon_points

SHAPE = (64, 60, 9)


def star(corners: int, radius: float) -> tuple[IJK, ...]:
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    reach = radius * (1 + 0.3 * np.sin(5 * angle))
    return tuple((30.3 + r * np.cos(a), 29.6 + r * np.sin(a), 4.0) for r, a in zip(reach, angle, strict=True))


def crossings(polygon: tuple[IJK, ...], i: int, j: int) -> int:
    """Edges that a ray from a voxel along +i crosses."""
    found = 0
    for (ai, aj, _), (bi, bj, _) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        found += (aj <= j) != (bj <= j) and i < ai + (j - aj) * (bi - ai) / (bj - aj)
    return found


@pytest.mark.parametrize(("corners", "radius"), [(5, 12.0), (200, 20.0), (77, 45.0)])
def test_a_voxel_is_inside_a_lasso_by_the_even_odd_rule(corners: int, radius: float) -> None:
    polygon = star(corners, radius)
    box, flags = polygon_mask(np.array(polygon), SHAPE)
    whole = np.zeros(SHAPE[::-1], dtype=bool)
    whole[box.slices_kji] = flags
    expected = [[crossings(polygon, i, j) % 2 == 1 for i in range(SHAPE[0])] for j in range(SHAPE[1])]
    assert np.array_equal(whole[4], expected)
    assert int(whole.sum()) == int(flags.sum())


def test_points_of_a_lasso_are_distinct_and_inside_and_worked_out_once() -> None:
    polygon = star(300, 20.0)
    points = polygon_points(polygon, SHAPE, 12)
    assert len(np.unique(points, axis=0)) == 12
    assert all(crossings(polygon, i, j) % 2 for i, j, _ in points)
    assert np.abs(points[0] - (30.3, 29.6, 4.0)).max() < 1.5
    assert polygon_points(polygon, SHAPE, 12) is points


def test_a_lasso_of_one_row_and_one_far_beyond_the_scan_have_points_in_the_scan() -> None:
    thin = ((3.0, 7.6, 2.0), (20.0, 7.6, 2.0), (20.0, 8.4, 2.0), (3.0, 8.4, 2.0))
    assert len(np.unique(polygon_points(thin, SHAPE, 12), axis=0)) == 12
    wide = tuple((float(i), float(j), 4.0) for i, j in ((-1e6, -1e6), (1e6, -1e6), (1e6, 1e6), (-1e6, 1e6)))
    points = polygon_points(wide, SHAPE, 12)
    assert bool(((points >= 0) & (points < SHAPE)).all())
