"""Things that change under a running prompt, in the whole panel: one line to the user, nothing lost, no traceback."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from FastSAM3DSlicerLib.SliceReview import acceptedSlices
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, transformPoints
from Testing.core.fakes import FakeSession
from Testing.mrml.conftest import whole
from Testing.mrml.scene import bend
from Testing.slicer.steps import at, place, withSession


@pytest.fixture
def running(ready):
    """One prompt answered, a second one with the engine; `ready.finish()` lets it end."""
    gate, session = threading.Event(), FakeSession()
    gate.set()
    original = session.add_point
    session.add_point = lambda *a: (gate.wait(10), original(*a))[1]
    withSession(ready, session)
    place(ready, 20, 25, 15)
    ready.before = whole(ready.logic)
    gate.clear()
    ready.controller.sync.pointsNode(True).AddControlPointWorld(*at(ready, 40, 25, 15))
    assert ready.controller.runner.busy

    def finish():
        gate.set()
        ready.settle()

    ready.finish = finish
    yield ready
    gate.set()


def other_scan(panel):
    return panel.harness.headless.addVolume(np.arange(64000, dtype=np.int16).reshape(40, 40, 40), name="Other scan")


@pytest.mark.parametrize("gone", ["segment", "segmentation", "volume"])
def test_a_node_deleted_while_a_prompt_runs(running, gone):
    segmentation, active = running.parameters().segmentation, running.logic.active
    if gone == "segment":
        segmentation.GetSegmentation().RemoveSegment(active.segmentId)
    else:
        running.scene.RemoveNode(segmentation if gone == "segmentation" else running.scan)
    running.finish()
    assert "removed" in running.ui.statusLabel.text or "Choose" in running.ui.statusLabel.text
    scan = running.scan if gone != "volume" else other_scan(running)
    running.scan = scan
    running.parameters().volume = scan
    running.ui.nextSegmentButton.click()
    running.settle()
    place(running, 20, 20, 20)
    assert whole(running.logic).any()
    assert "Segment_" in running.ui.statusLabel.text


def test_another_scan_chosen_while_a_prompt_runs(running):
    first = running.scan
    running.parameters().volume = other_scan(running)
    running.finish()
    assert "meanwhile" in running.ui.statusLabel.text
    running.parameters().volume = first
    running.settle()
    assert np.array_equal(whole(running.logic), running.before)
    place(running, 40, 25, 15)
    assert np.array_equal(whole(running.logic), running.installer.sessions[-1].mask())


def test_another_segment_chosen_while_a_prompt_runs(running):
    first = running.logic.active.segmentId
    running.ui.nextSegmentButton.click()
    running.finish()
    assert not whole(running.logic).any()
    assert "meanwhile" in running.ui.statusLabel.text
    running.ui.segmentsTable.setSelectedSegmentIDs([first])
    running.settle()
    assert np.array_equal(whole(running.logic), running.before)
    place(running, 40, 25, 15)
    assert len(running.logic.prompts) == 2


def test_a_bending_transform_added_while_a_prompt_runs(running):
    bend(running.scene, running.scan)
    running.finish()
    assert "non-linear" in running.ui.statusLabel.text
    running.scan.SetAndObserveTransformNodeID(None)
    assert np.array_equal(whole(running.logic), running.before)
    place(running, 40, 25, 15)
    assert np.array_equal(whole(running.logic), running.installer.sessions[-1].mask())


def test_a_segment_locked_while_a_prompt_runs_refuses_the_next_one(running):
    running.ui.lockButton.click()
    running.finish()
    after = whole(running.logic)
    place(running, 10, 40, 20)
    assert "locked" in running.ui.statusLabel.text
    assert np.array_equal(whole(running.logic), after)


def test_the_panel_closed_while_a_prompt_runs_waits_for_the_worker_and_writes_nothing(running):
    threading.Timer(0.1, running.finish.__closure__[0].cell_contents.set).start()
    running.widget.cleanup()
    assert np.array_equal(whole(running.logic), running.before)


def test_a_sequence_shows_the_prompts_of_its_time_point(ready):
    headless = ready.harness.headless
    node = ready.scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine")
    for n in range(2):
        frame = headless.addVolume(np.random.default_rng(n).integers(0, 99, (30, 50, 60)).astype(np.int16))
        node.SetDataNodeAtValue(frame, str(n))
        ready.scene.RemoveNode(frame)
    browser = ready.scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.AddSynchronizedSequenceNode(node)
    logic = headless.logics["Sequences"]
    logic.UpdateProxyNodesFromSequences(browser)
    ready.scan = browser.GetProxyNode(node)
    ready.parameters().volume = ready.scan
    ready.settle()
    world = transformPoints(ijkToWorld(ready.scan), [[20, 25, 15]])[0]
    ready.controller.sync.pointsNode(True).AddControlPointWorld(*world)
    ready.settle()
    points = ready.controller.sync.pointsNode(True)
    assert points.GetNumberOfControlPoints() == 1

    def go(n):
        browser.SetSelectedItemNumber(n)
        logic.UpdateProxyNodesFromSequences(browser)
        ready.panel._pump()
        ready.settle()

    go(1)
    assert points.GetNumberOfControlPoints() == 0
    assert ready.ui.statusLabel.text.startswith("Time point 2.")
    go(0)
    assert points.GetNumberOfControlPoints() == 1
    assert len(ready.logic.prompts) == 1


def test_a_real_key_press_picks_a_tool_up_but_not_while_typing(ready):
    ready.controller.tools.use("")
    window = ready.panel.widget.window()
    window.show()
    window.activateWindow()
    ready.harness.process()
    ready.panel.widget.setFocus()
    QTest.keyClick(ready.panel.widget, Qt.Key_L)
    ready.settle()
    assert ready.controller.tools.tool == "lasso"
    ready.ui.serverEdit.setFocus()
    QTest.keyClicks(ready.ui.serverEdit, "abc")
    assert ready.ui.serverEdit.text == "abc"
    assert ready.controller.tools.tool == "lasso"
    ready.ui.serverEdit.setText("")
    ready.widget.exit()
    ready.panel.widget.setFocus()
    QTest.keyClick(ready.panel.widget, Qt.Key_B)
    assert ready.controller.tools.tool == ""
    window.hide()


def test_return_ends_an_entry_also_in_the_module_and_the_key_for_accepting_types_a_letter(ready):
    ready.parameters().sliceMode = True
    window, edit, told = ready.panel.widget.window(), ready.ui.serverEdit, []
    window.show()
    window.activateWindow()
    ready.harness.process()
    edit.returnPressed.connect(lambda: told.append(edit.text))
    edit.setFocus()
    QTest.keyClicks(edit, "k")
    QTest.keyClick(edit, Qt.Key_Return)
    ready.settle()
    assert told == ["k"]
    segment = ready.logic.active.segment
    assert acceptedSlices(segment) == []
    edit.setText("")
    ready.panel.widget.setFocus()
    QTest.keyClick(ready.panel.widget, Qt.Key_K)
    ready.settle()
    assert len(acceptedSlices(segment)) == 1
    window.hide()
