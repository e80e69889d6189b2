"""A small scan is looked at in two crops, whose answers are averaged; so are a close look and a wider one."""

import numpy as np
import pytest
import torch

from FastSAM3DCore.engine import Engine
from FastSAM3DCore.prompts import PointPrompt
from FastSAM3DCore.session import LocalSession
from FastSAM3DCore.session.acceptance import Focus, Proposal
from FastSAM3DCore.session.proposals import CLOSER, SMALL_SCAN_SHARE
from Testing.core.phantoms import ball_scan
from Testing.core.toy_model import ToyModel

SIDE_MM = 56


class TurnsModel(ToyModel):
    """Says the next of its levels everywhere."""

    def __init__(self, *levels: float) -> None:
        super().__init__(64)
        self.levels = levels

    def decode(self, embedding, point_coords, point_labels, mask_logits, multimask=False, *, boxes=None):
        level = self.levels[self.decoded % len(self.levels)]
        logits, quality = super().decode(embedding, point_coords, point_labels, mask_logits, multimask, boxes=boxes)
        return torch.full_like(logits, level), quality


def session_on(model: ToyModel, side: int) -> LocalSession:
    volume, _ = ball_scan(shape_ijk=(side,) * 3, centre_ijk=(side // 2,) * 3, radius_mm=10)
    session = LocalSession(Engine(model, torch.device("cpu")))
    session.set_image(volume)
    return session


def test_what_both_crops_say_is_averaged_where_the_closer_one_reaches(monkeypatch):
    monkeypatch.setattr("FastSAM3DCore.session.proposals.nearness", lambda _image, _inside, logits, *_more: 0 * logits)
    session = session_on(TurnsModel(-2.0, 6.0), SIDE_MM)
    session.add_point((28, 28, 28))
    found = np.argwhere(session.mask())
    wide = SIDE_MM * SMALL_SCAN_SHARE
    for low, high in zip(found.min(0), found.max(0), strict=True):
        assert high + 1 - low == pytest.approx(CLOSER * wide, abs=4)  # its answer fades towards its faces


def test_where_they_contradict_each_other_the_surer_one_is_right():
    session = session_on(TurnsModel(2.0, -6.0), SIDE_MM)
    session.add_point((28, 28, 28))
    assert not session.mask()[28, 28, 20:27].any()


@pytest.mark.parametrize(("side", "looks"), [(SIDE_MM, 2), (80, 1)])
def test_only_a_small_scan_is_looked_at_twice_at_each_prompt(side, looks):
    session = session_on(ToyModel(64), side)
    session.add_point((side // 2,) * 3)
    before = session.engine.model.decoded
    session.add_point((side // 2 + 2,) * 3)
    assert session.engine.model.decoded == before + looks


def test_prefetching_covers_both_crops_of_a_small_scan():
    session = session_on(ToyModel(64), SIDE_MM)
    session.prefetch((28, 28, 28))
    encoded = session.engine.model.encoded
    assert encoded == 2
    session.add_point((28, 28, 28))
    assert session.engine.model.encoded == encoded


def test_a_wider_look_keeps_what_the_closer_one_that_called_for_it_saw():
    session = session_on(TurnsModel(-2.0), 160)
    proposer, middle = session._proposer, np.full(3, 79.5)
    frame = proposer.frame_at(middle, 40.0)
    inside = torch.full(frame.coarsened(session.engine.traits.mask_stride).size, 6.0)
    closer = Proposal(frame, inside, proposer._nothing(frame), torch.ones_like(inside), 0.0)
    whole = proposer.whole([PointPrompt(1, (80, 80, 80))], closer, Focus(middle, None, middle[None], True))
    grid = whole.frame.coarsened(session.engine.traits.mask_stride)
    away = np.abs(np.stack(np.meshgrid(*map(grid.positions, range(3)), indexing="ij")) - 79.5).max(0)
    found = whole.logits.numpy() > 0
    assert whole.frame.voxel_mm > frame.voxel_mm
    assert found[away < 14].all()
    assert not found[away > 21].any()
