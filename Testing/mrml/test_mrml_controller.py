"""Tools, status line, overlay, slice review and numbers around one logic, without widgets."""

from __future__ import annotations

import numpy as np
import pytest

from FastSAM3DCore.errors import FastSAM3DError
from FastSAM3DCore.types import VoxelBox
from FastSAM3DSlicerLib.SegmentImage import SegmentImage
from FastSAM3DSlicerLib.Statistics import ReferenceDice
from FastSAM3DSlicerLib.Uncertainty import uncertaintyOf
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, matrixFromArray
from Testing.mrml.conftest import addOther, whole
from Testing.mrml.slow import finish


def test_the_status_line_names_volume_segment_and_sign(controller):
    controller.useTool("point")
    assert controller.said[-1] == "Point adds to Segment_1 in Scan."
    controller.toggleSign()
    assert controller.said[-1] == "Point removes from Segment_1 in Scan."
    controller.useTool("lasso")
    assert controller.said[-1] == "Lasso removes from Segment_1 in Scan."
    controller.useTool("lasso")
    assert controller.tools.tool == ""
    controller.select(None, None, "")
    assert "No volume is selected" in controller.said[-1]


def test_place_mode_follows_the_point_tool_and_back(controller, headless):
    interaction = headless.scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    selection = headless.scene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
    controller.useTool("point")
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    assert selection.GetActivePlaceNodeID() == controller.sync.pointsNode(True).GetID()
    controller.toggleSign()
    assert selection.GetActivePlaceNodeID() == controller.sync.pointsNode(False).GetID()
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)  # Escape, or a right click
    assert controller.tools.tool == ""
    controller.useTool("point")
    controller.leave()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    assert headless.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0
    controller.enter()
    assert controller.tools.tool == ""


def test_the_overlay_shows_doubt_over_the_scan_and_goes_away(controller, session, headless):
    composite = headless.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    controller.click(25, 25, 15)
    finish(controller)
    controller.setOverlay(True)
    finish(controller)
    overlay = controller.overlay.node
    assert composite.GetForegroundVolumeID() == overlay.GetID()
    from FastSAM3DSlicerLib.VolumeBridge import voxels

    expected = uncertaintyOf(session.probability()) * 100
    box = controller.logic.link.reach
    assert np.abs(voxels(overlay)[box.slices_kji] - expected[box.slices_kji]).max() <= 0.51
    controller.click(40, 25, 15)
    finish(controller)
    box = controller.logic.link.reach
    expected = uncertaintyOf(session.probability()) * 100
    assert np.abs(voxels(overlay)[box.slices_kji] - expected[box.slices_kji]).max() <= 0.51
    controller.setOverlay(False)
    assert composite.GetForegroundVolumeID() is None
    assert controller.overlay.node is None


def sliceThrough(controller, ijk):
    node = controller.scene.GetFirstNodeByClass("vtkMRMLSliceNode")
    toWorld = ijkToWorld(controller.logic.volumeNode)
    axes = toWorld[:3, :3] / np.linalg.norm(toWorld[:3, :3], axis=0)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = axes, controller.at(*ijk)
    node.GetSliceToRAS().DeepCopy(matrixFromArray(matrix))
    node.UpdateMatrices()
    return node


def test_slice_mode_accepts_slices_and_steps_to_the_next_that_needs_a_look(controller, headless):
    node = sliceThrough(controller, (25, 25, 15))
    controller.setSliceMode(True)
    assert "(this slice only)" in controller.said[-1]
    controller.click(25, 25, 15)
    finish(controller)
    assert set(np.nonzero(whole(controller.logic))[0].tolist()) == {15}
    seen = []
    for _ in range(3):
        controller.acceptSlice()
        finish(controller)
        ijk = np.linalg.inv(ijkToWorld(controller.logic.volumeNode)) @ [
            *[node.GetSliceToRAS().GetElement(r, 3) for r in range(3)],
            1,
        ]
        seen.append(round(float(ijk[2])))
        controller.fillSlice()
        finish(controller)
    assert len(set(seen)) == 3
    assert 15 not in seen
    assert set(np.nonzero(whole(controller.logic))[0].tolist()) == {15, *seen}
    before = whole(controller.logic)[15]
    sliceThrough(controller, (25, 25, 15))
    controller.click(30, 25, 15)
    finish(controller)
    assert np.array_equal(whole(controller.logic)[15], before)  # accepted
    controller.setSliceMode(False)
    controller.acceptSlice()
    assert "Slice mode is off" in controller.said[-1]


def test_dice_compares_with_a_reference_on_another_grid(controller, headless):
    controller.click(25, 25, 15)
    finish(controller)
    logic = controller.logic
    dice = ReferenceDice(controller.runner, lambda: None)
    mask = whole(logic)
    same = addOther(logic, mask, "Same")
    shifted = np.roll(mask, 3, axis=2)
    other = addOther(logic, shifted, "Shifted")
    assert dice.value(logic.active, logic.active.node, same) == 1.0
    expected = 2 * (mask & shifted).sum() / (mask.sum() + shifted.sum())
    assert dice.value(logic.active, logic.active.node, other) == pytest.approx(expected)
    empty = logic.active.node.GetSegmentation().AddEmptySegment("", "Empty")
    assert dice.value(logic.active, logic.active.node, empty) == 0.0
    coarse = headless.addSegmentation(None, "Coarse")
    segmentId = coarse.GetSegmentation().AddEmptySegment("", "Coarse")
    third = mask[::3, ::3, ::3] > 0
    toWorld = ijkToWorld(logic.volumeNode) @ np.diag([3.0, 3.0, 3.0, 1.0])
    box = VoxelBox((0, 0, 0), third.shape[::-1])
    SegmentImage(coarse, segmentId, toWorld, box.shape_ijk).write(box, third, np.ones_like(third))
    nearest = np.ix_(*(np.rint(np.arange(size) / 3).astype(int) for size in mask.shape))
    seen = np.pad(third, (0, 1))[nearest]
    expected = 2 * (mask & seen).sum() / (mask.sum() + seen.sum())
    assert dice.value(logic.active, coarse, segmentId) == pytest.approx(expected)
    assert 0.5 < expected < 1.0
    with pytest.raises(FastSAM3DError, match="gone"):
        dice.value(logic.active, logic.active.node, "nothing")


def test_milliliters_are_voxels_times_their_size(controller):
    controller.click(25, 25, 15)
    finish(controller)
    volume = abs(np.linalg.det(ijkToWorld(controller.logic.volumeNode)[:3, :3]))
    assert controller.logic.active.milliliters() == pytest.approx(whole(controller.logic).sum() * volume / 1000)


def test_a_locked_segment_is_said_and_the_marker_goes(controller):
    controller.setLocked(True)
    controller.click(25, 25, 15)
    assert "locked" in controller.said[-1]
    assert controller.sync.pointsNode(True).GetNumberOfControlPoints() == 0


def test_going_to_the_most_uncertain_slice_without_prompts_says_so(controller):
    controller.goToUncertain()
    finish(controller)
    assert controller.said[-1] in ("Nothing to look at yet; give a prompt first.", "No slice needs a look.")


def test_damaged_accepted_slices_are_ignored(controller):
    from FastSAM3DSlicerLib.SliceReview import ACCEPTED_TAG, acceptedSlices

    controller.logic.active.segment.SetTag(ACCEPTED_TAG, "[[1,2],3]")
    assert acceptedSlices(controller.logic.active.segment) == []
    controller.click(25, 25, 15)
    finish(controller)
    assert whole(controller.logic).any()
