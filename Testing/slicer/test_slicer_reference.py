"""Dice to a reference in a large scan: the worker compares, the panel goes on answering."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from FastSAM3DCore.types import VoxelBox
from FastSAM3DSlicerLib import Resampling, Statistics
from FastSAM3DSlicerLib.SegmentImage import SegmentImage
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld
from Testing.mrml.conftest import whole
from Testing.mrml.scene import OBLIQUE
from Testing.slicer.steps import at, place

SIZE = 110


@pytest.fixture
def compared(panel, monkeypatch):
    """A scan with a reference on a coarser grid, too large to compare at once; `gate` holds the worker back."""
    voxels = np.random.default_rng(0).integers(0, 99, (SIZE, SIZE, SIZE)).astype(np.uint8)
    panel.scan = panel.harness.headless.addVolume(voxels, OBLIQUE, "Large")
    panel.parameters().volume = panel.scan
    QTest.mouseClick(panel.ui.pointButton, Qt.LeftButton)
    panel.settle()
    place(panel, 60, 55, 55)
    node = panel.harness.headless.addSegmentation(None, "Truth")
    segmentId = node.GetSegmentation().AddEmptySegment("", "Organ")
    coarse = np.zeros((37, 37, 37), bool)
    coarse[17:20, 17:20, 18:22] = True
    box = VoxelBox((0, 0, 0), coarse.shape)
    toWorld = ijkToWorld(panel.scan) @ np.diag([3.0, 3.0, 3.0, 1.0])
    SegmentImage(node, segmentId, toWorld, coarse.shape).write(box, coarse, np.ones_like(coarse))
    nearest = np.ix_(*(np.rint(np.arange(SIZE) / 3).astype(int),) * 3)

    def expected():
        mine, there = whole(panel.logic) > 0, coarse[nearest]
        return f"{2 * (mine & there).sum() / (mine.sum() + there.sum()):.3f}"

    made = SimpleNamespace(panel=panel, node=node, expected=expected, threads=[], resampled=[], gate=threading.Event())
    made.gate.set()
    overlap, sample = Statistics.overlap, Resampling.sampleNearest

    def watched(*arguments):
        made.threads.append(threading.current_thread())
        made.gate.wait(10)
        return overlap(*arguments)

    def counted(*arguments):
        made.resampled.append(threading.current_thread())
        return sample(*arguments)

    monkeypatch.setattr(Statistics, "overlap", watched)
    monkeypatch.setattr("FastSAM3DSlicerLib.SegmentImage.sampleNearest", counted)
    yield made
    made.gate.set()


def until(panel, condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not get there"
        panel.harness.process()
        time.sleep(0.002)


def choose(compared):
    compared.panel.ui.referenceSelector.setCurrentNode(compared.node)
    compared.panel.harness.process()


def test_the_panel_answers_while_the_worker_compares(compared):
    panel, ui = compared.panel, compared.panel.ui
    compared.gate.clear()
    choose(compared)
    assert ui.diceLabel.text == "…"
    until(panel, lambda: compared.threads)
    QTest.mouseClick(ui.lassoButton, Qt.LeftButton)
    panel.harness.process()
    assert panel.controller.tools.tool == "lasso"
    assert ui.diceLabel.text == "…"
    panel.controller.runner._started -= 5
    until(panel, lambda: ui.progressBar.format.startswith("Dice: "))
    compared.gate.set()
    panel.settle()
    assert ui.diceLabel.text == compared.expected()
    assert 0.5 < float(ui.diceLabel.text) < 1.0
    assert threading.main_thread() not in compared.threads + compared.resampled


def test_a_click_while_the_worker_compares_gets_its_own_number(compared):
    panel = compared.panel
    compared.gate.clear()
    choose(compared)
    until(panel, lambda: compared.threads)
    panel.controller.sync.pointsNode(True).AddControlPointWorld(*at(panel, 66, 55, 55))
    panel.harness.process()
    before = compared.expected()
    compared.gate.set()
    panel.settle()
    assert len(panel.logic.prompts) == 2
    assert panel.ui.diceLabel.text == compared.expected() != before
    assert len(compared.resampled) == 1  # the reference is the same


def test_nothing_is_compared_again_while_nothing_changes(compared):
    choose(compared)
    compared.panel.settle()
    for button in ("boxButton", "negativeButton", "pointButton"):
        QTest.mouseClick(getattr(compared.panel.ui, button), Qt.LeftButton)
        compared.panel.settle()
    assert len(compared.threads) == 1


def test_a_cancelled_comparison_leaves_a_dash_until_something_changes(compared):
    panel, ui = compared.panel, compared.panel.ui
    compared.gate.clear()
    choose(compared)
    until(panel, lambda: compared.threads)
    panel.panel.cancel()
    compared.gate.set()
    panel.settle()
    assert ui.diceLabel.text == "-"
    assert len(compared.threads) == 1
    place(panel, 66, 55, 55)
    assert ui.diceLabel.text == compared.expected()


def test_a_reference_removed_while_the_worker_compares(compared):
    panel = compared.panel
    compared.gate.clear()
    choose(compared)
    until(panel, lambda: compared.threads)
    panel.scene.RemoveNode(compared.node)
    compared.gate.set()
    panel.settle()
    assert panel.ui.diceLabel.text == "-"
    place(panel, 66, 55, 55)
    assert len(panel.logic.prompts) == 2


def test_the_scene_closed_while_the_worker_compares(compared):
    panel = compared.panel
    compared.gate.clear()
    choose(compared)
    until(panel, lambda: compared.threads)
    panel.harness.app.newScene()
    compared.gate.set()
    panel.settle()
    assert panel.ui.diceLabel.text == "-"
