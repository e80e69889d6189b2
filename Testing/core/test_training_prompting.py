"""Training: the targets that are asked for, and the prompts of a dialogue."""

from __future__ import annotations

import pytest
import torch

from FastSAM3DCore.training.data.draw import Draw
from FastSAM3DCore.training.data.targets import choose_targets
from FastSAM3DCore.training.prompting import corrective_clicks, first_prompts

pytestmark = pytest.mark.usefixtures("one_thread")


def blocks(n: int) -> torch.Tensor:
    targets = torch.zeros(n, 16, 16, 16, dtype=torch.bool)
    targets[:, 4:12, 5:10, 3:14] = True
    return targets


def test_first_prompts_lie_on_or_near_their_target_and_come_in_all_kinds():
    targets = blocks(200)
    dialogue = first_prompts(Draw(0, 0), targets, box_share=0.35, mask_share=0.15)
    boxed = dialogue.boxes.isfinite().all(-1).all(-1)
    masked = ~dialogue.mask[:, 0, 0, 0, 0].isnan()
    assert 40 < int(boxed.sum()) < 100
    assert 15 < int(masked.sum()) < 50
    assert not bool((boxed & masked).any())
    assert int((dialogue.labels == 1).sum(1).max()) > 1  # scribbles
    lower, upper = dialogue.boxes[boxed].unbind(1)
    assert bool((upper > lower).all())
    thin = (upper - lower).amin(1) == 1
    assert 0 < int(thin.sum()) < int(boxed.sum())
    clicked = dialogue.labels[:, 0] == 1
    inside = targets[torch.arange(200), *dialogue.points[:, 0].round().long().T][clicked]
    assert float(inside.float().mean()) > 0.85
    middle = torch.tensor([8.0, 7.5, 8.5])
    assert float(((dialogue.points[:, 0] - middle)[clicked].abs().amax(1) <= 1.5).float().mean()) > 0.3  # of 8 x 5 x 11
    assert bool(dialogue.plain_click.any())
    assert not bool((dialogue.plain_click & (boxed | masked)).any())


def test_rough_masks_take_in_another_target_of_their_crop_and_the_click_says_so():
    targets = torch.zeros(64, 16, 16, 16, dtype=torch.bool)
    targets[0::2, 2:6, 4:12, 4:12] = True
    targets[1::2, 8:14, 4:12, 4:12] = True
    alone = first_prompts(Draw(0, 0), targets, box_share=0.0, mask_share=1.0)
    paired = first_prompts(Draw(0, 0), targets, box_share=0.0, mask_share=1.0, per_crop=2)

    def taken_in(mask: torch.Tensor) -> torch.Tensor:
        others = targets[torch.arange(64) ^ 1]
        return ((mask[:, 0] > 0) & others).flatten(1).sum(1) > 0.5 * others.flatten(1).sum(1)

    assert not bool(taken_in(alone.mask).any())
    joined = taken_in(paired.mask)
    assert 8 <= int(joined.sum()) <= 28  # half of the masks, and the other target is drawn every other time
    said = joined & (paired.labels[:, 0] >= 0)
    assert bool(said.any())
    assert bool((paired.labels[said, 0] == 0).all())


def test_wholes_with_all_their_parts_are_targets_too():
    labels = torch.zeros(32, 32, 32, dtype=torch.int64)
    labels[4:20, 4:20, 4:20] = 1
    for label, at in ((2, 6), (3, 11), (4, 15)):  # parts that do not touch each other
        labels[at : at + 3, 8:16, 8:16] = label
    labels[24:30, 24:30, 24:30] = 5
    whole = (labels > 0) & (labels < 5)
    drawn = [mask for seed in range(60) for mask in choose_targets(Draw(0, seed), labels, None, 3, background=1)]
    found = sum(torch.equal(mask, whole) for mask in drawn)
    assert 0.02 < found / len(drawn) < 0.4
    assert not any(bool((mask & whole).any()) and bool((mask & ~whole).any()) for mask in drawn)


def test_corrective_clicks_hit_errors_with_the_right_sign():
    targets = blocks(3)
    mask = targets.clone()
    mask[0, 4:8] = False  # missed
    mask[1, 13:16, 0:4, 0:4] = True  # too much
    points, labels = corrective_clicks(Draw(0, 1), mask != targets, targets)
    assert labels.tolist() == [1, 0, -1]
    for k in range(2):
        assert bool((mask != targets)[k][tuple(points[k].long().tolist())])
