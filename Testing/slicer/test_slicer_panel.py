"""The panel's tools, toggles and numbers, clicked as a user would."""

from __future__ import annotations

import numpy as np
import pytest

from FastSAM3DSlicerLib import KEEP, OVERLAP
from Testing.mrml.conftest import whole
from Testing.slicer.steps import place


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


@pytest.mark.parametrize("effect", ["Smoothing", "Islands"])
def test_smoothing_and_islands_hand_the_segment_to_the_segment_editor(ready, monkeypatch, effect):
    import slicer

    calls = {}

    class Editor:
        def __getattr__(self, name):
            return lambda value: calls.__setitem__(name, value)

    holder = type("Holder", (), {"editor": Editor()})()
    representation = type("Representation", (), {"self": lambda _: holder})()
    slicer.modules.segmenteditor = type("Module", (), {"widgetRepresentation": lambda _: representation})()
    monkeypatch.setattr(slicer.util, "selectModule", lambda name: calls.__setitem__("module", name))
    getattr(ready.ui, f"{effect.lower()}Button").click()
    assert calls["module"] == "SegmentEditor"
    assert calls["setActiveEffectByName"] == effect
    assert calls["setCurrentSegmentID"] == ready.logic.active.segmentId
    assert calls["setSourceVolumeNode"] is ready.scan


def test_accepted_slices_can_be_released(ready):
    place(ready, 20, 25, 15)
    ready.parameters().sliceMode = True
    ready.ui.acceptButton.click()
    ready.settle()
    from FastSAM3DSlicerLib.SliceReview import acceptedSlices

    assert len(acceptedSlices(ready.logic.active.segment)) == 1
    ready.ui.releaseButton.click()
    assert acceptedSlices(ready.logic.active.segment) == []
