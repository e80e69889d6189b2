"""The panel: wiring of form, parameter node, tools, keys, enter and exit, scene close, errors."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from FastSAM3DCore.errors import DeviceError, FastSAM3DError
from FastSAM3DSlicerLib import KEEP, OVERLAP
from FastSAM3DSlicerLib.Shortcuts import DEFAULTS
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, transformPoints
from Testing.core.fakes import FakeSession
from Testing.mrml.conftest import whole


@pytest.fixture
def ready(panel):
    """The scan chosen, the point tool in hand."""
    panel.parameters().volume = panel.scan
    QTest.mouseClick(panel.ui.pointButton, Qt.LeftButton)
    panel.settle()
    return panel


def at(panel, *ijk):
    return transformPoints(ijkToWorld(panel.scan), [ijk])[0]


def place(panel, *ijk, positive=True):
    panel.controller.sync.pointsNode(positive).AddControlPointWorld(*at(panel, *ijk))
    panel.settle()


def withSession(panel, session):
    """Another engine from now on."""
    panel.installer.open = lambda: session
    panel.parameters().device = "cuda"
    panel.settle()


def test_the_engine_is_loaded_when_a_tool_is_picked_up_and_not_before(panel):
    panel.parameters().volume = panel.scan
    panel.settle()
    assert panel.installer.opened == []
    assert panel.installer.asked == 0
    panel.ui.pointButton.click()
    panel.settle()
    assert panel.installer.opened == [("default", "auto", "", "")]
    assert panel.installer.sessions[0].images_set == 1
    place(panel, 20, 25, 15)
    assert len(panel.installer.opened) == 1
    assert panel.installer.sessions[0].images_set == 1


def test_an_installation_that_restarted_slicer_goes_on_when_the_module_is_opened(panel):
    panel.widget.exit()
    panel.installer.resuming = True
    panel.widget.enter()
    assert panel.installer.asked == 1


def test_the_first_tool_click_makes_segmentation_and_segment(ready):
    assert ready.parameters().segmentation.GetName() == "Scan segmentation"
    assert ready.ui.segmentsTable.selectedSegmentIDs() == [ready.logic.active.segmentId]
    assert ready.ui.statusLabel.text == "Point adds to Segment_1 in Scan."
    place(ready, 20, 25, 15)
    assert np.array_equal(whole(ready.logic), ready.installer.sessions[0].mask())
    assert ready.ui.statusLabel.text.startswith("Segment_1: point")
    assert ready.ui.volumeLabel.text.endswith(" ml")


def test_without_a_volume_a_tool_says_what_to_do(panel):
    panel.parameters().volume = None
    panel.ui.pointButton.click()
    assert panel.ui.statusLabel.text == "Choose a volume to start."
    assert not panel.ui.pointButton.checked
    assert panel.parameters().segmentation is None


@pytest.mark.parametrize("tool", ["point", "box", "scribble", "lasso"])
def test_one_tool_at_a_time_and_a_second_click_puts_it_down(ready, tool):
    ready.controller.tools.use("")
    button = getattr(ready.ui, f"{tool}Button")
    button.click()
    names = ("point", "box", "scribble", "lasso")
    assert [n for n in names if getattr(ready.ui, f"{n}Button").checked] == [tool]
    button.click()
    assert not button.checked
    assert ready.controller.tools.tool == ""


def test_sign_buttons_switch_what_a_point_means(ready):
    ready.ui.negativeButton.click()
    assert ready.ui.negativeButton.checked
    assert not ready.ui.positiveButton.checked
    assert "removes from" in ready.ui.statusLabel.text
    place(ready, 20, 25, 15, positive=False)
    assert not ready.logic.prompts[0].positive


def test_undo_redo_reset_buttons_are_enabled_when_they_can_do_something(ready):
    ui = ready.ui
    assert not ui.undoButton.enabled
    assert not ui.redoButton.enabled
    place(ready, 20, 25, 15)
    before = whole(ready.logic)
    assert ui.undoButton.enabled
    ui.undoButton.click()
    ready.settle()
    assert whole(ready.logic).sum() == 0
    assert ui.redoButton.enabled
    ui.redoButton.click()
    ready.settle()
    assert np.array_equal(whole(ready.logic), before)
    ui.resetButton.click()
    ready.settle()
    assert whole(ready.logic).sum() == 0
    assert not ui.resetButton.enabled
    ui.undoButton.click()
    ready.settle()
    assert np.array_equal(whole(ready.logic), before)


def test_next_segment_starts_an_empty_one_and_the_table_goes_back(ready):
    place(ready, 20, 25, 15)
    first = ready.logic.active.segmentId
    ready.ui.nextSegmentButton.click()
    assert ready.logic.active.segmentId != first
    assert ready.parameters().segmentId == ready.logic.active.segmentId
    assert "Segment_2" in ready.ui.statusLabel.text
    place(ready, 45, 25, 15)
    ready.ui.segmentsTable.setSelectedSegmentIDs([first])
    assert ready.logic.active.segmentId == first
    assert len(ready.logic.prompts) == 1
    assert ready.controller.sync.pointsNode(True).GetNumberOfControlPoints() == 1


def test_the_threshold_slider_is_live_and_follows_the_segment(ready):
    place(ready, 25, 25, 15)
    half = whole(ready.logic).sum()
    ready.ui.thresholdSlider.setValue(0.3)
    ready.settle()
    assert whole(ready.logic).sum() > half
    assert ready.logic.active.log.threshold == pytest.approx(0.3)
    ready.ui.undoButton.click()
    ready.settle()
    assert whole(ready.logic).sum() == half
    assert ready.ui.thresholdSlider.value == pytest.approx(0.5)


def test_the_overlap_choice_reaches_the_rules(ready):
    ready.ui.policyCombo.setCurrentIndex(1)
    assert ready.logic.rules.policy == KEEP
    ready.parameters().policy = OVERLAP
    assert ready.logic.rules.policy == OVERLAP
    assert ready.ui.policyCombo.currentIndex == 2


def test_the_lock_button_protects_the_segment(ready):
    ready.ui.lockButton.click()
    place(ready, 20, 25, 15)
    assert "locked" in ready.ui.statusLabel.text
    assert whole(ready.logic).sum() == 0
    ready.ui.nextSegmentButton.click()
    assert not ready.ui.lockButton.checked


def test_masks_of_the_segment_editor_are_obeyed(ready):
    import slicer

    editor = slicer.vtkMRMLSegmentEditorNode()
    ready.scene.AddNode(editor)
    editor.SetAndObserveSegmentationNode(ready.logic.active.node)
    editor.SetSourceVolumeIntensityMask(True)
    editor.SetSourceVolumeIntensityMaskRange(50, 99)
    place(ready, 20, 25, 15)
    from FastSAM3DSlicerLib.VolumeBridge import voxels

    assert whole(ready.logic).any()
    assert voxels(ready.scan)[whole(ready.logic) == 1].min() >= 50


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


def test_a_full_graphics_card_goes_on_on_the_cpu_and_the_choice_shows_it(ready):
    failing = FakeSession()

    def full(*_):
        raise DeviceError("cuda:0 ran out of memory; choose the CPU or close other programs.")

    failing.add_point = full
    sessions = [failing, FakeSession()]
    withSession(ready, failing)
    ready.installer.open = lambda: sessions.pop(0)
    place(ready, 20, 25, 15)
    assert ready.installer.opened[-1] == ("default", "cpu", "", "")
    assert ready.parameters().device == "cpu"
    assert ready.ui.deviceCombo.currentIndex == 1
    assert whole(ready.logic).sum() > 0


def test_another_model_device_or_server_is_used_from_the_next_prompt_on(ready):
    place(ready, 20, 25, 15)
    before = whole(ready.logic)
    ready.ui.modelCombo.setCurrentIndex(1)
    assert ready.parameters().model == "fastsam3d"
    assert "Apache" in ready.ui.licenceLabel.text
    place(ready, 26, 25, 15)
    assert ready.installer.sessions[0].closed
    assert ready.installer.opened[-1] == ("fastsam3d", "auto", "", "")
    assert len(ready.logic.prompts) == 2
    assert whole(ready.logic)[before == 1].all()
    ready.ui.serverEdit.setText("http://gpu:1527")
    ready.ui.tokenEdit.setText("secret")
    ready.ui.tokenEdit.editingFinished.emit()
    place(ready, 32, 25, 15)
    assert ready.installer.opened[-1] == ("fastsam3d", "auto", "http://gpu:1527", "secret")
    node = ready.parameters().parameterNode
    stored = [node.GetParameter(name) for name in node.GetParameterNames()]
    assert not any("secret" in value for value in stored)


def test_saying_no_to_the_installation_leaves_everything_as_it_is(panel):
    panel.parameters().volume = panel.scan
    panel.installer.answer = False
    panel.ui.pointButton.click()
    assert panel.controller.tools.tool == ""
    assert not panel.ui.pointButton.checked
    assert "PyTorch is needed" in panel.ui.statusLabel.text
    panel.installer.answer = True
    panel.ui.pointButton.click()
    assert panel.controller.tools.tool == "point"


def test_a_failing_installation_is_said(panel):
    panel.parameters().volume = panel.scan

    def fail(again=False):
        raise FastSAM3DError("The installation did not complete; see the Python console, then try again.")

    panel.installer.ensure = fail
    panel.ui.pointButton.click()
    assert "did not complete" in panel.ui.statusLabel.text


def test_the_test_button_proves_the_device(ready):
    ready.ui.testButton.click()
    ready.settle()
    assert ready.ui.deviceLabel.text == "auto: proved"
    assert ready.ui.statusLabel.text == "Ready: auto: proved"


def test_dice_to_a_reference_follows_the_segment(ready):
    place(ready, 20, 25, 15)
    reference = ready.harness.headless.addSegmentation(ready.scan, "Truth")
    from Testing.mrml.conftest import setWhole

    segmentId = reference.GetSegmentation().AddEmptySegment("", "Organ")
    mine, ready.logic.active.node = ready.logic.active.node, reference
    setWhole(ready.logic, segmentId, ready.installer.sessions[0].mask())
    ready.logic.active.node = mine
    ready.parameters().reference = reference
    ready.panel.refresh()
    assert ready.ui.referenceSegmentCombo.currentText == "Organ"
    assert ready.ui.diceLabel.text == "1.000"
    place(ready, 26, 25, 15)
    assert 0.5 < float(ready.ui.diceLabel.text) < 1.0


def test_the_overlay_checkbox_shows_and_hides_it(ready):
    place(ready, 20, 25, 15)
    ready.ui.uncertaintyCheck.click()
    ready.settle()
    assert ready.controller.overlay.node is not None
    ready.ui.uncertaintyCheck.click()
    ready.settle()
    assert ready.controller.overlay.node is None


def test_surfaces_are_meshed_again_after_a_pause(ready):
    from FastSAM3DSlicerLib.SegmentImage import SURFACE

    place(ready, 20, 25, 15)
    ready.ui.show3DButton.click()
    surface = lambda: ready.logic.active.segment.GetRepresentation(SURFACE)  # noqa: E731
    points = surface().GetNumberOfPoints()
    place(ready, 28, 25, 15)
    assert surface().GetNumberOfPoints() == points
    ready.panel._surfaceTimer.timeout.emit()
    assert surface().GetNumberOfPoints() > points
    ready.ui.show3DButton.click()
    assert surface() is None


def test_smoothing_hands_the_segment_to_the_segment_editor(ready, monkeypatch):
    import slicer

    calls = {}

    class Editor:
        def __getattr__(self, name):
            return lambda value: calls.__setitem__(name, value)

    holder = type("Holder", (), {"editor": Editor()})()
    representation = type("Representation", (), {"self": lambda _: holder})()
    slicer.modules.segmenteditor = type("Module", (), {"widgetRepresentation": lambda _: representation})()
    monkeypatch.setattr(slicer.util, "selectModule", lambda name: calls.__setitem__("module", name))
    ready.ui.smoothingButton.click()
    assert calls["module"] == "SegmentEditor"
    assert calls["setActiveEffectByName"] == "Smoothing"
    assert calls["setCurrentSegmentID"] == ready.logic.active.segmentId
    assert calls["setSourceVolumeNode"] is ready.scan


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


def test_a_weights_file_can_be_taken_into_use(ready, monkeypatch):
    import qt

    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", staticmethod(lambda *_: ("/somewhere/FastSAM3D.pth", "")))
    ready.ui.importButton.click()
    ready.settle()
    assert ready.parameters().model == "fastsam3d"
    assert ready.ui.modelCombo.currentText == "fastsam3d"
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", staticmethod(lambda *_: ("", "")))
    ready.ui.importButton.click()
    ready.settle()
    assert ready.parameters().model == "fastsam3d"


def test_removing_downloads_asks_first_and_goes_back_to_the_bundled_model(ready, monkeypatch):
    import slicer

    answers = [False, True]
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_: answers.pop(0))
    ready.parameters().model = "fastsam3d"
    ready.ui.removeButton.click()
    assert ready.parameters().model == "fastsam3d"
    ready.ui.removeButton.click()
    assert ready.parameters().model == "default"
    assert "600 MB freed" in ready.ui.statusLabel.text


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
    from FastSAM3DSlicerLib.Widget import shownVolume

    assert shownVolume() is panel.scan


def test_accepted_slices_can_be_released(ready):
    place(ready, 20, 25, 15)
    ready.parameters().sliceMode = True
    ready.ui.acceptButton.click()
    ready.settle()
    from FastSAM3DSlicerLib.SliceReview import acceptedSlices

    assert len(acceptedSlices(ready.logic.active.segment)) == 1
    ready.ui.releaseButton.click()
    assert acceptedSlices(ready.logic.active.segment) == []


def test_a_segment_chosen_by_a_script_is_selected_in_the_table(ready):
    other = ready.logic.active.node.GetSegmentation().AddEmptySegment("", "By script")
    ready.parameters().segmentId = other
    assert ready.ui.segmentsTable.selectedSegmentIDs() == [other]
    assert ready.logic.active.segmentId == other
    ready.parameters().segmentId = "no such segment"
    assert ready.ui.segmentsTable.selectedSegmentIDs() == [ready.logic.active.segmentId]
