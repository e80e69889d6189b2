"""The queue, the worker, cancel, out-of-memory, overlay, slice review: with a real thread, without widgets."""

from __future__ import annotations

import re
import threading
import time

import numpy as np
import pytest
import slicer

from FastSAM3DCore.errors import CancelledError, DeviceError, FastSAM3DError
from FastSAM3DSlicerLib.Controller import Controller
from FastSAM3DSlicerLib.DeferredSession import DeferredSession
from FastSAM3DSlicerLib.SessionRunner import MAXIMUM_WAITING, SessionRunner
from FastSAM3DSlicerLib.Shortcuts import DEFAULTS, Shortcuts
from FastSAM3DSlicerLib.Statistics import dice
from FastSAM3DSlicerLib.Uncertainty import uncertaintyOf
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, matrixFromArray, transformPoints
from Testing.core.fakes import FakeSession
from Testing.mrml.conftest import addOther, whole


class SlowSession(FakeSession):
    """Answers when told to; remembers the thread; can be cancelled like the real one."""

    def __init__(self, **options):
        super().__init__(**options)
        self.gate = threading.Event()
        self.gate.set()
        self.threads = set()
        self.failure = None
        self._cancelled = False

    def add_point(self, point_ijk, positive=True):
        self.threads.add(threading.current_thread().name)
        self.gate.wait(10)
        if self._cancelled:
            self._cancelled = False
            raise CancelledError("The prompt was cancelled; nothing was changed.")
        if self.failure is not None:
            raise self.failure
        return super().add_point(point_ijk, positive)

    def cancel(self):
        self._cancelled = True
        self.gate.set()


def pumpUntil(condition, runner, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the runner did not get there"
        runner.pump()
        time.sleep(0.002)


def finish(controller):
    pumpUntil(lambda: not controller.runner.busy, controller.runner)


@pytest.fixture
def session():
    return SlowSession()


@pytest.fixture
def controller(headless, scan, session):
    said = []
    sliceNode = headless.scene.AddNewNodeByClass("vtkMRMLSliceNode")
    sliceNode.SetLayoutName("Red")
    headless.scene.AddNode(slicer.vtkMRMLInteractionNode())
    headless.scene.AddNode(slicer.vtkMRMLSelectionNode())
    controller = Controller(headless.scene, DeferredSession(lambda: session), list, said.append)
    controller.said = said
    node = headless.addSegmentation()
    controller.select(scan, None, "")
    controller.nextSegment(node)
    controller.at = lambda *ijk: transformPoints(ijkToWorld(scan), [ijk])[0]
    controller.click = lambda *ijk: controller.sync.pointsNode(True).AddControlPointWorld(*controller.at(*ijk))
    yield controller
    session.gate.set()
    controller.close()


def test_prompts_are_answered_on_one_persistent_worker_and_applied_in_order(controller, session):
    session.gate.clear()
    for i in (10, 25, 40):
        controller.click(i, 25, 15)
    assert controller.runner.busy
    assert whole(controller.logic).sum() == 0
    session.gate.set()
    finish(controller)
    assert [round(p.point_ijk[0]) for p in controller.logic.prompts] == [10, 25, 40]
    assert len(session.threads) == 1
    assert not session.threads & {threading.main_thread().name}
    assert np.array_equal(whole(controller.logic), session.mask())


def test_cancel_drops_what_runs_and_what_waits_and_the_next_prompt_is_right(controller, session):
    controller.click(10, 25, 15)
    finish(controller)
    before = whole(controller.logic)
    session.gate.clear()
    controller.click(25, 25, 15)
    controller.click(40, 25, 15)
    controller.runner.cancel()
    finish(controller)
    assert np.array_equal(whole(controller.logic), before)
    assert controller.sync.pointsNode(True).GetNumberOfControlPoints() == 1
    controller.click(30, 25, 15)
    finish(controller)
    assert [round(p.point_ijk[0]) for p in controller.logic.prompts] == [10, 30]
    assert np.array_equal(whole(controller.logic), session.mask())


def test_an_answer_that_comes_although_cancelled_is_taken_back(controller, session):
    session.cancel = lambda: None  # an engine that cannot be interrupted
    session.gate.clear()
    controller.click(25, 25, 15)
    controller.runner.cancel()
    session.gate.set()
    finish(controller)
    assert whole(controller.logic).sum() == 0
    controller.click(40, 25, 15)
    finish(controller)
    assert len(controller.logic.prompts) == 1
    assert np.array_equal(whole(controller.logic), session.mask())


def test_the_queue_refuses_the_twenty_second_prompt_and_keeps_the_others(controller, session):
    session.gate.clear()
    for n in range(MAXIMUM_WAITING + 1):
        controller.click(5 + 2 * n, 25, 15)
    controller.click(50, 25, 15)
    assert "wait a moment" in controller.said[-1]
    session.gate.set()
    finish(controller)
    assert len(controller.logic.prompts) == MAXIMUM_WAITING + 1
    assert controller.sync.pointsNode(True).GetNumberOfControlPoints() == MAXIMUM_WAITING + 1


def test_running_out_of_graphics_memory_goes_on_on_the_cpu_with_a_notice(controller, session):
    cpu = SlowSession()
    controller._fallback = lambda: DeferredSession(lambda: cpu)
    controller.click(10, 25, 15)
    finish(controller)
    session.failure = DeviceError("cuda:0 ran out of memory; choose the CPU or close other programs.")
    controller.click(30, 25, 15)
    finish(controller)
    assert any("ran out of memory" in line and "Continuing on the CPU" in line for line in controller.said)
    assert len(controller.logic.prompts) == 2
    assert np.array_equal(whole(controller.logic), cpu.mask())
    assert session.closed


def test_without_a_way_out_a_device_error_is_said_and_nothing_changes(controller, session):
    session.failure = DeviceError("cpu ran out of memory.")
    controller.click(30, 25, 15)
    finish(controller)
    assert "ran out of memory" in controller.said[-1]
    assert controller.logic.prompts == ()
    assert controller.sync.pointsNode(True).GetNumberOfControlPoints() == 0


def test_a_bug_in_the_engine_reaches_the_status_line_not_the_user_as_a_traceback(controller, session, caplog):
    session.failure = ZeroDivisionError("oops")
    controller.click(30, 25, 15)
    finish(controller)
    assert "unexpected" in controller.said[-1]
    assert "oops" in controller.said[-1]
    assert "Unexpected error in the engine" in caplog.text
    session.failure = None
    controller.click(30, 25, 15)
    finish(controller)
    assert np.array_equal(whole(controller.logic), session.mask())


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


def test_the_threshold_slider_computes_only_the_newest_value(controller, session):
    controller.click(25, 25, 15)
    finish(controller)
    asked = []
    original = session.set_threshold
    session.set_threshold = lambda value: (asked.append(value), original(value))[1]
    for value in np.linspace(0.45, 0.2, 30):
        controller.setThreshold(float(value))
    finish(controller)
    assert asked[-1] == pytest.approx(0.2)
    assert len(asked) < 5
    assert np.array_equal(whole(controller.logic), session.mask())
    controller.undo()
    finish(controller)
    assert controller.logic.active.log.threshold == 0.5


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
    mask = whole(logic)
    same = addOther(logic, mask, "Same")
    shifted = np.roll(mask, 3, axis=2)
    other = addOther(logic, shifted, "Shifted")
    assert dice(logic.active, logic.active.node, same) == 1.0
    expected = 2 * (mask & shifted).sum() / (mask.sum() + shifted.sum())
    assert dice(logic.active, logic.active.node, other) == pytest.approx(expected)
    with pytest.raises(FastSAM3DError, match="gone"):
        dice(logic.active, logic.active.node, "nothing")


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


def test_busy_text_appears_after_a_second_only(controller, session):
    session.gate.clear()
    controller.click(25, 25, 15)
    assert controller.runner.busyText == ""
    controller.runner._started -= 60
    assert re.fullmatch(r"point: 6\d s", controller.runner.busyText)
    session.gate.set()
    finish(controller)
    assert controller.runner.busyText == ""


def test_closing_the_runner_waits_for_the_worker_and_drops_its_answer():
    dropped, session = [], SlowSession()
    runner = SessionRunner(lambda *_: None)
    from FastSAM3DSlicerLib import Job

    session.gate.clear()
    job = Job("wait", lambda: session.gate.wait(10), lambda _: None, lambda: dropped.append(1))
    runner.submit(lambda: job, lambda _: None)
    threading.Timer(0.05, session.gate.set).start()
    runner.close()
    assert dropped == [1]


class Settings(dict):
    def value(self, key, default):
        return self.get(key, default)

    def setValue(self, key, value):
        self[key] = value


def test_shortcuts_live_only_while_enabled_and_can_be_changed():
    live, settings = {}, Settings()
    keys = Shortcuts(settings, lambda key, f: live.setdefault(key, f) and key, lambda key: live.pop(key))
    assert live == {}
    calls = []
    keys.enable({action: (lambda a=action: calls.append(a)) for action in DEFAULTS})
    assert len(live) == len(DEFAULTS) == len(set(live))
    live["A"]()
    assert calls == ["point"]
    keys.setKey("point", "G")
    assert "G" in live
    assert "A" not in live
    with pytest.raises(FastSAM3DError, match="key of 'Point tool'"):
        keys.setKey("box", "g")
    keys.setKey("reset", "")
    assert "Shift+R" not in live
    keys.disable()
    assert live == {}
    again = Shortcuts(settings, lambda key, f: key, lambda key: None)
    assert again.key("point") == "G"
    again.restoreDefaults()
    assert again.key("point") == "A"


def test_no_default_key_is_one_that_slicer_uses_itself():
    taken = {"del", "backspace", "s", "p", "ctrl+z", "ctrl+y", "ctrl+s"}
    assert not taken & {key.lower() for key, _ in DEFAULTS.values()}


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


def test_an_edit_made_while_undo_runs_is_not_lost(controller, session):
    from Testing.mrml.conftest import setWhole

    controller.click(25, 25, 15)
    finish(controller)
    job = controller.logic.prepareTurn(redo=False)
    job.call()
    edited = whole(controller.logic)
    edited[1:3, 1:3, 1:3] = 1
    setWhole(controller.logic, controller.logic.active.segmentId, edited)
    with pytest.raises(FastSAM3DError, match="edited meanwhile"):
        job.apply(None)
    assert np.array_equal(whole(controller.logic), edited)
    controller.undo()
    finish(controller)
    assert not whole(controller.logic)[1:3, 1:3, 1:3].any()
    assert whole(controller.logic)[15, 25, 25]
