"""Markups to prompts: placing, dragging, deleting; and the log back to markups."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from FastSAM3DCore import VoxelBox
from FastSAM3DCore.prompts import BoxPrompt
from FastSAM3DSlicerLib.PromptMarkups import placeRoi
from FastSAM3DSlicerLib.PromptSync import PromptSync
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld
from Testing.mrml.conftest import whole

MARKUPS = slicer.vtkMRMLMarkupsNode


@pytest.fixture
def sync(logic):
    sync = PromptSync(logic)
    yield sync
    sync.close()


def dragPoint(node, position):
    """Move the only point of a list and let go."""
    node.SetNthControlPointPositionWorld(0, *position)
    node.InvokeEvent(MARKUPS.PointEndInteractionEvent)


def test_placing_points_is_prompting_with_the_lists_sign(sync, logic, at):
    sync.pointsNode(True).AddControlPointWorld(*at(20, 25, 15))
    sync.pointsNode(False).AddControlPointWorld(*at(23, 25, 15))
    assert [p.positive for p in logic.prompts] == [True, False]
    assert np.array_equal(whole(logic), logic.link.session.mask())
    assert not whole(logic)[15, 25, 23]


def test_any_fiducial_list_can_be_observed(sync, logic, at, headless):
    mine = headless.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Mine")
    sync.observe(mine, positive=True)
    mine.AddControlPointWorld(*at(20, 25, 15))
    mine.AddControlPointWorld(*at(30, 25, 15))
    assert len(logic.prompts) == 2
    assert mine.GetNumberOfControlPoints() == 2
    assert headless.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 1
    logic.undo()
    sync.mirror()
    assert mine.GetNumberOfControlPoints() == 1


def test_a_point_outside_is_taken_away_and_the_status_says_why(sync, logic, at):
    node = sync.pointsNode(True)
    node.AddControlPointWorld(*at(20, 25, 15))
    before = whole(logic)
    node.AddControlPointWorld(900, 900, 900)
    assert node.GetNumberOfControlPoints() == 1
    assert "outside Scan" in logic.said[-1]
    assert np.array_equal(whole(logic), before)


def test_markers_follow_undo_redo_and_the_active_segment(sync, logic, at):
    node = sync.pointsNode(True)
    for i in (15, 25, 35):
        node.AddControlPointWorld(*at(i, 25, 15))
    first = logic.active.segmentId
    logic.undo()
    sync.mirror()
    assert node.GetNumberOfControlPoints() == 2
    logic.redo()
    sync.mirror()
    assert node.GetNumberOfControlPoints() == 3
    assert len(logic.prompts) == 3
    logic.addSegment(logic.active.node, "Next")
    sync.mirror()
    assert node.GetNumberOfControlPoints() == 0
    assert logic.prompts == ()
    logic.setSegment(logic.active.node, first)
    sync.mirror()
    assert node.GetNumberOfControlPoints() == 3
    assert len(logic.prompts) == 3


def test_dragging_a_point_runs_again_from_its_new_place(sync, logic, at):
    node = sync.pointsNode(True)
    node.AddControlPointWorld(*at(20, 25, 15))
    dragPoint(node, at(40, 25, 15))
    assert logic.prompts[0].point_ijk == pytest.approx((40, 25, 15), abs=1e-4)
    assert whole(logic)[15, 25, 40]
    assert not whole(logic)[15, 25, 20]
    logic.undo()
    sync.mirror()
    position = np.zeros(3)
    node.GetNthControlPointPositionWorld(0, position)
    assert position == pytest.approx(at(20, 25, 15), abs=1e-4)


def test_dragging_a_point_out_of_the_scan_puts_it_back(sync, logic, at):
    node = sync.pointsNode(True)
    node.AddControlPointWorld(*at(20, 25, 15))
    dragPoint(node, (900, 0, 0))
    position = np.zeros(3)
    node.GetNthControlPointPositionWorld(0, position)
    assert position == pytest.approx(at(20, 25, 15), abs=1e-4)
    assert "outside Scan" in logic.said[-1]


def test_deleting_a_marker_removes_its_prompt(sync, logic, at):
    node = sync.pointsNode(True)
    node.AddControlPointWorld(*at(20, 25, 15))
    node.AddControlPointWorld(*at(40, 25, 15))
    node.RemoveNthControlPoint(0)
    assert [p.id for p in logic.prompts] == [2]
    assert not whole(logic)[15, 25, 20]
    logic.scene.RemoveNode(node)
    assert logic.prompts == ()
    assert whole(logic).sum() == 0


def test_a_drawn_box_becomes_a_prompt_that_can_be_dragged_and_deleted(sync, logic, headless):
    box = VoxelBox((5, 6, 7), (15, 18, 12))
    drawing = sync.newBox()
    placeRoi(drawing, BoxPrompt(0, box), ijkToWorld(logic.volumeNode))
    sync.commit(drawing)
    assert logic.prompts[0].box == box
    assert headless.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 1
    shown = sync.markups.shapes[1]
    moved = VoxelBox((20, 6, 7), (30, 18, 12))
    placeRoi(shown, BoxPrompt(0, moved), ijkToWorld(logic.volumeNode))
    shown.InvokeEvent(MARKUPS.PointEndInteractionEvent)
    assert logic.prompts[0].box == moved
    assert not whole(logic)[8, 10, 8]
    headless.scene.RemoveNode(sync.markups.shapes[1])
    assert logic.prompts == ()
    logic.undo()
    sync.mirror()
    assert logic.prompts[0].box == moved
    assert list(sync.markups.shapes) == [1]


@pytest.mark.parametrize("positive", [True, False])
def test_drawn_curves_become_scribbles_and_lassos_of_their_sign(sync, logic, at, positive):
    logic.addPoint(at(20, 25, 15))
    scribble = sync.newScribble(positive)
    for i in (5, 20, 40):
        scribble.AddControlPointWorld(*at(i, 25, 15))
    sync.commit(scribble)
    lasso = sync.newLasso(positive)
    for i, j in ((5, 5), (15, 5), (15, 15), (5, 15)):
        lasso.AddControlPointWorld(*at(i, j, 4))
    sync.commit(lasso)
    assert [(p.kind, p.positive) for p in logic.prompts[1:]] == [("scribble", positive), ("lasso", positive)]
    assert bool(whole(logic)[15, 25, 10]) == positive
    assert np.array_equal(whole(logic), logic.link.session.mask())
    assert {node.GetClassName() for node in sync.markups.shapes.values()} == {
        "vtkMRMLMarkupsCurveNode",
        "vtkMRMLMarkupsClosedCurveNode",
    }


def test_a_drawing_that_is_refused_leaves_nothing_behind(sync, logic, headless):
    drawing = sync.newScribble(True)
    for r in (900, 950):
        drawing.AddControlPointWorld(r, 0, 0)
    sync.commit(drawing)
    assert headless.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsCurveNode") == 0
    assert logic.prompts == ()
    assert "outside" in logic.said[-1]


def test_a_later_answer_finds_its_marker_even_when_more_were_placed_meanwhile(logic, at):
    """As with a worker: prompts wait in a queue while the user goes on clicking."""
    queue = []
    sync = PromptSync(logic, submit=lambda prepare, done: queue.append((prepare, done)))
    node = sync.pointsNode(True)
    for i in (15, 25, 35):
        node.AddControlPointWorld(*at(i, 25, 15))
    assert node.GetNumberOfControlPoints() == 3
    for prepare, done in queue:
        done(prepare().run())
    assert node.GetNumberOfControlPoints() == 3
    assert sorted(sync.markups.pointIds.values()) == [1, 2, 3]
    sync.close()


def test_a_closed_sync_hears_nothing_and_leaves_no_markups(sync, logic, at, headless):
    mine = headless.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Mine")
    sync.observe(mine)
    sync.pointsNode(True).AddControlPointWorld(*at(20, 25, 15))
    sync.close()
    mine.AddControlPointWorld(*at(30, 25, 15))
    assert len(logic.prompts) == 1
    assert headless.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsNode") == 1
