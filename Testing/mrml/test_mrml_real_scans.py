"""Scripted sessions on real scans, through markups, as a user would: prompts, Dice, ms per click; replayed exactly.

The scans lie beside the checkout (../shared/data/scans) and are not part of the project.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from FastSAM3DCore import Volume, open_session
from FastSAM3DCore.errors import WeightsError
from FastSAM3DCore.evaluate.clicks import next_click
from FastSAM3DCore.evaluate.metrics import dice
from FastSAM3DCore.session import LocalSession
from FastSAM3DSlicerLib import SegmentationLogic
from FastSAM3DSlicerLib.PromptSync import PromptSync
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, pointsToIjk, transformPoints, volumeFromNode
from Testing.core.fakes import FakeSession
from Testing.mrml.conftest import whole

SCANS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "scans"
# Thick slices, oblique, cropped; CT and MR; organ, tumour, cord.
CASES = ["mr_braintumor_1", "ct_sarcoma_002", "mr_spine_t1"]
CLICKS = 5

pytestmark = [
    pytest.mark.scans,
    pytest.mark.skipif(not SCANS.is_dir(), reason="no real scans beside the checkout (../shared/data/scans)"),
]


def defaultSession():
    try:
        return open_session("default", "cpu")
    except WeightsError as error:
        pytest.skip(f"the bundled weights are not there: {error}")


@pytest.fixture(params=CASES)
def case(request, headless):
    """Loaded by Slicer's own reader; the truth as voxels of the same file grid."""
    import SimpleITK as sitk

    folder = SCANS / request.param
    node = headless.logics["Volumes"].AddArchetypeVolume(str(folder / "image.nii.gz"), request.param)
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "label.nii.gz")))
    names = json.loads((folder / "labels.json").read_text())
    value = max((int(v) for v in names), key=lambda v: int((labels == v).sum()))
    return node, labels == value, names[str(value)]


def replayed(session, volume, prompts):
    """The log of a Slicer session, given to a session that has never seen Slicer."""
    session.set_image(Volume(volume.array_kji, volume.ijk_to_ras))
    session.replay(prompts)
    return session.mask()


def run(headless, node, truth, session, clicks=CLICKS):
    """Simulated clicks as markups; returns the logic and one row per click: Dice, ms."""
    logic = SegmentationLogic(headless.scene, session)
    logic.setVolume(node)
    logic.addSegment(headless.addSegmentation(), "Structure")
    sync = PromptSync(logic)
    spacing = volumeFromNode(node).spacing_ijk
    rows = []
    for _ in range(clicks):
        click = next_click(whole(logic).astype(bool), truth, spacing)
        if click is None:
            break
        world = transformPoints(ijkToWorld(node), [click.point_ijk])[0]
        start = time.perf_counter()
        sync.pointsNode(click.positive).AddControlPointWorld(*world)
        milliseconds = (time.perf_counter() - start) * 1e3
        rows.append((click.positive, dice(whole(logic), truth), milliseconds))
    sync.close()
    return logic, rows


def fakeSession():
    return FakeSession(radius=9.5)


def toySession():
    """The real session and engine, with a network that needs no weights."""
    import torch

    from FastSAM3DCore.engine import Engine
    from Testing.core.toy_model import ToyModel

    return LocalSession(Engine(ToyModel(), torch.device("cpu")))


@pytest.mark.parametrize("newSession", [fakeSession, toySession])
def test_points_through_the_scene_are_the_same_as_points_given_to_the_engine(headless, case, newSession):
    node, truth, _ = case
    logic, rows = run(headless, node, truth, newSession())
    final = whole(logic)
    assert final.any()
    assert np.array_equal(final, logic.link.session.mask())
    assert np.array_equal(final, replayed(newSession(), volumeFromNode(node), logic.prompts))
    for _ in rows:
        logic.undo()
        assert np.array_equal(whole(logic), logic.link.session.mask())
    assert not whole(logic).any()
    for _ in rows:
        logic.redo()
    assert np.array_equal(whole(logic), final)
    assert np.array_equal(logic.link.session.mask(), final)
    first = logic.prompts[0].point_ijk
    assert truth[tuple(round(v) for v in reversed(first))]
    back = pointsToIjk(node, transformPoints(ijkToWorld(node), [first]))[0]
    assert back == pytest.approx(first, abs=1e-4)


def test_a_scripted_session_with_the_bundled_model(headless, case, capfd):
    """The log of the test run shows what a user gets; how good the model is, `fastsam3d evaluate` measures."""
    node, truth, structure = case
    logic, rows = run(headless, node, truth, defaultSession(), clicks=3)
    with capfd.disabled():
        print(f"\n{node.GetName()} ({structure}, {int(truth.sum())} voxels)")
        for n, (positive, score, milliseconds) in enumerate(rows, 1):
            print(f"  click {n} {'+' if positive else '-'}  Dice {score:.3f}  {milliseconds:7.0f} ms")
    mask = whole(logic)
    assert np.array_equal(mask, logic.link.session.mask())
    last = logic.prompts[-1]
    assert mask[tuple(round(v) for v in reversed(last.point_ijk))] == last.positive
    assert rows[-1][1] > 0
    for _ in rows:
        logic.undo()
    assert whole(logic).sum() == 0
