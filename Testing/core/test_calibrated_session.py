"""A calibration stored with the weights changes what the session says of its masks, never the masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from FastSAM3DCore.calibration import METADATA_KEY, Calibration
from FastSAM3DCore.modeling.hires import HiresConfig, build_hires, save_hires
from FastSAM3DCore.session import LocalSession, open_session
from Testing.core.phantoms import ball_scan


@pytest.fixture
def pair(tmp_path: Path) -> tuple[LocalSession, LocalSession]:
    """The same weights without and with a temperature of 2, after the same two clicks."""
    torch.manual_seed(0)
    model = build_hires(HiresConfig(name="tiny", stem=8, middle=16, width=32, heads=2, depth=2, decoder=(8, 16, 32)))
    with torch.no_grad():
        model.decoder.single.bias.zero_()  # answers on both sides of the threshold
        model.decoder.single.weight.mul_(8)
    save_hires(model, tmp_path / "plain.safetensors")
    save_hires(model, tmp_path / "soft.safetensors", {METADATA_KEY: Calibration(2.0).to_json()})
    sessions = []
    for name in ("plain", "soft"):
        session = open_session(str(tmp_path / f"{name}.safetensors"), "cpu", with_probability=True)
        session.set_image(ball_scan()[0])
        session.add_point((26, 24, 17))
        session.add_point((40, 30, 20), positive=False)
        sessions.append(session)
    return sessions[0], sessions[1]


def test_masks_are_the_same_and_probabilities_softer(pair: tuple[LocalSession, LocalSession]) -> None:
    plain, soft = pair
    assert np.array_equal(plain.mask(), soft.mask())
    sure, less = plain.probability(), soft.probability()
    known = (sure > 0.001) & (sure < 0.999)
    assert known.any()
    assert np.allclose(Calibration(2.0).logit(less[known]), Calibration().logit(sure[known]), atol=1e-3)
    assert (np.abs(less[known] - 0.5) <= np.abs(sure[known] - 0.5)).all()
    assert np.array_equal(less > 0.5, soft.mask() != 0)


def test_a_threshold_means_calibrated_probability(pair: tuple[LocalSession, LocalSession]) -> None:
    soft = pair[1]
    soft.set_threshold(0.7)
    probability = soft.probability()
    clear = np.abs(probability - 0.7) > 0.01  # logits come in steps of a sixteenth
    assert np.array_equal(soft.mask()[clear] != 0, probability[clear] > 0.7)
