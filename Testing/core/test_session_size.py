"""A first correction that says the answer was far too large has the size chosen anew."""

import numpy as np
import pytest
import torch

from FastSAM3DCore.engine import Engine
from FastSAM3DCore.session import LocalSession
from Testing.core.phantoms import ball_scan
from Testing.core.toy_model import ToyModel

FIRST = (24, 40, 40)  # in the left half of a ball around (40, 40, 40)


class NearestClickModel(ToyModel):
    """Of what the toy finds, only what is nearer to a positive click than to any negative one."""

    def decode(self, embedding, point_coords, point_labels, mask_logits, multimask=False, *, boxes=None):
        logits, quality = super().decode(embedding, point_coords, point_labels, mask_logits, multimask, boxes=boxes)
        grids = torch.stack(torch.meshgrid(*[torch.arange(n) for n in logits.shape[-3:]], indexing="ij"), -1)
        far = torch.full(logits.shape[-3:], torch.inf)
        distance = {sign: far.clone() for sign in (0, 1)}
        for point, sign in zip(point_coords[0], point_labels[0].tolist(), strict=True):
            distance[sign] = torch.minimum(distance[sign], (grids - point).norm(dim=-1))
        return torch.where(distance[0] < distance[1], -8.0, logits), quality


def clicked(first_ijk) -> LocalSession:
    volume, _ = ball_scan(np.eye(4), shape_ijk=(80, 80, 80), centre_ijk=(40, 40, 40), radius_mm=30)
    session = LocalSession(Engine(NearestClickModel(64), torch.device("cpu")))
    session.set_image(volume)
    session.add_point(first_ijk)
    assert session.mask()[40, 40, 62]  # all of the ball
    return session


@pytest.fixture
def session() -> LocalSession:
    return clicked(FIRST)


def test_a_correction_where_the_mask_is_deepest_takes_all_that_is_nearer_to_it(session):
    whole = session.mask()
    session.add_point((46, 40, 40), positive=False)
    mask = session.mask()
    assert not mask[:, :, 37:].any()  # all the way to half between the clicks
    assert mask[:, :, :33].sum() > 0.95 * whole[:, :, :33].sum()
    session.undo()
    assert (session.mask() == whole).all()


def test_a_correction_near_the_border_is_limited_in_its_reach(session):
    session.add_point((66, 40, 40), positive=False)
    mask = session.mask()
    assert not mask[40, 40, 66]
    assert mask[40, 40, 20:58].all()  # as deep as the ball is behind the click, not to half between the clicks


@pytest.mark.parametrize(("before", "anew"), [("nothing", True), ("click", True), ("clicks", False), ("edit", False)])
def test_only_the_first_corrections_start_anew(session, monkeypatch, before, anew):
    if before == "edit":
        session.set_mask(session.mask())
    for j in {"click": (58,), "clicks": (58, 60)}.get(before, ()):
        session.add_point((40, j, 40))
    blanked = []
    monkeypatch.setattr(session._painter, "blank", blanked.append)
    session.add_point((46, 40, 40), positive=False)
    assert bool(blanked) == anew
    assert not session.mask()[40, 40, 46]


@pytest.mark.parametrize(("found", "anew"), [(0.95, True), (0.8, False)])
def test_a_mask_that_looks_more_like_a_structure_is_corrected_instead(session, monkeypatch, found, anew):
    worth = iter([1.0, found])  # of the mask so far, then of the answer without it
    monkeypatch.setattr("FastSAM3DCore.session.resizing.conviction", lambda *_: next(worth))
    blanked = []
    monkeypatch.setattr(session._painter, "blank", blanked.append)
    session.add_point((46, 40, 40), positive=False)
    assert bool(blanked) == anew
    assert not session.mask()[40, 40, 46]


def test_both_clicks_are_on_their_side_of_the_mask():
    session = clicked((38, 40, 40))
    session.add_point((40, 40, 40), positive=False)  # as good as the same place
    assert session.mask()[40, 40, 38]
    assert not session.mask()[40, 40, 40]


def test_a_log_with_such_a_correction_replays_to_the_same_mask(session):
    session.add_point((46, 40, 40), positive=False)
    session.add_point((30, 50, 44))
    mask, log = session.mask(), session.prompts
    session.replay(log)
    assert (session.mask() == mask).all()
