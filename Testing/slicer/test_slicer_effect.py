"""The Segment Editor effect: the same logic under the editor's volume, segment, masks, overwrite mode and undo."""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import slicer

from FastSAM3DCore.errors import DeviceError, FastSAM3DError
from FastSAM3DSlicerLib.Job import Job
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, transformPoints
from Testing.core.fakes import FakeSession
from Testing.mrml.conftest import SHAPE, addOther, setWhole, whole
from Testing.mrml.slow import NEEDS_USLEEP, SMALL_STEPS, smallSteps, ticksOf
from Testing.slicer.conftest import ROOT, Installer
from Testing.slicer.qt_harness.scripted import ScriptedEffect

EFFECT = ROOT / "FastSAM3DSlicer" / "SegmentEditorFastSAM3DLib" / "SegmentEditorFastSAM3DEffect.py"


@pytest.fixture
def effect(harness):
    harness.app.newScene()
    harness.loadModule(ROOT / "FastSAM3DSlicer" / "FastSAM3DSlicer.py")
    spec = importlib.util.spec_from_file_location(EFFECT.stem, EFFECT)
    python = importlib.util.module_from_spec(spec)
    sys.modules[EFFECT.stem] = python
    spec.loader.exec_module(python)
    scan = harness.headless.addVolume(np.random.default_rng(0).integers(0, 99, SHAPE).astype(np.int16))
    segmentation = harness.headless.addSegmentation(scan)
    segmentId = segmentation.GetSegmentation().AddEmptySegment("", "Organ")
    editor = slicer.vtkMRMLSegmentEditorNode()
    harness.scene.AddNode(editor)
    editor.SetAndObserveSegmentationNode(segmentation)
    editor.SetAndObserveSourceVolumeNode(scan)
    editor.SetSelectedSegmentID(segmentId)
    host = ScriptedEffect(editor)
    made = getattr(python, EFFECT.stem)(host)
    made.installer = Installer()
    made.setupOptionsFrame()
    interaction = harness.scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    observer = host.observeMouseMode(interaction)
    host.selectEffect(made)

    def place(*ijk):
        position = transformPoints(ijkToWorld(scan), [ijk])[0]
        made.controller.sync.pointsNode(made.controller.tools.positive).AddControlPointWorld(*position)
        settle()

    def settle():
        end = time.monotonic() + 10
        while made.controller.runner.busy:
            assert time.monotonic() < end
            made.pump()
            time.sleep(0.002)

    yield SimpleNamespace(
        effect=made,
        host=host,
        editor=editor,
        place=place,
        settle=settle,
        segmentId=segmentId,
        scan=scan,
        logic=made.controller.logic,
        harness=harness,
    )
    interaction.RemoveObserver(observer)
    made.cleanup()


def module():
    """The choices made in the FastSAM3D module."""
    return sys.modules["FastSAM3DSlicer"].FastSAM3DSlicerLogic().getParameterNode()


def test_a_click_with_the_effect_fills_the_selected_segment_and_saves_an_undo_state(effect):
    effect.effect.buttons["point"].click()
    assert effect.effect.statusLabel.text == "Point adds to Organ in Scan."
    effect.place(20, 25, 15)
    assert np.array_equal(whole(effect.logic), effect.effect.installer.sessions[0].mask())
    assert effect.host.undoStates == 1


def test_the_editors_overwrite_mode_and_masks_decide(effect):
    block = np.zeros(SHAPE, np.uint8)
    block[10:20, 20:30, 22:30] = 1
    other = addOther(effect.logic, block)
    effect.editor.SetOverwriteMode(effect.editor.OverwriteNone)
    effect.place(20, 25, 15)
    assert np.array_equal(whole(effect.logic, other), block)
    effect.editor.SetOverwriteMode(effect.editor.OverwriteAllSegments)
    effect.place(24, 25, 15)
    assert whole(effect.logic, other).sum() < block.sum()
    effect.editor.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments)
    before = whole(effect.logic, other)
    effect.place(28, 25, 15)
    assert np.array_equal(whole(effect.logic, other), before)


def test_an_undo_by_the_editor_is_continued_from(effect):
    effect.place(20, 25, 15)
    first = whole(effect.logic)
    effect.place(40, 25, 15)
    setWhole(effect.logic, effect.segmentId, first)  # what the editor's undo does
    effect.place(30, 25, 15)
    assert np.array_equal(whole(effect.logic), effect.effect.installer.sessions[0].mask())
    assert not whole(effect.logic)[15, 25, 45]


def test_choosing_another_segment_in_the_editor_changes_the_target(effect):
    effect.place(20, 25, 15)
    second = effect.editor.GetSegmentationNode().GetSegmentation().AddEmptySegment("", "Second")
    effect.editor.SetSelectedSegmentID(second)
    effect.effect.updateGUIFromMRML()
    assert effect.logic.active.segmentId == second
    effect.place(45, 25, 15)
    assert effect.logic.active.log.prompts[0].point_ijk == pytest.approx((45, 25, 15), abs=1e-3)
    assert whole(effect.logic, effect.segmentId)[15, 25, 20]


def test_another_effect_puts_tools_and_markups_away(effect):
    effect.effect.buttons["point"].click()
    effect.place(20, 25, 15)
    effect.host.selectEffect(None)
    interaction = effect.harness.scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    assert effect.harness.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0
    assert not effect.effect.buttons["point"].checked
    effect.host.selectEffect(effect.effect)
    assert effect.effect.controller.sync.pointsNode(True).GetNumberOfControlPoints() == 1


def test_the_remove_button_changes_the_sign(effect):
    effect.place(20, 25, 15)
    effect.effect.removeButton.click()
    assert "removes from" in effect.effect.statusLabel.text
    effect.place(22, 25, 15)
    assert not whole(effect.logic)[15, 25, 22]


def test_a_refused_installation_is_said(effect):
    effect.effect.installer.answer = False
    effect.effect.buttons["lasso"].click()
    assert "PyTorch is needed" in effect.effect.statusLabel.text
    assert effect.effect.controller.tools.tool == ""

    def fail(again=False):
        raise FastSAM3DError("No internet; try again later.")

    effect.effect.installer.ensure = fail
    effect.effect.buttons["lasso"].click()
    assert "No internet" in effect.effect.statusLabel.text


def test_the_point_tool_does_not_make_the_editor_deselect_the_effect(effect):
    effect.effect.buttons["point"].click()
    interaction = effect.harness.scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    assert effect.host.effect is effect.effect
    assert effect.effect.buttons["point"].checked
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)  # Escape
    assert effect.host.effect is effect.effect
    assert not effect.effect.buttons["point"].checked


@pytest.mark.parametrize("again", ["another tool", "the effect"])
def test_what_is_chosen_in_the_module_later_is_used_from_the_next_prompt_on(effect, again):
    effect.place(20, 25, 15)
    before = whole(effect.logic)
    installer = effect.effect.installer
    for field, value, engine in (
        ("device", "cuda", ("default", "cuda", "", "")),
        ("model", "fastsam3d", ("fastsam3d", "cuda", "", "")),
        ("serverUrl", "http://gpu:1527", ("fastsam3d", "cuda", "http://gpu:1527", "")),
        ("serverUrl", "", ("fastsam3d", "cuda", "", "")),
    ):
        setattr(module(), field, value)
        if again == "the effect":
            effect.host.selectEffect(None)
            effect.host.selectEffect(effect.effect)
            assert "the next prompt uses" in effect.effect.statusLabel.text.lower()
        else:
            effect.effect.buttons["box"].click()
        effect.place(22 + len(installer.opened), 25, 15)
        assert installer.opened[-1] == engine
        assert [session.closed for session in installer.sessions] == [True] * (len(installer.sessions) - 1) + [False]
    assert len(installer.opened) == 5
    assert len(effect.logic.prompts) == 5
    assert whole(effect.logic)[before == 1].all()
    effect.effect.buttons["box"].click()
    effect.settle()
    assert len(installer.opened) == 5


def test_a_server_needs_no_pytorch_here(effect):
    effect.effect.installer.answer = False
    module().serverUrl = "http://gpu:1527"
    effect.effect.buttons["lasso"].click()
    assert effect.effect.controller.tools.tool == "lasso"
    assert effect.effect.installer.asked == 0
    effect.settle()
    module().serverUrl = ""
    effect.effect.buttons["box"].click()
    assert "PyTorch is needed" in effect.effect.statusLabel.text


def test_the_worker_never_touches_the_parameter_node(effect, monkeypatch):
    logic, threads = sys.modules["FastSAM3DSlicer"].FastSAM3DSlicerLogic, set()
    original = logic.getParameterNode

    def recorded(self):
        threads.add(threading.current_thread())
        return original(self)

    monkeypatch.setattr(logic, "getParameterNode", recorded)
    module().device = "cuda"
    effect.effect.buttons["point"].click()
    effect.place(20, 25, 15)
    assert effect.effect.installer.opened == [("default", "cuda", "", "")]
    assert threads == {threading.main_thread()}


def test_a_full_graphics_card_goes_on_on_the_cpu_and_the_module_says_so(effect):
    def full(*_):
        raise DeviceError("cuda:0 ran out of memory; choose the CPU or close other programs.")

    failing = FakeSession()
    failing.add_point = full
    sessions = [failing, FakeSession()]
    effect.effect.installer.open = lambda: sessions.pop(0)
    effect.place(20, 25, 15)
    assert effect.effect.installer.opened == [("default", "auto", "", ""), ("default", "cpu", "", "")]
    assert module().device == "cpu"
    effect.effect.buttons["point"].click()
    effect.place(30, 25, 15)
    assert len(effect.effect.installer.opened) == 2  # not on the card again
    assert len(effect.logic.prompts) == 2


def test_slice_views_of_another_layout_are_used_as_soon_as_the_editor_tells(effect):
    effect.effect.buttons["scribble"].click()
    effect.settle()
    layout = effect.harness.app.layoutManager()
    layout.addSliceViews("Slice4")
    effect.effect.layoutChanged()
    display = effect.effect.controller.sync.pointsNode(True).GetDisplayNode()
    assert display.IsDisplayableInView(layout.sliceWidget("Slice4").mrmlSliceNode().GetID())
    assert effect.effect.controller.tools.tool == "scribble"
    assert effect.effect.buttons["scribble"].checked
    effect.host.selectEffect(None)
    effect.effect.layoutChanged()  # told to every effect, active or not
    assert effect.harness.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0


@NEEDS_USLEEP
def test_the_worker_gets_on_between_the_timers_ticks(effect):
    runner, timer = effect.effect.controller.runner, effect.effect.timer
    runner.submit(lambda: Job("steps", smallSteps, lambda _: None, lambda: None), lambda _: None)
    assert ticksOf(runner, timer.timeout.emit) < SMALL_STEPS / 4
