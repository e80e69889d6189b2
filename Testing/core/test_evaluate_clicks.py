"""The simulated user, the scores and the baselines, against independent computations and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from FastSAM3DCore.evaluate.baselines import BASELINES
from FastSAM3DCore.evaluate.cases import group_of
from FastSAM3DCore.evaluate.clicks import Click, deepest_voxel, distance_inside, next_click
from FastSAM3DCore.evaluate.metrics import auc, dice, surface_dice
from FastSAM3DCore.types import Volume
from Testing.core.phantoms import ball_scan, orientations

SPACING = (0.7, 1.3, 3.1)


def blobs(seed: int, shape: tuple[int, int, int] = (12, 25, 20)) -> np.ndarray:
    ndimage = pytest.importorskip("scipy.ndimage")
    noise = np.random.default_rng(seed).normal(size=shape)
    return np.asarray(ndimage.gaussian_filter(noise, 2) > 0.02)


def test_depth_equals_scipys_exact_distance_with_the_scans_border_as_outside() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    for seed in range(20):
        mask = blobs(seed)
        exact = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=SPACING[::-1])[1:-1, 1:-1, 1:-1]
        assert np.allclose(distance_inside(mask, SPACING), exact, atol=1e-4)


def test_the_deepest_voxel_is_measured_in_mm_not_voxels() -> None:
    mask = np.zeros((30, 30, 30), bool)
    mask[2:7, 2:7, 2:7] = True  # 5 voxels, 2.5 along k from the border: 3 voxels deep everywhere
    mask[10:13, 10:25, 10:25] = True  # 3 slices thick: 2 voxels deep along k
    assert deepest_voxel(mask, (1, 1, 1)) == (4, 4, 4)
    assert deepest_voxel(mask, (1, 1, 5))[2] == 11  # slices of 5 mm: now 7 mm of 8 along i and j count


def test_of_equally_deep_voxels_the_first_in_kji_order_is_clicked() -> None:
    mask = np.zeros((9, 20, 20), bool)
    mask[3:6, 3:6, 3:18] = True
    assert deepest_voxel(mask, (1, 1, 1)) == (4, 4, 4)


def test_the_first_click_is_deep_inside_even_beside_a_larger_arm() -> None:
    truth = np.zeros((20, 40, 40), bool)
    truth[5:14, 5:14, 5:14] = True
    truth[9, 9, 14:39] = True
    assert next_click(np.zeros_like(truth), truth, (1, 1, 1)) == Click((9, 9, 9), True)


def test_the_next_click_goes_to_the_largest_error_and_says_whether_it_is_missed_or_extra() -> None:
    truth = np.zeros((20, 40, 40), bool)
    truth[2:9, 2:9, 2:9] = True
    mask = truth.copy()
    mask[2:9, 2:9, 6:9] = False  # 147 voxels missed, three wide: the middle layer's first deep voxel
    mask[12:17, 12:17, 12:17] = True  # 125 extra
    mask[12:17, 30:35, 30:34] = True  # 100 extra, elsewhere
    assert next_click(mask, truth, (1, 1, 1)) == Click((7, 3, 3), True)
    mask[12:17, 12:17, 12:19] = True  # 175 extra
    assert next_click(mask, truth, (1, 1, 1)) == Click((14, 14, 14), False)
    assert next_click(truth, truth, (1, 1, 1)) is None


def test_missed_and_extra_voxels_that_touch_are_two_components_and_corners_do_not_connect() -> None:
    truth, mask = np.zeros((9, 20, 20), bool), np.zeros((9, 20, 20), bool)
    truth[4, 4, 2:10], mask[4, 4, 6:16] = True, True  # 4 missed, 4 right, 6 extra
    assert next_click(mask, truth, (1, 1, 1)) == Click((10, 4, 4), False)
    truth[:], mask[:] = False, False
    truth[4, 4, 4:7], truth[4, 5, 7:9] = True, True  # joined only over an edge: 3 and 2 voxels
    mask[0, 0, 0] = True
    assert next_click(mask, truth, (1, 1, 1)) == Click((4, 4, 4), True)


def test_surface_dice_equals_an_independent_computation() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    for seed in range(10):
        one, two = blobs(seed), blobs(seed + 100)
        first, second = one & ~ndimage.binary_erosion(one), two & ~ndimage.binary_erosion(two)
        to_first = ndimage.distance_transform_edt(~first, sampling=SPACING[::-1])
        to_second = ndimage.distance_transform_edt(~second, sampling=SPACING[::-1])
        near = (to_second[first] <= 2).sum() + (to_first[second] <= 2).sum()
        assert surface_dice(one, two, SPACING) == pytest.approx(near / (first.sum() + second.sum()))


def test_scores_of_special_cases() -> None:
    empty, full = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    half = full.copy()
    half[:2] = False
    assert (dice(empty, empty), dice(empty, full), dice(full, half)) == (1, 0, pytest.approx(2 / 3))
    assert (surface_dice(empty, empty, SPACING), surface_dice(empty, full, SPACING)) == (1, 0)
    shifted = np.roll(np.pad(half, 9), 3, axis=2)
    assert surface_dice(np.pad(half, 9), shifted, (0.6, 1, 1)) == 1  # 1.8 mm apart everywhere
    assert surface_dice(np.pad(half, 9), shifted, (5, 1, 1)) < 0.5


def test_auc_is_the_trapezoid_over_clicks() -> None:
    assert auc([0.5, 0.5, 0.5, 0.5, 0.5]) == pytest.approx(0.5)
    assert auc([0, 1]) == pytest.approx(0.5)
    assert auc([0.2, 0.4, 0.8]) == pytest.approx((0.3 + 0.6) / 2)


@pytest.mark.parametrize(
    ("case", "group"),
    [
        ("ct_sarcoma_001", "ct_sarcoma"),
        ("mr_t1_sarcoma_002", "mr_t1_sarcoma"),
        ("mr_cine_hf-i-01_ph07", "mr_cine"),
        ("mr_hippocampus_001", "mr_hippocampus"),
        ("mr_ms_p07_flair", "mr_ms"),
        ("ct_abdomen_ts3mm", "ct_abdomen"),
        ("mr_cit168_deep_nuclei", "mr_cit168_deep_nuclei"),
        ("patient7", "patient7"),
    ],
)
def test_cases_are_grouped_by_the_beginning_of_their_names(case: str, group: str) -> None:
    assert group_of(case) == group


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_finds_a_plain_ball_in_any_orientation(name: str) -> None:
    for affine in (np.eye(4), orientations()[17], orientations()[40]):
        scan, truth = ball_scan(affine)
        method, mask = BASELINES[name](scan), np.zeros_like(truth)
        for _ in range(3):
            click = next_click(mask, truth, scan.spacing_ijk)
            if click is not None:
                mask = method.add(click)
        assert dice(mask, truth) > 0.8


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_answers_a_negative_click_and_never_changes_its_mind(name: str) -> None:
    scan, truth = ball_scan()
    lifted = Volume(np.where(truth | np.roll(truth, 14, axis=2), 200, scan.array_kji), scan.ijk_to_ras)
    clicks = [Click((26, 24, 17), True), Click((42, 24, 17), False)]
    masks = []
    for _ in range(2):
        method = BASELINES[name](lifted)
        masks.append([method.add(click) for click in clicks])
    assert masks[0][1][17, 24, 26]
    assert not masks[0][1][17, 24, 42]
    assert all(np.array_equal(a, b) for a, b in zip(*masks, strict=True))


def test_a_baseline_on_a_large_scan_works_coarsely_around_the_click() -> None:
    grey = np.zeros((60, 200, 200), np.int16)
    grey[20:50, 60:150, 60:150] = 300
    grey += np.random.default_rng(0).integers(0, 20, grey.shape).astype(np.int16)
    mask = BASELINES["geodesic"](Volume(grey)).add(Click((100, 100, 35), True))
    assert dice(mask, grey > 150) > 0.9
