"""The Segment Editor effect: the same logic under the editor's volume, segment, masks, overwrite mode and undo."""

from __future__ import annotations

import importlib.util
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import slicer

from FastSAM3DCore.errors import FastSAM3DError
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, transformPoints
from Testing.mrml.conftest import SHAPE, addOther, setWhole, whole
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
    made.activate()

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
    made.cleanup()


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
    effect.effect.deactivate()
    interaction = effect.harness.scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    assert effect.harness.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0
    assert not effect.effect.buttons["point"].checked
    effect.effect.activate()
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
