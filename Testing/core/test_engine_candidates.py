"""A lone click is answered by the candidate that a network's traits name, everything else by the single answer."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from FastSAM3DCore.engine import CropPrompts, Engine
from FastSAM3DCore.framing import frame_around
from Testing.core.phantoms import ball_scan
from Testing.core.toy_model import ToyModel


class ThreeAnswers(ToyModel):
    """Says which of its answers one sees: logits 1, 2, 3 and overlaps .1, .2, .3 of three, 9 and .9 of one."""

    def decode(self, embedding, point_coords, point_labels, mask_logits, multimask=False, *, boxes=None):
        said = torch.tensor([1.0, 2.0, 3.0] if multimask else [9.0])
        return said.reshape(1, -1, 1, 1, 1) * torch.ones(1, 1, *embedding.shape[2:]), said[None] / 10


def answer(prompts: CropPrompts, previous: float | None = None, whole: int | None = 1) -> tuple[float, float]:
    volume, _ = ball_scan(np.eye(4), shape_ijk=(32, 32, 32), centre_ijk=(16, 16, 16), radius_mm=8)
    model = ThreeAnswers(32)
    model.traits = replace(model.traits, whole=whole)
    engine = Engine(model, torch.device("cpu"))
    engine.set_volume(volume)
    frame = frame_around(engine.axes, engine.traits, (16, 16, 16), 32.0)
    mask = None if previous is None else torch.full(frame.size, previous)
    logits, quality = engine.decode(frame, prompts, mask)
    assert logits.shape == torch.Size(frame.size)
    assert logits.min() == logits.max()
    return float(logits.max()), quality


CLICK = CropPrompts(np.full((1, 3), 16.0), np.array([1]))


@pytest.mark.parametrize("whole", [0, 1, 2])
def test_a_lone_click_is_answered_by_the_candidate_of_the_traits(whole):
    assert answer(CLICK, whole=whole) == pytest.approx((whole + 1, (whole + 1) / 10))


@pytest.mark.parametrize(
    "case",
    [
        {"prompts": CLICK, "whole": None},
        {"prompts": CLICK, "previous": -3.0},
        {"prompts": CropPrompts(np.full((2, 3), 16.0), np.array([1, 0]))},
        {"prompts": CropPrompts(np.full((1, 3), 16.0), np.array([1]), np.array([[4.0] * 3, [20.0] * 3]))},
    ],
    ids=["network without", "with a mask", "two clicks", "in a box"],
)
def test_anything_else_is_answered_by_the_single_answer(case):
    assert answer(**case) == pytest.approx((9.0, 0.9))
