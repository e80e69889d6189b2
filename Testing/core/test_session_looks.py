"""Which of several looks at a click is believed."""

import numpy as np
import pytest
import torch

from FastSAM3DCore.engine import Engine
from FastSAM3DCore.framing import frame_around
from FastSAM3DCore.geometry import sample_crop
from FastSAM3DCore.session.acceptance import Focus, Proposal
from FastSAM3DCore.session.looks import most_convincing
from FastSAM3DCore.types import Volume
from Testing.core.phantoms import ball_scan
from Testing.core.toy_model import ToyModel

CENTRE = np.array([40.0, 40.0, 40.0])
FOCUS = Focus(CENTRE, None, CENTRE[None], True)


@pytest.fixture(params=[1, 2], ids=["full masks", "coarse masks"])
def engine(request) -> Engine:
    engine = Engine(ToyModel(32, mask_stride=request.param), torch.device("cpu"))
    engine.set_volume(scan_of_a_ball(12))
    return engine


def scan_of_a_ball(radius_mm: float) -> Volume:
    return ball_scan(np.eye(4), shape_ijk=(80, 80, 80), centre_ijk=(40, 40, 40), radius_mm=radius_mm)[0]


def ball(radius: float) -> np.ndarray:
    grids = np.meshgrid(*[np.arange(80.0)] * 3, indexing="ij")
    return sum((grid - 40) ** 2 for grid in grids) <= radius**2


def answer(engine: Engine, side_mm: float, found: np.ndarray, logit: float = 6.0) -> Proposal:
    frame = frame_around(engine.axes, engine.traits, CENTRE, side_mm)
    inside = sample_crop(found.astype(np.float32), engine.axes, frame.coarsened(engine.traits.mask_stride), "nearest")
    logits = torch.where(torch.as_tensor(inside) > 0.5, logit, -6.0)
    return Proposal(frame, logits, torch.full_like(logits, -6.0), torch.ones_like(logits), 0.5)


def test_a_single_look_is_taken_as_it_is(engine):
    only = answer(engine, 40, np.zeros((80, 80, 80), bool))
    assert most_convincing(engine, [only], FOCUS) is only


def test_a_look_that_finds_nothing_at_the_click_is_never_chosen(engine):
    elsewhere = np.zeros((80, 80, 80), bool)
    elsewhere[2:20, 2:20, 2:20] = True
    looks = [answer(engine, 80, elsewhere, 9.0), answer(engine, 48, ball(12), 0.5), answer(engine, 64, elsewhere, 9.0)]
    assert most_convincing(engine, looks, FOCUS) is looks[1]


def test_the_look_with_the_edge_of_the_image_wins_over_one_as_sure_without(engine):
    looks = [answer(engine, 40, ball(7)), answer(engine, 56, ball(12))]
    assert most_convincing(engine, looks, FOCUS) is looks[1]


def test_what_two_looks_find_wins_over_what_a_surer_one_finds_alone(engine):
    engine.set_volume(scan_of_a_ball(38))  # without edges where the looks end
    alone, shared = ball(6), ball(9)
    looks = [answer(engine, 40, alone, 6.0), answer(engine, 48, shared, 2.4), answer(engine, 64, shared, 2.4)]
    assert most_convincing(engine, looks, FOCUS) in looks[1:]
    assert most_convincing(engine, looks[:2], FOCUS) is looks[0]


def test_a_speck_in_a_wide_look_loses_to_the_same_in_a_tight_one(engine):
    looks = [answer(engine, 80, ball(4)), answer(engine, 32, ball(4))]
    assert most_convincing(engine, looks, FOCUS) is looks[1]


def test_a_look_that_is_unsure_how_far_its_mask_goes_loses_to_one_that_knows(engine):
    engine.set_volume(scan_of_a_ball(38))  # without edges where the looks end
    sure, unsure = answer(engine, 56, ball(12)), answer(engine, 48, ball(12))
    unsure.logits = torch.maximum(unsure.logits, answer(engine, 48, ball(15), -0.1).logits)
    assert most_convincing(engine, [unsure, sure], FOCUS) is sure
