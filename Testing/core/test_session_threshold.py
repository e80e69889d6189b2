"""Corrections go by the mask on the screen, whatever threshold it is shown at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from FastSAM3DCore.engine import Engine
from FastSAM3DCore.session import LocalSession
from FastSAM3DCore.session.grid import UNDECIDED
from FastSAM3DCore.types import VoxelBox
from Testing.core.phantoms import ball_scan
from Testing.core.toy_model import ToyModel

SURPLUS = (8, 41, 17)
RADIUS = 6


def left_of_a_surplus(logit: int, threshold: float) -> tuple[int, int, float]:
    """Voxels of a painted ball before and after a negative click in it, and the share of the truth that stays."""
    volume, truth = ball_scan()
    session = LocalSession(Engine(ToyModel(crop_size=64), torch.device("cpu")))
    session.set_image(volume)
    session.add_point((26, 24, 17))
    session.set_threshold(threshold)
    box = VoxelBox(tuple(c - RADIUS for c in SURPLUS), tuple(c + RADIUS + 1 for c in SURPLUS))
    offsets = np.stack(np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1])
    ball = (offsets**2).sum(0) <= RADIUS**2
    session.grid.write(box, np.where(ball, np.uint8(UNDECIDED + 16 * logit), session.grid.read(box)))
    before = session.mask()
    session.add_point(SURPLUS, positive=False)
    after = session.mask()
    inside = np.zeros_like(truth)
    inside[box.slices_kji] = ball
    inside &= ~truth
    kept = (before & after & truth).sum() / (before & truth).sum()
    return int(before[inside].sum()), int(after[inside].sum()), float(kept)


@pytest.mark.parametrize(("logit", "threshold"), [(1, 0.5), (-1, 0.2), (3, 0.9)])
def test_a_negative_click_takes_away_a_surplus_that_is_seen_at_any_threshold(logit: int, threshold: float) -> None:
    before, after, kept = left_of_a_surplus(logit, threshold)
    assert before > 500
    assert after < 0.3 * before
    assert kept > 0.99
