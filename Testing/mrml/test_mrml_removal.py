"""Deleted segments in the history: by the logic, one step more; by others, steps that are passed over."""

from __future__ import annotations

import numpy as np
import pytest

from FastSAM3DCore.errors import PromptError
from FastSAM3DSlicerLib.EditMask import setLocked
from Testing.mrml.conftest import addOther, whole
from Testing.mrml.test_mrml_logic import makeCurve


@pytest.fixture
def pair(logic, at):
    """Two clicked segments, "Liver" and "Spleen"; the second is active. Their ids."""
    first = logic.active.segmentId
    logic.addPoint(at(20, 25, 15))
    second = logic.addSegment(logic.active.node, "Spleen")
    logic.addPoint(at(40, 25, 15))
    return first, second


def ids(logic):
    return list(logic.active.node.GetSegmentation().GetSegmentIDs())


def behindItsBack(logic, segmentId):
    """Delete a segment as Slicer's own segment table does."""
    logic.active.node.GetSegmentation().RemoveSegment(segmentId)


def test_undo_goes_on_with_the_steps_before_those_of_a_segment_that_is_gone(logic, at, pair):
    first, second = pair
    third = logic.addSegment(logic.active.node, "Kidney")
    logic.addPoint(at(30, 40, 10))
    behindItsBack(logic, second)
    logic.undo()
    assert not whole(logic, third).any()
    logic.undo()
    assert logic.active.segmentId == first
    assert not whole(logic, first).any()
    with pytest.raises(PromptError, match="nothing to undo"):
        logic.undo()
    logic.redo()
    assert whole(logic, first).any()
    logic.redo()
    assert logic.active.segmentId == third
    assert whole(logic, third).any()
    with pytest.raises(PromptError, match="nothing to redo"):
        logic.redo()


def test_a_step_that_also_changed_a_segment_that_is_gone_restores_the_others(logic, at):
    logic.addPoint(at(20, 25, 15))
    before = whole(logic)
    taken = addOther(logic, np.roll(before, 4, axis=2))
    logic.rules.policy = "overwrite"
    logic.addScribble(makeCurve(logic, at, "vtkMRMLMarkupsCurveNode", (20, 25, 15), (32, 25, 15)))
    assert len(logic.history.last().changes) == 2
    behindItsBack(logic, taken)
    logic.undo()
    assert np.array_equal(whole(logic), before)


def test_deleting_a_segment_is_one_step_and_undo_brings_everything_back(logic, at, pair):
    first, second = pair
    third = logic.addSegment(logic.active.node, "Kidney")
    logic.setSegment(logic.active.node, second)
    before, log = whole(logic), logic.prompts
    logic.removeSegment(logic.active.node, second)
    assert ids(logic) == [first, third]
    assert logic.active.segmentId == third
    update = logic.undo()
    assert ids(logic) == [first, second, third]
    assert logic.active.segmentId == second
    assert logic.active.segment.GetName() == "Spleen"
    assert np.array_equal(whole(logic), before)
    assert np.array_equal(update.mask, before[update.box.slices_kji])
    assert logic.prompts == log
    logic.addPoint(at(44, 25, 15))
    assert np.array_equal(whole(logic), logic.link.session.mask())
    logic.undo()
    assert np.array_equal(whole(logic), before)


def test_undo_and_redo_run_through_a_deletion_in_both_directions(logic, pair):
    first, second = pair
    logic.removeSegment(logic.active.node, second)
    for _ in range(2):
        for _ in range(3):
            logic.undo()
        assert not whole(logic, first).any()
        assert not whole(logic, second).any()
        for _ in range(3):
            logic.redo()
        assert ids(logic) == [first]
        assert logic.active.segmentId == first
        assert whole(logic).any()


def test_a_deleted_segment_takes_its_voxels_out_of_a_layer_it_shares(logic, pair):
    first, second = pair
    spleen, liver = whole(logic), whole(logic, first)
    logic.active.node.GetSegmentation().CollapseBinaryLabelmaps(True)
    assert logic.active.image(first).sharers() == [second]
    logic.removeSegment(logic.active.node, second)
    assert np.array_equal(whole(logic), liver)
    logic.undo()
    assert np.array_equal(whole(logic), spleen)
    assert np.array_equal(whole(logic, first), liver)


def test_the_only_segment_and_an_empty_one_can_be_deleted_too(logic, at):
    only, node = logic.active.segmentId, logic.active.node
    logic.removeSegment(node, only)
    assert logic.active is None
    with pytest.raises(PromptError, match="No segment is chosen"):
        logic.addPoint(at(20, 25, 15))
    logic.undo()
    assert logic.active.segmentId == only
    logic.addPoint(at(20, 25, 15))
    assert whole(logic).any()


def test_a_locked_segment_is_not_deleted_nor_deleted_again(logic, pair):
    _, second = pair
    setLocked(logic.active.segment, True)
    with pytest.raises(PromptError, match="locked"):
        logic.removeSegment(logic.active.node, second)
    setLocked(logic.active.segment, False)
    logic.removeSegment(logic.active.node, second)
    logic.undo()
    setLocked(logic.active.segment, True)
    with pytest.raises(PromptError, match="locked"):
        logic.redo()
    assert second in ids(logic)


def test_a_deletion_is_forgotten_with_its_segmentation(logic, headless, pair):
    _, second = pair
    node = logic.active.node
    logic.removeSegment(node, second)
    headless.scene.RemoveNode(node)
    with pytest.raises(PromptError, match="gone"):
        logic.undo()
