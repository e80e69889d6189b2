"""Saving and reopening, scene close, deleted nodes, swapped volumes, sequences."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from FastSAM3DCore.errors import FastSAM3DError, ImageError, PromptError
from FastSAM3DSlicerLib import SegmentationLogic
from FastSAM3DSlicerLib.PromptStore import LOG_TAG, storedModel
from FastSAM3DSlicerLib.PromptSync import PromptSync
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, transformPoints
from Testing.core.fakes import FakeSession
from Testing.mrml.conftest import SHAPE, setWhole, whole
from Testing.mrml.scene import HeadlessScene, bend


def reopened(logic, tmp_path):
    """The scene saved as .mrb and opened again: new logic, new session."""
    path = str(tmp_path / "case.mrb")
    assert logic.scene.WriteToMRB(path)
    headless = HeadlessScene()
    assert headless.scene.ReadFromMRB(path)
    again = SegmentationLogic(headless.scene, FakeSession())
    again.keepAlive = headless
    again.setVolume(headless.scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode"))
    node = headless.scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    again.setSegment(node, node.GetSegmentation().GetNthSegmentID(0))
    return again


def test_a_reopened_mrb_goes_on_refining(logic, at, tmp_path):
    logic.addPoint(at(20, 25, 15))
    logic.addPoint(at(28, 25, 15))
    logic.addPoint(at(24, 29, 15), positive=False)
    logic.setThreshold(0.4)
    before = whole(logic)
    again = reopened(logic, tmp_path)
    assert again.prompts == logic.prompts
    assert again.active.log.threshold == 0.4
    assert storedModel(again.active.segment) == logic.link.session.model
    assert np.array_equal(whole(again), before)
    sync = PromptSync(again)
    sync.mirror()
    assert [node.GetNumberOfControlPoints() for node, _ in sync.markups.lists.values()] == [2, 1]
    position = at(35, 25, 15)
    again.addPoint(position)
    logic.addPoint(position)
    assert np.array_equal(whole(again), whole(logic))
    again.removePrompt(3)
    assert whole(again)[15, 29, 24]


def test_a_log_with_a_hand_edit_of_a_million_runs_survives_the_file(logic, at, tmp_path):
    logic.addPoint(at(20, 25, 15))
    speckle = (np.random.default_rng(3).random(SHAPE) > 0.5).astype(np.uint8)
    setWhole(logic, logic.active.segmentId, speckle)
    logic.addPoint(at(30, 25, 15))
    before = whole(logic)
    again = reopened(logic, tmp_path)
    assert [p.kind for p in again.prompts] == ["point", "mask", "point"]
    assert np.array_equal(again.prompts[1].mask_kji(), speckle)
    again.addPoint(at(50, 40, 5))
    again.undo()
    assert np.array_equal(whole(again), before)


def test_a_segment_edited_elsewhere_after_saving_is_continued_as_it_is(logic, at, tmp_path):
    logic.addPoint(at(20, 25, 15))
    edited = whole(logic)
    edited[0:3, 0:3, 0:3] = 1
    setWhole(logic, logic.active.segmentId, edited)
    again = reopened(logic, tmp_path)
    assert again.prompts == ()
    again.addPoint(at(45, 25, 15))
    assert whole(again)[0:3, 0:3, 0:3].all()
    assert [p.kind for p in again.prompts] == ["mask", "point"]


@pytest.mark.parametrize("damage", ["not base64!", "bm90IHpsaWI=", "."])
def test_a_damaged_log_is_ignored_and_the_mask_is_kept(logic, at, tmp_path, damage):
    logic.addPoint(at(20, 25, 15))
    before = whole(logic)
    logic.active.segment.SetTag(LOG_TAG, damage)
    again = reopened(logic, tmp_path)
    assert again.prompts == ()
    assert np.array_equal(whole(again), before)


def test_closing_the_scene_leaves_a_logic_that_can_start_again(logic, at, headless):
    sync = PromptSync(logic)
    sync.pointsNode(True).AddControlPointWorld(*at(20, 25, 15))
    assert len(logic.prompts) == 1
    sync.close()
    headless.scene.Clear(0)
    logic.clear()
    with pytest.raises(FastSAM3DError, match="No volume"):
        logic.addPoint((0, 0, 0))
    with pytest.raises(PromptError, match="nothing to undo"):
        logic.undo()
    logic.setVolume(headless.addVolume(np.arange(27000, dtype=np.int16).reshape(30, 30, 30)))
    logic.addSegment(headless.addSegmentation(), "New")
    logic.addPoint(transformPoints(ijkToWorld(logic.volumeNode), [[15, 15, 15]])[0])
    assert whole(logic).sum() > 500


@pytest.mark.parametrize("gone", ["segment", "segmentation", "volume", "scene"])
def test_a_node_deleted_while_the_engine_runs_costs_nothing_but_the_answer(logic, at, headless, gone):
    node, volume = logic.active.node, logic.volumeNode
    logic.addPoint(at(20, 25, 15))
    job = logic.preparePoint(at(40, 25, 15))
    answer = job.call()
    if gone == "segment":
        node.GetSegmentation().RemoveSegment(logic.active.segmentId)
    elif gone == "segmentation":
        headless.scene.RemoveNode(node)
    elif gone == "volume":
        headless.scene.RemoveNode(volume)
    else:
        headless.scene.Clear(0)
        logic.clear()
    with pytest.raises(PromptError, match="meanwhile"):
        job.apply(answer)
    with pytest.raises(FastSAM3DError):
        logic.addPoint((0.0, 0.0, 0.0))


def test_a_volume_swapped_while_the_engine_runs_keeps_the_answer_out(logic, at, headless):
    node, segmentId, volume = logic.active.node, logic.active.segmentId, logic.volumeNode
    logic.addPoint(at(20, 25, 15))
    before = whole(logic)
    job = logic.preparePoint(at(40, 25, 15))
    answer = job.call()
    other = headless.addVolume(np.arange(8000, dtype=np.int16).reshape(20, 20, 20), name="Other")
    logic.setVolume(other)
    logic.setSegment(node, segmentId)
    with pytest.raises(PromptError, match="meanwhile"):
        job.apply(answer)
    logic.setVolume(volume)
    logic.setSegment(node, segmentId)
    assert np.array_equal(whole(logic), before)
    assert len(logic.prompts) == 1
    logic.addPoint(at(40, 25, 15))
    assert np.array_equal(whole(logic), logic.link.session.mask())


def test_undo_after_its_segmentation_is_gone_says_so(logic, at, headless):
    logic.addPoint(at(20, 25, 15))
    headless.scene.RemoveNode(logic.active.node)
    with pytest.raises(PromptError, match="gone"):
        logic.undo()
    with pytest.raises(PromptError, match="nothing to undo"):
        logic.undo()


@pytest.fixture
def sequence(headless):
    """Three time points shown by one proxy volume."""
    node = headless.scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine")
    for n in range(3):
        voxels = np.random.default_rng(n).integers(0, 99, SHAPE).astype(np.int16)
        frame = headless.addVolume(voxels, name=f"frame {n}")
        node.SetDataNodeAtValue(frame, str(n))
        headless.scene.RemoveNode(frame)
    browser = headless.scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.AddSynchronizedSequenceNode(node)
    logics = headless.logics["Sequences"]
    logics.UpdateProxyNodesFromSequences(browser)

    def go(n):
        browser.SetSelectedItemNumber(n)
        logics.UpdateProxyNodesFromSequences(browser)

    return browser.GetProxyNode(node), go


def test_each_time_point_of_a_sequence_has_its_own_log_and_the_session_is_told(headless, sequence):
    volume, go = sequence
    logic = SegmentationLogic(headless.scene, FakeSession())
    logic.setVolume(volume)
    logic.addSegment(headless.addSegmentation(), "Ventricle")
    world = lambda *ijk: transformPoints(ijkToWorld(volume), [ijk])[0]  # noqa: E731
    logic.addPoint(world(20, 25, 15))
    assert logic.link.session.images_set == 1
    go(1)
    logic.addPoint(world(40, 25, 15))
    assert logic.link.session.images_set == 2
    assert np.array_equal(logic.link.session._volume.array_kji, np.random.default_rng(1).integers(0, 99, SHAPE))
    assert [p.kind for p in logic.prompts] == ["mask", "point"]  # the mask of the frame before is the seed
    assert np.array_equal(whole(logic), logic.link.session.mask())
    logic.undo()
    go(0)
    logic.addPoint(world(22, 25, 15))
    assert logic.link.session.images_set == 3
    assert [p.kind for p in logic.prompts] == ["point", "point"]


def test_a_segments_status_says_that_work_began(logic, at):
    L = slicer.vtkSlicerSegmentationsModuleLogic
    assert L.GetSegmentStatus(logic.active.segment) == L.NotStarted
    logic.addPoint(at(20, 25, 15))
    assert L.GetSegmentStatus(logic.active.segment) == L.InProgress


def test_a_segmentation_with_one_time_point_each_keeps_segments_and_logs_apart(headless, sequence):
    volume, go = sequence
    node = headless.addSegmentation(volume)
    node.GetSegmentation().AddEmptySegment("organ", "Organ")
    segments = headless.scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Segmentations")
    for n in range(3):
        segments.SetDataNodeAtValue(node, str(n))
    headless.scene.RemoveNode(node)
    browser = headless.scene.GetFirstNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.AddSynchronizedSequenceNode(segments)
    browser.SetSaveChanges(segments, True)
    headless.logics["Sequences"].UpdateProxyNodesFromSequences(browser)
    logic = SegmentationLogic(headless.scene, FakeSession())
    logic.setVolume(volume)
    logic.setSegment(browser.GetProxyNode(segments), "organ")
    world = lambda *ijk: transformPoints(ijkToWorld(volume), [ijk])[0]  # noqa: E731
    logic.addPoint(world(20, 25, 15))
    first = whole(logic)
    go(1)
    logic.addPoint(world(40, 25, 15))
    logic.addPoint(world(44, 25, 15))
    second = whole(logic)
    assert not (first & second).any()
    assert [p.kind for p in logic.prompts] == ["point", "point"]
    go(0)
    logic.active.refresh()
    assert np.array_equal(whole(logic), first)
    assert len(logic.prompts) == 1
    go(1)
    logic.active.refresh()
    assert np.array_equal(whole(logic), second)
    assert len(logic.prompts) == 2


@pytest.mark.parametrize("what", ["scan", "segmentation"])
def test_a_bending_transform_added_later_is_refused_and_taking_it_away_goes_on(logic, at, headless, what):
    logic.addPoint(at(20, 25, 15))
    before, log = whole(logic), logic.prompts
    node = logic.volumeNode if what == "scan" else logic.active.node
    position = at(30, 25, 15)
    bend(headless.scene, node)
    with pytest.raises(ImageError, match=r"non-linear transform Warp.*Harden"):
        logic.addPoint(position)
    node.SetAndObserveTransformNodeID(None)
    assert np.array_equal(whole(logic), before)
    assert logic.prompts == log
    logic.addPoint(position)
    assert np.array_equal(whole(logic), logic.link.session.mask())


@pytest.mark.parametrize("what", ["scan", "segmentation"])
def test_a_bending_transform_added_while_the_engine_runs_keeps_the_answer_out(logic, at, headless, what):
    logic.addPoint(at(20, 25, 15))
    before = whole(logic)
    node = logic.volumeNode if what == "scan" else logic.active.node
    job = logic.preparePoint(at(40, 25, 15))
    answer = job.call()
    bend(headless.scene, node)
    with pytest.raises(ImageError, match="non-linear"):
        job.applied(answer)
    node.SetAndObserveTransformNodeID(None)
    assert np.array_equal(whole(logic), before)
    logic.addPoint(at(28, 25, 15))
    assert [round(p.point_ijk[0]) for p in logic.prompts] == [20, 28]  # the engine was told again
    assert np.array_equal(whole(logic), logic.link.session.mask())


def test_a_prompt_on_a_hidden_segment_says_that_nobody_sees_it(logic, at):
    display = logic.active.node.GetDisplayNode()
    display.SetSegmentVisibility(logic.active.segmentId, False)
    logic.addPoint(at(20, 25, 15))
    assert whole(logic).any()
    assert "it is hidden" in logic.said[-1]
    display.SetSegmentVisibility(logic.active.segmentId, True)
    logic.addPoint(at(28, 25, 15))
    assert "hidden" not in logic.said[-1]
    display.SetVisibility(False)
    logic.addPoint(at(35, 25, 15))
    assert "it is hidden" in logic.said[-1]
