"""What is near a click belongs to it rather than what is far, unless the mask is no ball."""

import numpy as np
import pytest
import torch

from FastSAM3DCore.engine import Engine
from FastSAM3DCore.session import LocalSession
from FastSAM3DCore.session.nearness import LAST, REACH, WEIGHT, nearness
from FastSAM3DCore.session.proposals import SMALL_SCAN_NEARNESS
from Testing.core.phantoms import ball_scan
from Testing.core.toy_model import ToyModel

MIDDLE = np.array([[31.5, 31.5, 31.5]])
EVEN = torch.zeros(64, 64, 64)
GRIDS = torch.meshgrid(*[torch.arange(64) - 31.5] * 3, indexing="ij")


def ball(radius: float, x: float = 0.0) -> torch.Tensor:
    """Logits of a ball whose centre is `x` voxels off the middle along the first axis."""
    away = ((GRIDS[0] - x) ** 2 + GRIDS[1] ** 2 + GRIDS[2] ** 2).sqrt()
    return torch.where(away <= radius, 3.0, -3.0)


def test_it_falls_from_the_click_to_zero_beyond_the_masks_radius() -> None:
    prior = nearness(EVEN, MIDDLE, ball(14), 1)
    line = prior[32:, 32, 32]
    assert 0.7 * WEIGHT < line[0] <= WEIGHT
    assert bool((line.diff() <= 1e-6).all())
    assert line[14] > 0 > line[int(14 * REACH * 1.4)]
    assert line.min() >= -WEIGHT


def test_a_mask_off_the_click_loses_its_far_end_and_gains_around_the_click() -> None:
    logits = ball(14, x=12.0)
    prior = nearness(EVEN, MIDDLE, logits, 1)
    assert prior[31 + 12 + 13, 32, 32] < 0 < prior[31 - 8, 32, 32]


@pytest.mark.parametrize("count", [2, 4])
def test_every_further_prompt_makes_it_weaker(count: int) -> None:
    once = nearness(EVEN, MIDDLE, ball(14), 1)
    torch.testing.assert_close(nearness(EVEN, MIDDLE, ball(14), count), once / count**2)


def test_later_prompts_go_without_it() -> None:
    assert nearness(EVEN, MIDDLE, ball(14), LAST).any()
    assert not nearness(EVEN, MIDDLE, ball(14), LAST + 1).any()


def test_a_tube_is_left_alone() -> None:
    tube = torch.where((GRIDS[1].abs() < 3) & (GRIDS[2].abs() < 3), 3.0, -3.0)
    assert not nearness(EVEN, MIDDLE, tube, 1).any()


def test_along_a_tube_that_the_image_shows_there_is_more_of_it() -> None:
    """The distance is long across an edge: a thick tube is like a ball of geodesic distances."""
    tube = (GRIDS[1].abs() < 6) & (GRIDS[2].abs() < 6) & (GRIDS[0].abs() < 20)
    logits = torch.where(tube, 3.0, -3.0)
    seen = nearness(tube.float(), MIDDLE, logits, 1)
    unseen = nearness(EVEN, MIDDLE, logits, 1)
    assert seen[32, 32, 32] > unseen[32, 32, 32]
    assert seen[48, 32, 32] > 0 > seen[32, 32, 48]  # as far in voxels, but outside


def test_without_points_or_mask_nothing_is_added() -> None:
    assert not nearness(EVEN, np.zeros((0, 3)), ball(14), 1).any()
    assert not nearness(EVEN, MIDDLE, torch.full((64, 64, 64), -3.0), 1).any()


def test_coarse_masks_and_crops_of_any_shape_will_do() -> None:
    image = torch.randn(64, 32, 48, generator=torch.Generator().manual_seed(3))
    logits = torch.full((16, 8, 12), -2.0)
    logits[5:11, 2:6, 3:9] = 2.0
    prior = nearness(image, np.array([[32.0, 16.0, 24.0], [500.0, -3.0, 24.0]]), logits, 1)
    assert prior.shape == logits.shape
    assert bool(prior.isfinite().all())
    assert bool(prior.any())


@pytest.mark.parametrize("edited", [False, True])
def test_a_hand_edit_says_more(edited: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        "FastSAM3DCore.session.proposals.nearness", lambda *given: asked.append(given[3]) or torch.zeros(())
    )
    volume, _ = ball_scan(np.eye(4), shape_ijk=(80, 80, 80), centre_ijk=(40, 40, 40), radius_mm=30)
    session = LocalSession(Engine(ToyModel(64), torch.device("cpu")))
    session.set_image(volume)
    if edited:
        session.set_mask(np.zeros((80, 80, 80), np.uint8))
    session.add_point((40, 40, 40))
    session.add_point((72, 40, 40), positive=False)
    assert asked == ([] if edited else [1, 2])


@pytest.mark.parametrize(("side", "weight"), [(50, SMALL_SCAN_NEARNESS), (80, WEIGHT)])
def test_it_counts_for_more_where_no_other_look_tells_the_size(
    side: int, weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        "FastSAM3DCore.session.proposals.nearness", lambda *given: asked.append(given[4]) or torch.zeros(())
    )
    middle = (side // 2,) * 3
    volume, _ = ball_scan(np.eye(4), shape_ijk=(side,) * 3, centre_ijk=middle, radius_mm=12)
    session = LocalSession(Engine(ToyModel(64), torch.device("cpu")))
    session.set_image(volume)
    session.add_point(middle)
    assert asked == [weight]


def test_the_weight_scales_it() -> None:
    torch.testing.assert_close(
        nearness(EVEN, MIDDLE, ball(14), 1, 9.0), 9 / WEIGHT * nearness(EVEN, MIDDLE, ball(14), 1)
    )
