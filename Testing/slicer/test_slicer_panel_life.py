"""The panel over time: choices in the scene, enter and exit, keys, scene close, deleted nodes, long prompts."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from FastSAM3DSlicerLib.Job import Job
from FastSAM3DSlicerLib.Shortcuts import DEFAULTS
from Testing.core.fakes import FakeSession
from Testing.mrml.conftest import whole
from Testing.mrml.slow import NEEDS_USLEEP, SMALL_STEPS, smallSteps, ticksOf
from Testing.slicer.steps import at, place, withSession


def test_choices_are_saved_in_the_scene_and_shown_again(ready):
    ready.parameters().sliceMode = True
    ready.parameters().slabMm = 4.0
    ready.parameters().showUncertainty = True
    ready.settle()
    assert ready.controller.review.on
    assert ready.controller.review.slabMm == 4.0
    assert ready.ui.sliceModeCheck.checked
    assert ready.ui.fillButton.enabled
    assert ready.controller.overlayOn
    ready.widget.exit()
    ready.widget.enter()
    assert ready.ui.sliceModeCheck.checked
    assert ready.ui.slabSpin.value == 4.0
    ready.ui.sliceModeCheck.click()
    assert not ready.controller.review.on
    assert not ready.ui.fillButton.enabled


def test_out_of_range_choices_are_refused(ready):
    with pytest.raises(ValueError, match="between"):
        ready.parameters().threshold = 2.0
    with pytest.raises(ValueError, match="between"):
        ready.parameters().slabMm = -1.0


def test_keys_live_only_while_the_module_is_open(ready):
    assert set(ready.panel.shortcuts.live) == set(DEFAULTS)
    ready.panel.shortcuts.live["lasso"].activated.emit()
    assert ready.controller.tools.tool == "lasso"
    ready.panel.shortcuts.live["sign"].activated.emit()
    assert not ready.controller.tools.positive
    old = list(ready.panel.shortcuts.live.values())
    ready.widget.exit()
    assert ready.panel.shortcuts.live == {}
    assert not any(shortcut.enabled for shortcut in old)
    ready.widget.enter()
    assert set(ready.panel.shortcuts.live) == set(DEFAULTS)


def test_keys_are_listed_and_can_be_edited(ready):
    table = ready.ui.shortcutsTable
    assert table.rowCount == len(DEFAULTS)
    row = list(DEFAULTS).index("point")
    table.item(row, 1).setText("g")
    assert ready.panel.shortcuts.key("point") == "G"
    assert ready.panel.shortcuts.live["point"].key.toString() == "G"
    table.item(row, 1).setText("B")  # the box tool's
    assert "Box tool" in ready.ui.statusLabel.text
    table.item(row, 1).setText("return")
    assert "Return ends an entry" in ready.ui.statusLabel.text
    assert table.item(row, 1).text() == "G"
    ready.ui.restoreShortcutsButton.click()
    assert table.item(row, 1).text() == "A"


def test_leaving_puts_the_tool_down_and_coming_back_shows_the_prompts(ready):
    place(ready, 20, 25, 15)
    ready.widget.exit()
    interaction = ready.scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    assert ready.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0
    before = whole(ready.logic)
    ready.widget.enter()
    assert ready.controller.sync.pointsNode(True).GetNumberOfControlPoints() == 1
    place(ready, 26, 25, 15)
    assert whole(ready.logic).sum() > before.sum()
    assert len(ready.logic.prompts) == 2


def test_an_answer_that_arrives_after_leaving_is_still_written(ready):
    gate, session = threading.Event(), FakeSession()
    original = session.add_point
    session.add_point = lambda *a: (gate.wait(10), original(*a))[1]
    withSession(ready, session)
    ready.controller.sync.pointsNode(True).AddControlPointWorld(*at(ready, 20, 25, 15))
    ready.widget.exit()
    gate.set()
    ready.settle()
    assert whole(ready.logic).sum() > 0
    assert ready.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0


def test_closing_the_scene_while_a_prompt_runs_is_safe_and_work_goes_on_after(ready):
    gate, session = threading.Event(), FakeSession()
    original = session.add_point
    session.add_point = lambda *a: (gate.wait(10), original(*a))[1]
    withSession(ready, session)
    ready.controller.sync.pointsNode(True).AddControlPointWorld(*at(ready, 20, 25, 15))
    ready.harness.app.newScene()
    gate.set()
    ready.settle()
    assert ready.logic.active is None
    assert not ready.ui.undoButton.enabled
    scan = ready.harness.headless.addVolume(np.arange(64000, dtype=np.int16).reshape(40, 40, 40), name="Next scan")
    ready.scan = scan
    ready.parameters().volume = scan
    ready.ui.pointButton.click()
    place(ready, 20, 20, 20)
    assert whole(ready.logic).sum() > 0
    assert "Segment_1" in ready.ui.statusLabel.text


def test_the_window_stays_alive_and_cancel_appears_after_a_second(ready):
    gate, session = threading.Event(), FakeSession()
    original = session.add_point
    session.add_point = lambda *a: (gate.wait(10), original(*a))[1]
    withSession(ready, session)
    ready.controller.sync.pointsNode(True).AddControlPointWorld(*at(ready, 20, 25, 15))
    ready.harness.process()
    hidden = lambda w: w.isHidden()  # noqa: E731
    assert hidden(ready.ui.cancelButton)
    ready.controller.runner._started -= 5
    ready.panel._pump()
    assert not hidden(ready.ui.cancelButton)
    assert not hidden(ready.ui.progressBar)
    ready.ui.cancelButton.click()
    gate.set()
    ready.settle()
    ready.panel._pump()
    assert hidden(ready.ui.cancelButton)
    assert whole(ready.logic).sum() == 0
    assert ready.logic.prompts == ()


def test_a_deleted_segment_or_segmentation_is_noticed(ready):
    place(ready, 20, 25, 15)
    ready.logic.active.node.GetSegmentation().RemoveSegment(ready.logic.active.segmentId)
    ready.panel.refresh()
    assert not ready.ui.lockButton.enabled
    ready.controller.sync.pointsNode(True).AddControlPointWorld(*at(ready, 30, 25, 15))
    ready.settle()
    assert "removed" in ready.ui.statusLabel.text
    ready.scene.RemoveNode(ready.parameters().segmentation)
    ready.ui.pointButton.click()
    ready.settle()
    place(ready, 30, 25, 15)


def test_entering_and_leaving_many_times_piles_nothing_up(ready):
    place(ready, 20, 25, 15)
    ready.widget.exit()
    ready.widget.enter()
    for _ in range(3):
        ready.widget.exit()
        ready.widget.enter()
    assert ready.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 2  # one per sign
    assert ready.controller.sync.pointsNode(True).GetNumberOfControlPoints() == 1


def test_a_scan_that_cannot_be_used_is_said_and_the_panel_goes_on(ready):
    import slicer

    from Testing.mrml.scene import imageOf

    colour = ready.scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Photo")
    colour.SetAndObserveImageData(imageOf(np.zeros((3, 4, 5, 3), np.uint8)))
    ready.parameters().volume = colour
    assert "colour volume" in ready.ui.statusLabel.text
    ready.parameters().volume = ready.scan
    place(ready, 20, 25, 15)
    assert whole(ready.logic).any()
    assert slicer.mrmlScene is ready.scene


def test_the_scan_on_screen_is_the_one_that_is_chosen_first(panel):
    composite = panel.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    panel.harness.headless.addVolume(np.zeros((5, 5, 5), np.int16), name="Loaded last")
    composite.SetBackgroundVolumeID(panel.scan.GetID())
    panel.widget.exit()
    panel.parameters()
    from FastSAM3DSlicerLib.VolumeBridge import shownVolume

    assert shownVolume(panel.scene) is panel.scan


def test_a_segment_chosen_by_a_script_is_selected_in_the_table(ready):
    other = ready.logic.active.node.GetSegmentation().AddEmptySegment("", "By script")
    ready.parameters().segmentId = other
    assert ready.ui.segmentsTable.selectedSegmentIDs() == [other]
    assert ready.logic.active.segmentId == other
    ready.parameters().segmentId = "no such segment"
    assert ready.ui.segmentsTable.selectedSegmentIDs() == [ready.logic.active.segmentId]


def test_slice_views_of_another_layout_are_used_as_soon_as_they_appear(ready):
    layout = ready.harness.app.layoutManager()
    place(ready, 20, 25, 15)
    layout.addSliceViews("Slice4")
    added = layout.sliceWidget("Slice4").mrmlSliceNode().GetID()
    display = ready.controller.sync.pointsNode(True).GetDisplayNode()
    assert display.IsDisplayableInView(added)
    assert ready.controller.tools.tool == "point"
    ready.widget.exit()
    layout.addSliceViews("Slice5")  # another module is open
    assert ready.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0
    ready.widget.enter()
    display = ready.controller.sync.pointsNode(True).GetDisplayNode()
    assert display.IsDisplayableInView(layout.sliceWidget("Slice5").mrmlSliceNode().GetID())


def test_a_module_that_was_closed_hears_of_no_layout(panel):
    layout = panel.harness.app.layoutManager()
    panel.panel._entered, heard = True, []
    panel.controller.layoutChanged = lambda: heard.append(1)
    layout.addSliceViews("Slice4")
    assert heard == [1]
    panel.widget.cleanup()
    panel.panel._entered = True
    layout.addSliceViews("Slice5")
    assert heard == [1]


def test_a_segmentation_made_by_the_node_selector_is_drawn(panel):
    panel.ui.volumeSelector.setCurrentNode(panel.scan)
    import slicer

    made = panel.scene.AddNode(slicer.vtkMRMLSegmentationNode())  # "Create new Segmentation": no display node
    panel.ui.segmentationSelector.setCurrentNode(made)
    panel.ui.pointButton.click()
    panel.settle()
    assert panel.logic.active.node is made
    place(panel, 20, 25, 15)
    assert made.GetDisplayNode().GetVisibility()
    assert "hidden" not in panel.ui.statusLabel.text


@NEEDS_USLEEP
def test_the_worker_gets_on_between_the_timers_ticks_and_after_the_module_was_left(panel):
    runner, timer = panel.controller.runner, panel.panel._timer
    assert timer.interval == 20
    runner.submit(lambda: Job("steps", smallSteps, lambda _: None, lambda: None), lambda _: None)
    assert ticksOf(runner, timer.timeout.emit) < SMALL_STEPS / 4
    gate, old = threading.Event(), FakeSession()
    old.close = lambda: (gate.wait(10), smallSteps())
    withSession(panel, old)
    panel.controller.session.open()
    panel.parameters().model = "fastsam3d"  # the session before is closed on the worker
    panel.widget.exit()
    timer.timeout.emit()
    assert timer.active
    gate.set()
    assert ticksOf(runner, timer.timeout.emit) < SMALL_STEPS / 4
    assert not timer.active
