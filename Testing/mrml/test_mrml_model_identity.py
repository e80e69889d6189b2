"""The weights that made a segment are stored with it; others say so and lose nothing."""

from __future__ import annotations

import numpy as np
import pytest

from FastSAM3DCore.types import ModelIdentity
from FastSAM3DSlicerLib.Controller import Controller
from FastSAM3DSlicerLib.DeferredSession import DeferredSession
from FastSAM3DSlicerLib.ModelNotes import sameWeights
from FastSAM3DSlicerLib.PromptStore import storedModel
from Testing.core.fakes import FakeSession
from Testing.mrml.conftest import setWhole, whole
from Testing.mrml.test_mrml_scene_life import reopened

OTHER = ModelIdentity("fastsam3d", "0b" * 32)


def otherModel(radius=3.5):
    """A session whose weights answer the same clicks with smaller balls."""
    session = FakeSession(radius=radius)
    session.model = OTHER
    return session


def test_name_and_digest_are_stored_with_the_segment_and_survive_the_file(logic, at, tmp_path):
    assert storedModel(logic.active.segment) is None
    logic.addPoint(at(20, 25, 15))
    made = ModelIdentity("fake", "fa" * 32)
    assert storedModel(logic.active.segment) == made
    again = reopened(logic, tmp_path)
    assert storedModel(again.active.segment) == made
    assert again.active.log.model == made
    assert storedModel(again.active.segment, frame=3) is None


def test_a_scene_reopened_with_other_weights_says_so_and_keeps_every_voxel_it_had(logic, at, tmp_path):
    logic.addPoint(at(20, 25, 15))
    logic.addPoint(at(28, 25, 15))
    before = whole(logic)
    again = reopened(logic, tmp_path)
    again.setSession(otherModel())
    again.expected = ModelIdentity("fastsam3d")
    assert again.modelNote().startswith("Liver was made with fake (fafafafa); the next prompt uses fastsam3d")
    said = []
    again.onStatus = said.append
    again.addPoint(at(45, 25, 15))
    assert "Made with fake (fafafafa), refined with fastsam3d (0b0b0b0b)." in said[-1]
    assert whole(again)[before == 1].all()
    assert whole(again)[15, 25, 45]
    assert np.array_equal(whole(again), again.link.session.mask())
    assert [p.kind for p in again.prompts] == ["point", "point", "mask", "point"]
    assert storedModel(again.active.segment) == OTHER
    assert again.modelNote() == ""
    again.addPoint(at(50, 25, 15))
    assert "Made with" not in said[-1]


def test_undo_past_the_change_of_weights_restores_segment_and_maker(logic, at):
    logic.addPoint(at(20, 25, 15))
    before, made = whole(logic), storedModel(logic.active.segment)
    logic.setSession(otherModel())
    logic.addPoint(at(28, 25, 15))
    after = whole(logic)
    logic.undo()
    assert np.array_equal(whole(logic), before)
    assert storedModel(logic.active.segment) == made
    logic.redo()
    assert np.array_equal(whole(logic), after)
    assert storedModel(logic.active.segment) == OTHER
    logic.undo()
    logic.undo()
    assert whole(logic).sum() == 0
    logic.redo()
    logic.addPoint(at(40, 25, 15))
    assert whole(logic)[before == 1].all()


def test_the_same_weights_elsewhere_go_on_from_the_log_without_a_word(logic, at):
    logic.addPoint(at(20, 25, 15))
    renamed = FakeSession()
    renamed.model = ModelIdentity("copy.safetensors", "fa" * 32)
    logic.setSession(renamed)
    logic.addPoint(at(28, 25, 15))
    assert "Made with" not in logic.said[-1]
    assert [p.kind for p in logic.prompts] == ["point", "point"]


def test_a_segment_painted_by_hand_was_made_with_no_model(logic, at):
    mask = np.zeros(whole(logic).shape, np.uint8)
    mask[10:14, 20:24, 20:24] = 1
    setWhole(logic, logic.active.segmentId, mask)
    logic.setSegment(logic.active.node, logic.active.segmentId)
    assert logic.modelNote() == ""
    logic.addPoint(at(28, 25, 15))
    assert "Made with" not in logic.said[-1]


@pytest.mark.parametrize(
    ("made", "now", "same"),
    [
        (ModelIdentity("a", "11"), ModelIdentity("b", "11"), True),
        (ModelIdentity("a", "11"), ModelIdentity("a", "22"), False),
        (ModelIdentity("a", "11"), ModelIdentity("a"), True),
        (ModelIdentity("a", "11"), ModelIdentity("b"), False),
        (None, ModelIdentity("a"), False),
        (None, None, True),
    ],
)
def test_weights_are_compared_by_digest_and_by_name_where_there_is_none(made, now, same):
    assert sameWeights(made, now) == same
    assert sameWeights(now, made) == same


def test_choosing_a_segment_of_other_weights_is_said_before_the_first_click(logic, at, scan, headless):
    logic.addPoint(at(20, 25, 15))
    node, segmentId = logic.active.node, logic.active.segmentId
    said = []
    controller = Controller(headless.scene, DeferredSession(otherModel), list, said.append)
    controller.useSession(DeferredSession(otherModel), ModelIdentity("fastsam3d"))
    assert controller.select(scan, node, segmentId)
    assert "was made with fake (fafafafa); the next prompt uses fastsam3d" in said[-1]
    # Same name, other file: known as soon as a tool is picked up and the weights are loaded.
    swapped = FakeSession()
    swapped.model = ModelIdentity("fake", "99" * 32)
    controller.useSession(DeferredSession(lambda: swapped), ModelIdentity("fake"))
    assert controller.logic.modelNote() == ""
    controller.useTool("box")
    while controller.runner.busy:
        controller.runner.pump()
    assert "the next prompt uses fake (99999999)" in said[-1]
    controller.close()


@pytest.mark.parametrize("named", [True, False])
def test_the_segments_voxels_are_copied_for_other_weights_only(logic, at, named):
    if not named:
        logic.link.session.model = None  # a stand-in without weights
    logic.addPoint(at(20, 25, 15))
    assert logic.wanted(logic.active).content is None
    logic.setSession(otherModel())
    assert logic.wanted(logic.active).content is not None
    logic.addPoint(at(28, 25, 15))
    assert logic.wanted(logic.active).content is None
