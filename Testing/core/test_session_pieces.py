"""A second click far from a mask that is a piece of something larger has the size chosen anew."""

import dataclasses

import numpy as np
import pytest
import torch

from FastSAM3DCore.engine import Engine
from FastSAM3DCore.session import LocalSession
from Testing.core.phantoms import ball_scan
from Testing.core.toy_model import ToyModel

FIRST, SECOND = (24, 40, 40), (60, 44, 40)  # in a ball around (40, 40, 40)
PIECE = 6  # crop voxels


class PiecemealModel(ToyModel):
    """Answers with what is close to the clicks; the first candidate for a lone one is all that the toy finds."""

    def __init__(self, crop_size: int) -> None:
        super().__init__(crop_size)
        self.traits = dataclasses.replace(self.traits, whole=1, largest=0)

    def decode(self, embedding, point_coords, point_labels, mask_logits, multimask=False, *, boxes=None):
        everything, quality = super().decode(embedding, point_coords, point_labels, mask_logits, boxes=boxes)
        grids = torch.stack(torch.meshgrid(*[torch.arange(n) for n in everything.shape[-3:]], indexing="ij"), -1)
        close = torch.stack([(grids - point).norm(dim=-1) < PIECE for point in point_coords[0]]).any(0)
        piece = torch.where(close, everything, -8.0)
        if not multimask:
            return piece, quality
        return torch.cat([everything, piece, piece], 1), quality.expand(1, 3)


@pytest.fixture
def session() -> LocalSession:
    volume, _ = ball_scan(np.eye(4), shape_ijk=(80, 80, 80), centre_ijk=(40, 40, 40), radius_mm=30)
    session = LocalSession(Engine(PiecemealModel(64), torch.device("cpu")))
    session.set_image(volume)
    session.add_point(FIRST)
    assert 0 < session.mask().sum() < 4000
    return session


def test_the_largest_structure_that_holds_both_clicks_takes_the_place_of_two_pieces(session):
    piece = session.mask()
    session.add_point(SECOND)
    _, ball = ball_scan(np.eye(4), shape_ijk=(80, 80, 80), centre_ijk=(40, 40, 40), radius_mm=30)
    mask = session.mask() != 0
    assert 2 * (mask & ball).sum() / (mask.sum() + ball.sum()) > 0.95
    session.undo()
    assert np.array_equal(session.mask(), piece)


def test_the_log_replays_to_the_same_mask(session):
    session.add_point(SECOND)
    mask, log = session.mask(), session.prompts
    session.replay(log)
    assert np.array_equal(session.mask(), mask)


@pytest.mark.parametrize("second", [(34, 40, 40), (60, 44, 40)])
def test_a_click_close_by_or_after_a_hand_edit_only_adds_a_piece(session, second):
    if second == SECOND:
        session.set_mask(session.mask())
    before = int(session.mask().sum())
    session.add_point(second)
    assert before < int(session.mask().sum()) < before + 4000


def test_where_a_correction_looks_more_like_a_structure_it_is_taken(session, monkeypatch):
    worth = iter([0.9, 0.95])  # of the largest structure, then of the correction
    monkeypatch.setattr("FastSAM3DCore.session.resizing.conviction", lambda *_: next(worth))
    before = int(session.mask().sum())
    session.add_point(SECOND)
    assert before < int(session.mask().sum()) < before + 4000
