"""The CVPR 2025 challenge's rule, by hand and against a plain re-telling of the organisers' procedure."""

from __future__ import annotations

import numpy as np
import pytest

from FastSAM3DCore.evaluate.challenge import challenge_click, challenge_surface, score_challenge
from FastSAM3DCore.evaluate.clicks import Click, next_click
from FastSAM3DCore.evaluate.metrics import dice, surface_dice
from FastSAM3DCore.evaluate.scoring import SessionMethod
from FastSAM3DCore.evaluate.summary import summarise
from Testing.core.fakes import FakeSession
from Testing.core.phantoms import ball_scan


def by_scipy(current: np.ndarray, truth: np.ndarray) -> Click:
    """Error, corners connect, largest component, depth in voxels, ties by the seed."""
    ndimage = pytest.importorskip("scipy.ndimage")
    errors, _ = ndimage.label(current != truth, np.ones((3, 3, 3)))
    sizes = np.bincount(errors.ravel())
    sizes[0] = 0
    depth = ndimage.distance_transform_edt(np.pad(errors == sizes.argmax(), 1))[1:-1, 1:-1, 1:-1]
    places = np.argwhere(depth == depth.max())
    np.random.seed(42)  # noqa: NPY002
    place = places[np.random.choice(len(places))]  # noqa: NPY002
    return Click((int(place[2]), int(place[1]), int(place[0])), bool(truth[tuple(place)]))


def test_clicks_equal_a_plain_retelling_of_the_rule_on_ragged_errors() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    for seed in range(25):
        random = np.random.default_rng(seed)
        truth, current = (ndimage.gaussian_filter(random.normal(size=(14, 22, 18)), 1.5) > 0.05 for _ in range(2))
        assert challenge_click(current, truth) == by_scipy(current, truth)


def test_missed_and_extra_voxels_that_touch_over_a_corner_are_one_error() -> None:
    truth, current = np.zeros((12, 20, 20), bool), np.zeros((12, 20, 20), bool)
    truth[1:6, 1:6, 1:6] = True  # 125 missed
    current[6:9, 6:9, 6:9] = True  # 27 extra, joined to them over one corner: 152 in all
    truth[1:6, 12:18, 1:6] = current[1:6, 12:18, 1:6] = True
    current[1:6, 13:17, 12:19] = True  # 140 extra, alone
    assert challenge_click(current, truth) == Click((3, 3, 3), True)
    assert next_click(current, truth, (1, 1, 1)) == Click((13, 14, 2), False)  # the project's own rule keeps them apart


def test_depth_is_counted_in_voxels_whatever_the_spacing() -> None:
    truth = np.zeros((20, 30, 30), bool)
    truth[2:5, 4:25, 4:25] = True  # 3 slices: 2 voxels deep
    truth[5:12, 4:11, 4:11] = True  # 4 voxels deep
    click = challenge_click(np.zeros_like(truth), truth)
    assert click is not None
    assert click.positive
    assert click.point_ijk[2] > 4


def test_a_right_mask_gets_no_click() -> None:
    truth = ball_scan()[1]
    assert challenge_click(truth, truth) is None


def test_the_surface_does_not_count_while_dice_is_a_fifth_or_less() -> None:
    truth, thin = np.zeros((20, 20, 20), bool), np.zeros((20, 20, 20), bool)
    truth[5:14, 5:14, 5:14] = True
    thin[5:14, 5:14, 5:6] = True  # Dice 2 * 81 / (729 + 81) = 0.2 exactly
    assert dice(thin, truth) == pytest.approx(0.2)
    assert surface_dice(thin, truth, (1, 1, 1)) > 0.4
    assert challenge_surface(thin, truth, (1, 1, 1)) == 0
    thin[5:14, 5:14, 5:7] = True
    assert challenge_surface(thin, truth, (1, 1, 1)) == surface_dice(thin, truth, (1, 1, 1))


class Scripted(SessionMethod):
    """Answers the box and each click with the next of some given masks."""

    def __init__(self, masks: list[np.ndarray]) -> None:
        super().__init__(FakeSession(), ball_scan()[0])
        self.masks = iter(masks)
        self.clicks: list[Click] = []

    def add(self, click: Click) -> np.ndarray:
        self.clicks.append(click)
        return next(self.masks)

    def add_box_of(self, truth_kji: np.ndarray) -> np.ndarray:
        return next(self.masks)


def test_areas_run_over_the_five_clicks_without_the_box() -> None:
    truth = np.zeros((12, 12, 12), bool)
    truth[1:11, 1:11, 1:11] = True

    def part(layers: int) -> np.ndarray:
        mask = np.zeros_like(truth)
        mask[1 : 1 + layers, 1:11, 1:11] = True
        return mask

    masks = [part(n) for n in (1, 2, 4, 6, 8, 10)]
    method = Scripted(masks)
    scores = score_challenge(method, truth, (1, 1, 1))
    steps = [2 * n / (n + 10) for n in (1, 2, 4, 6, 8, 10)]
    assert [scores["dice"][str(n)] for n in range(6)] == pytest.approx(steps, abs=1e-4)
    assert scores["dice_auc"] == pytest.approx((steps[1] + steps[5]) / 2 + sum(steps[2:5]), abs=1e-3)
    assert scores["dice_final"] == 1
    assert scores["nsd"]["0"] == 0  # Dice .18
    assert [click.positive for click in method.clicks] == [True] * 5


def test_a_perfect_mask_is_not_clicked_and_scores_the_most_there_is() -> None:
    truth = ball_scan()[1]
    method = Scripted([truth])
    scores = score_challenge(method, truth, (1, 1, 1))
    assert method.clicks == []
    assert (scores["dice_auc"], scores["nsd_auc"], scores["dice_auc_normalised"]) == (4, 4, 1)


def test_the_challenge_averages_structures_within_a_scan_before_it_averages_scans() -> None:
    def row(case: str, value: float) -> dict[str, object]:
        names = ("dice_final", "nsd_final", "dice_auc", "nsd_auc", "dice_auc_normalised", "nsd_auc_normalised")
        about = {"case": case, "group": "g", "dice": {"0": value}, "nsd": {"0": value}}
        return about | {"dice_per_click": [value], "seconds": []} | dict.fromkeys(names, value)

    mean = summarise([row("a", 0.2), row("a", 0.4), row("a", 0.6), row("b", 0.8)])["mean"]
    assert mean["dice_final"] == pytest.approx(0.5)
    assert mean["by_case"]["dice_final"] == pytest.approx(0.6)
