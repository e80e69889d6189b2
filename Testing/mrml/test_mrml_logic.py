"""Prompts to segments: what changes, what does not, undo, redo, hand edits, switching."""

from __future__ import annotations

import numpy as np
import pytest

from FastSAM3DCore import VoxelBox
from FastSAM3DCore.errors import ImageError, PromptError
from FastSAM3DCore.prompts import BoxPrompt
from FastSAM3DSlicerLib import SegmentationLogic
from FastSAM3DSlicerLib.PromptMarkups import placeRoi
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld
from Testing.core.fakes import FakeSession
from Testing.mrml.conftest import SHAPE, addOther, setWhole, whole
from Testing.mrml.scene import HeadlessScene


def makeRoi(logic, box):
    node = logic.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    placeRoi(node, BoxPrompt(0, box), ijkToWorld(logic.volumeNode))
    return node


def makeCurve(logic, at, className, *points):
    node = logic.scene.AddNewNodeByClass(className)
    for ijk in points:
        node.AddControlPointWorld(*at(*ijk))
    return node


def test_a_click_puts_the_sessions_mask_into_the_segment(logic, at):
    seen = []
    logic.onUpdate = seen.append
    update = logic.addPoint(at(20, 25, 15))
    assert np.array_equal(whole(logic), logic.link.session.mask())
    assert np.array_equal(whole(logic)[update.box.slices_kji], update.mask)
    assert whole(logic).sum() == update.mask.sum() > 500
    assert seen == [update]
    assert logic.said[-1].startswith("Liver: point, 0.")


@pytest.mark.parametrize("tool", ["box", "thin box", "scribble", "lasso", "negative point"])
def test_every_tool_changes_the_segment_as_the_session_says(logic, at, tool):
    logic.addPoint(at(20, 25, 15))
    before = whole(logic)
    if tool == "box":
        logic.addBox(makeRoi(logic, VoxelBox((3, 4, 5), (12, 10, 9))))
        assert whole(logic)[5:9, 4:10, 3:12].all()
    elif tool == "thin box":
        logic.addBox(makeRoi(logic, VoxelBox((3, 4, 5), (12, 10, 6))))
        assert logic.prompts[-1].box == VoxelBox((3, 4, 5), (12, 10, 6))
    elif tool == "scribble":
        logic.addScribble(makeCurve(logic, at, "vtkMRMLMarkupsCurveNode", (5, 5, 5), (40, 5, 5)))
        assert whole(logic)[5, 5, 5:41].all()
    elif tool == "lasso":
        square = ((4, 4, 3), (14, 4, 3), (14, 14, 3), (4, 14, 3))
        logic.addLasso(makeCurve(logic, at, "vtkMRMLMarkupsClosedCurveNode", *square))
        assert whole(logic)[3, 9, 9]
    else:
        logic.addPoint(at(22, 25, 15), positive=False)
        assert not whole(logic)[15, 25, 22]
    assert not np.array_equal(whole(logic), before)
    assert np.array_equal(whole(logic), logic.link.session.mask())


def test_each_prompt_is_one_undo_step_many_levels_deep_and_redo_brings_it_back(logic, at):
    states = [whole(logic)]
    for n in range(12):
        logic.addPoint(at(8 + 4 * n, 25, 15), positive=n % 4 != 3)
        states.append(whole(logic))
    for state in reversed(states[:-1]):
        logic.undo()
        assert np.array_equal(whole(logic), state)
        assert np.array_equal(logic.link.session.mask(), state)
    with pytest.raises(PromptError, match="nothing to undo"):
        logic.undo()
    for state in states[1:]:
        logic.redo()
        assert np.array_equal(whole(logic), state)
    with pytest.raises(PromptError, match="nothing to redo"):
        logic.redo()
    assert logic.link.session.images_set == 1


def test_undo_restores_every_segment_a_prompt_touched(logic, at):
    others = [np.zeros(SHAPE, np.uint8) for _ in range(3)]
    others[0][10:20, 20:30, 22:30] = 1
    others[1][10:20, 30:40, 10:20] = 1
    others[2][:, :, 50:] = 1
    ids = [addOther(logic, mask, f"N{n}") for n, mask in enumerate(others)]
    logic.addPoint(at(20, 28, 15))
    assert whole(logic, ids[0]).sum() < others[0].sum()
    assert not (whole(logic, ids[0]) & whole(logic)).any()
    assert np.array_equal(whole(logic, ids[2]), others[2])
    after = [whole(logic, segmentId) for segmentId in ids]
    logic.undo()
    for segmentId, mask in zip(ids, others, strict=True):
        assert np.array_equal(whole(logic, segmentId), mask)
    logic.redo()
    for segmentId, mask in zip(ids, after, strict=True):
        assert np.array_equal(whole(logic, segmentId), mask)


def test_a_hand_edit_is_continued_from_and_is_an_undo_step_of_its_own(logic, at):
    logic.addPoint(at(20, 25, 15))
    clicked = whole(logic)
    edited = clicked.copy()
    edited[15, 25, 20:23] = 0  # eraser
    edited[5:8, 5:8, 5:8] = 1  # brush
    setWhole(logic, logic.active.segmentId, edited)
    logic.addPoint(at(45, 25, 15))
    both = whole(logic)
    assert both[5:8, 5:8, 5:8].all()
    assert not both[15, 25, 20:23].any()
    assert both[15, 25, 45]
    assert np.array_equal(logic.link.session.mask(), both)
    assert [p.kind for p in logic.prompts] == ["point", "mask", "point"]
    logic.undo()
    assert np.array_equal(whole(logic), edited)
    logic.undo()
    assert np.array_equal(whole(logic), clicked)
    assert np.array_equal(logic.link.session.mask(), clicked)
    logic.redo()
    logic.redo()
    assert np.array_equal(whole(logic), both)


def test_undo_takes_a_hand_edit_back_first_and_redo_returns_it(logic, at):
    logic.addPoint(at(20, 25, 15))
    clicked, edited = whole(logic), whole(logic)
    edited[2:4, 2:4, 2:4] = 1
    setWhole(logic, logic.active.segmentId, edited)
    logic.undo()
    assert np.array_equal(whole(logic), clicked)
    logic.redo()
    assert np.array_equal(whole(logic), edited)
    logic.addPoint(at(45, 25, 15))
    assert whole(logic)[2:4, 2:4, 2:4].all()
    assert np.array_equal(whole(logic), logic.link.session.mask())


def test_a_neighbours_edit_on_the_same_layer_is_not_taken_for_a_hand_edit(logic, at):
    logic.addPoint(at(20, 25, 15))
    block = np.zeros(SHAPE, np.uint8)
    block[:3, :3, :3] = 1
    addOther(logic, block)
    logic.active.node.GetSegmentation().CollapseBinaryLabelmaps(False)
    logic.addPoint(at(40, 25, 15))
    assert [p.kind for p in logic.prompts] == ["point", "point"]


def test_an_existing_segment_is_the_seed_for_prompts_on_it(logic, at):
    block = np.zeros(SHAPE, np.uint8)
    block[10:14, 10:20, 30:40] = 1
    segmentId = addOther(logic, block, "From a file")
    logic.setSegment(logic.active.node, segmentId)
    logic.addPoint(at(10, 40, 20))
    assert whole(logic)[block == 1].all()
    assert [p.kind for p in logic.prompts] == ["mask", "point"]
    logic.undo()
    assert np.array_equal(whole(logic), block)


def test_coming_back_to_a_segment_continues_its_log(logic, at):
    node, first = logic.active.node, logic.active.segmentId
    logic.addPoint(at(15, 25, 15))
    logic.addPoint(at(20, 25, 15))
    second = logic.addSegment(node, "Spleen")
    logic.addPoint(at(45, 25, 15))
    logic.setSegment(node, first)
    assert len(logic.prompts) == 2
    logic.addPoint(at(25, 25, 15))
    assert [p.kind for p in logic.prompts] == ["point"] * 3
    assert np.array_equal(whole(logic), logic.link.session.mask())
    assert whole(logic, second).sum() > 0
    logic.undo()
    logic.undo()  # the spleen's click, on the other segment
    assert logic.active.segmentId == second
    assert whole(logic).sum() == 0
    logic.undo()
    assert logic.active.segmentId == first
    assert len(logic.prompts) == 1
    logic.addPoint(at(30, 25, 15))
    assert np.array_equal(whole(logic), logic.link.session.mask())


def test_a_segment_edited_while_another_was_active_is_continued_as_it_is(logic, at):
    node, first = logic.active.node, logic.active.segmentId
    logic.addPoint(at(15, 25, 15))
    logic.addSegment(node, "Spleen")
    edited = whole(logic, first)
    edited[0:2, 0:2, 0:2] = 1
    setWhole(logic, first, edited)
    logic.setSegment(node, first)
    logic.addPoint(at(45, 25, 15))
    assert whole(logic)[0:2, 0:2, 0:2].all()
    assert np.array_equal(whole(logic), logic.link.session.mask())


def test_moving_and_removing_a_prompt_runs_the_log_again(logic, at):
    logic.addPoint(at(15, 25, 15))
    first = whole(logic)
    logic.addPoint(at(40, 25, 15))
    logic.movePrompt(2, at(44, 25, 15))
    assert whole(logic)[15, 25, 49]
    logic.removePrompt(2)
    assert np.array_equal(whole(logic), first)
    logic.undo()
    assert whole(logic)[15, 25, 49]
    with pytest.raises(PromptError, match="no prompt 99"):
        logic.removePrompt(99)


def test_reset_empties_segment_and_log_in_one_step(logic, at):
    logic.addPoint(at(15, 25, 15))
    logic.addPoint(at(25, 25, 15))
    before = whole(logic)
    logic.reset()
    assert whole(logic).sum() == 0
    assert logic.prompts == ()
    logic.undo()
    assert np.array_equal(whole(logic), before)
    assert len(logic.prompts) == 2


def test_the_threshold_acts_at_once_and_a_run_of_changes_is_one_step(logic, at):
    logic.addPoint(at(25, 25, 15))
    half = whole(logic)
    for value in (0.45, 0.4, 0.3, 0.2):
        logic.setThreshold(value)
        assert np.array_equal(whole(logic), logic.link.session.mask())
    assert whole(logic).sum() > 2 * half.sum()
    logic.undo()
    assert np.array_equal(whole(logic), half)
    logic.addPoint(at(27, 25, 15))  # with the threshold it had then
    assert np.array_equal(whole(logic), logic.link.session.mask())
    assert logic.active.log.threshold == 0.5
    with pytest.raises(PromptError, match="between 0 and 1"):
        logic.setThreshold(1.0)


def test_a_refused_prompt_changes_nothing_at_all(logic, at):
    logic.addPoint(at(25, 25, 15))
    edited = whole(logic)
    edited[1, 1, 1] = 1
    setWhole(logic, logic.active.segmentId, edited)
    before = (whole(logic).tobytes(), len(logic.history.undoSteps), logic.prompts)
    with pytest.raises(PromptError, match="outside Scan"):
        logic.addPoint(at(500, 25, 15))
    with pytest.raises(PromptError, match="no prompt 7"):
        logic.removePrompt(7)  # refused by the session, after the hand edit was found
    assert (whole(logic).tobytes(), len(logic.history.undoSteps), logic.prompts) == before
    logic.addPoint(at(45, 25, 15))
    assert whole(logic)[1, 1, 1]


def test_without_volume_or_segment_the_message_says_what_to_do(headless, scan):
    logic = SegmentationLogic(headless.scene, FakeSession())
    with pytest.raises(ImageError, match="No volume is selected"):
        logic.addPoint((0, 0, 0))
    with pytest.raises(ImageError, match="No volume is selected"):
        logic.setVolume(None)
    logic.setVolume(scan)
    with pytest.raises(PromptError, match="No segment is chosen"):
        logic.addPoint((0, 0, 0))
    with pytest.raises(PromptError, match="No segmentation is chosen"):
        logic.setSegment(None, "")
    with pytest.raises(PromptError, match="no segment to work on"):
        logic.setSegment(headless.addSegmentation(scan), "")


@pytest.mark.parametrize("content", ["nan", "constant"])
def test_an_unusable_scan_is_refused_at_the_first_prompt(content):
    headless = HeadlessScene()
    voxels = np.full(SHAPE, np.nan if content == "nan" else 1.0, np.float32)
    logic = SegmentationLogic(headless.scene, FakeSession())
    logic.setVolume(headless.addVolume(voxels))
    logic.addSegment(headless.addSegmentation())
    with pytest.raises(ImageError):
        logic.addPoint(ijkToWorld(logic.volumeNode)[:3, 3])
    assert logic.active.image().box.is_empty


def test_a_scan_of_one_slice_works():
    headless = HeadlessScene()
    logic = SegmentationLogic(headless.scene, FakeSession())
    logic.setVolume(headless.addVolume(np.arange(2500, dtype=np.int16).reshape(1, 50, 50)))
    logic.addSegment(headless.addSegmentation())
    logic.addPoint(ijkToWorld(logic.volumeNode) @ [25, 25, 0, 1] @ np.eye(4)[:, :3])
    assert np.array_equal(whole(logic), logic.link.session.mask())
    assert whole(logic).sum() > 50


def test_another_session_goes_on_from_the_log(logic, at):
    logic.addPoint(at(15, 25, 15))
    logic.setSession(FakeSession())
    logic.addPoint(at(25, 25, 15))
    assert np.array_equal(whole(logic), logic.link.session.mask())
    assert len(logic.link.session.prompts) == 2


def test_surfaces_stay_on_while_clicking_and_only_changed_ones_are_meshed_again(logic, at):
    from FastSAM3DSlicerLib.SegmentImage import SURFACE

    block = np.zeros(SHAPE, np.uint8)
    block[2:6, 2:8, 2:8] = 1
    other = addOther(logic, block)
    logic.addPoint(at(20, 25, 15))
    logic.active.node.CreateClosedSurfaceRepresentation()
    segments = logic.active.node.GetSegmentation()
    surface = lambda segmentId: segments.GetSegment(segmentId).GetRepresentation(SURFACE)  # noqa: E731
    mine, before, kept = logic.active.segmentId, surface(logic.active.segmentId), surface(other)
    points = before.GetNumberOfPoints()
    logic.addPoint(at(40, 25, 15))
    assert surface(mine) is before
    assert surface(other) is kept
    assert logic.surfaces.stale
    logic.surfaces.refresh()
    assert surface(mine).GetNumberOfPoints() > points
    assert surface(other) is kept
    assert not logic.surfaces.stale
    logic.undo()
    logic.surfaces.refresh()
    assert surface(mine).GetNumberOfPoints() == points


def test_no_surface_is_made_for_somebody_who_shows_none(logic, at):
    from FastSAM3DSlicerLib.SegmentImage import SURFACE

    logic.addPoint(at(20, 25, 15))
    assert not logic.surfaces.stale
    assert logic.active.segment.GetRepresentation(SURFACE) is None


def test_a_hand_edit_found_by_a_refused_prompt_is_still_told_to_the_session(logic, at):
    logic.addPoint(at(25, 25, 15))
    edited = whole(logic)
    edited[1:3, 1:3, 1:3] = 1
    setWhole(logic, logic.active.segmentId, edited)
    with pytest.raises(PromptError):
        logic.removePrompt(7)
    job = logic.preparePoint(at(30, 25, 15))
    job.call()
    job.drop()  # cancelled
    logic.addPoint(at(45, 25, 15))
    assert np.array_equal(whole(logic), logic.link.session.mask())
    assert [p.kind for p in logic.prompts] == ["point", "mask", "point"]


def test_an_edit_made_while_the_engine_computes_is_kept_and_continued_from(logic, at):
    logic.addPoint(at(20, 25, 15))
    job = logic.preparePoint(at(26, 25, 15))
    answer = job.call()
    edited = whole(logic)
    edited[15, 25, 28] = 1 - edited[15, 25, 28]  # inside the coming answer
    edited[2:5, 2:5, 2:5] = 1  # far away from it
    setWhole(logic, logic.active.segmentId, edited)
    job.apply(answer)
    after = whole(logic)
    assert after[2:5, 2:5, 2:5].all()
    assert after[15, 25, 28] == edited[15, 25, 28]
    assert after[15, 25, 31]
    logic.addPoint(at(45, 25, 15))
    assert np.array_equal(whole(logic), logic.link.session.mask())
    assert whole(logic)[2:5, 2:5, 2:5].all()
    logic.undo()
    assert np.array_equal(whole(logic), after)
    logic.undo()
    assert np.array_equal(whole(logic), edited)
    logic.undo()
    assert not whole(logic)[2:5, 2:5, 2:5].any()
    logic.redo()
    logic.redo()
    assert np.array_equal(whole(logic), after)


def test_choosing_the_active_segment_again_changes_nothing(logic, at):
    logic.addPoint(at(20, 25, 15))
    job = logic.preparePoint(at(26, 25, 15))
    answer = job.call()
    logic.setSegment(logic.active.node, logic.active.segmentId)
    job.apply(answer)
    assert len(logic.prompts) == 2
    assert np.array_equal(whole(logic), logic.link.session.mask())


def test_five_hundred_clicks_keep_the_history_bounded(logic, at):
    from FastSAM3DSlicerLib.History import MAXIMUM_STEPS

    rng = np.random.default_rng(0)
    for _ in range(500):
        logic.addPoint(at(*rng.uniform([5, 5, 5], [55, 45, 25])), positive=bool(rng.random() > 0.3))
    assert len(logic.history.undoSteps) == MAXIMUM_STEPS
    held = sum(len(snapshot.bits) for step in logic.history.undoSteps for _, snapshot in step.changes)
    assert held < MAXIMUM_STEPS * 2000
    assert np.array_equal(whole(logic), logic.link.session.mask())
