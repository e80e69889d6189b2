"""Tests that need the running application: Reload and Test in the module, or `ctest -R FastSAM3D`.

They use what stand-ins cannot show: the real widgets, layout, parameter node, Segment Editor and scene saving.
The engine is a ball-shaped answer, so nothing is installed or downloaded.
"""

# Slicer runs these with unittest.
# ruff: noqa: PT009

import tempfile
import time
import unittest
from pathlib import Path

import numpy as np
import slicer

STEPS = 200


class BallSession:
    """Answers every prompt with a ball; keeps the log."""

    def __init__(self):
        self.prompts = ()

    def set_image(self, volume):
        self.prompts, self._mask = (), np.zeros(volume.array_kji.shape, np.uint8)

    def mask(self, box=None):
        return self._mask[box.slices_kji] if box else self._mask.copy()

    def probability(self, box=None):
        return self.mask(box).astype(np.float32) * 0.8 + 0.1

    def add_point(self, point, positive=True):
        from FastSAM3DCore.prompts import PointPrompt

        self.prompts = (*self.prompts, PointPrompt(len(self.prompts) + 1, tuple(point), positive))
        return self._show()

    def undo(self):
        self.prompts = self.prompts[:-1]
        return self._show()

    def replay(self, prompts):
        self.prompts = tuple(prompts)
        return self._show()

    def reset(self):
        return self.replay(())

    @property
    def model(self):
        from FastSAM3DCore.types import ModelIdentity

        return ModelIdentity("ball")

    def set_threshold(self, value):
        return self._show()

    def close(self):
        self.prompts = ()

    def _show(self):
        from FastSAM3DCore import MaskUpdate, VoxelBox

        k, j, i = np.indices(self._mask.shape)
        self._mask[:] = 0
        for prompt in self.prompts:
            x, y, z = prompt.point_ijk
            self._mask[(i - x) ** 2 + (j - y) ** 2 + (k - z) ** 2 < 36] = prompt.positive
        box = VoxelBox((0, 0, 0), self._mask.shape[::-1])
        return MaskUpdate(box, self._mask.copy(), prompt_id=len(self.prompts) or None)


class FastSAM3DSlicerInAppTest(unittest.TestCase):
    """The module inside Slicer."""

    def setUp(self):
        slicer.mrmlScene.Clear()
        self.volume = slicer.util.addVolumeFromArray(
            np.random.default_rng(0).integers(0, 99, (40, 50, 60)).astype(np.int16), name="Scan"
        )
        slicer.util.setSliceViewerLayers(background=self.volume, fit=True)
        slicer.util.selectModule("FastSAM3DSlicer")
        self.panel = slicer.util.getModuleWidget("FastSAM3DSlicer").panel
        self.panel.engine.installer.openSession = lambda *engine: BallSession()
        self.panel.engine.installer.ensure = lambda again=False: True
        self.panel._parameters.volume = self.volume

    def tearDown(self):
        slicer.util.selectModule("Data")

    def place(self, *ras, controller=None):
        controller = controller or self.panel.controller
        controller.sync.pointsNode(True).AddControlPointWorld(*ras)
        while controller.runner.busy:
            slicer.app.processEvents()

    def segmentVoxels(self):
        p = self.panel._parameters
        return int(slicer.util.arrayFromSegmentBinaryLabelmap(p.segmentation, p.segmentId, self.volume).sum())

    def test_a_point_fills_the_segment_and_undo_empties_it(self):
        self.panel.ui.pointButton.click()
        self.assertTrue(self.panel.ui.pointButton.checked)
        self.place(-20, -25, 15)
        self.assertGreater(self.segmentVoxels(), 500)
        self.panel.ui.undoButton.click()
        while self.panel.controller.runner.busy:
            slicer.app.processEvents()
        self.assertEqual(self.segmentVoxels(), 0)

    def test_place_mode_is_slicers_own_again_in_another_module(self):
        self.panel.ui.pointButton.click()
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        self.assertEqual(interaction.GetCurrentInteractionMode(), interaction.Place)
        slicer.util.selectModule("Data")
        self.assertEqual(interaction.GetCurrentInteractionMode(), interaction.ViewTransform)
        self.assertEqual(self.panel.shortcuts.live, {})

    def test_the_form_follows_the_parameter_node(self):
        p = self.panel._parameters
        p.sliceMode = True
        self.assertTrue(self.panel.ui.sliceModeCheck.checked)
        self.panel.ui.sliceModeCheck.click()
        self.assertFalse(p.sliceMode)
        self.assertEqual(self.panel.ui.volumeSelector.currentNode(), self.volume)

    def test_a_saved_scene_goes_on(self):
        self.panel.ui.pointButton.click()
        self.place(-20, -25, 15)
        voxels = self.segmentVoxels()
        path = Path(tempfile.mkdtemp()) / "case.mrb"
        self.assertTrue(slicer.util.saveScene(str(path)))
        slicer.mrmlScene.Clear()
        slicer.util.loadScene(str(path))
        self.volume = slicer.util.getNode("Scan")
        self.panel = slicer.util.getModuleWidget("FastSAM3DSlicer").panel
        slicer.util.selectModule("FastSAM3DSlicer")
        self.assertEqual(self.segmentVoxels(), voxels)
        self.assertEqual(len(self.panel.controller.logic.prompts), 1)

    def test_closing_the_scene_with_a_tool_in_hand_is_safe(self):
        self.panel.ui.lassoButton.click()
        slicer.mrmlScene.Clear()
        self.assertIsNone(self.panel.controller.logic.active)

    def test_the_worker_gets_on_while_slicer_idles(self):
        import qt

        from FastSAM3DSlicerLib.Job import Job

        steps = []

        def call():
            for _ in range(STEPS):
                time.sleep(0)  # gives Python's lock back for a moment, as each of the engine's operations does
                steps.append(1)

        self.panel.controller.runner.submit(lambda: Job("steps", call, lambda _: None, lambda: None), lambda _: None)
        loop = qt.QEventLoop()
        qt.QTimer.singleShot(500, loop.quit)  # 25 ticks
        loop.exec_()
        self.assertEqual(len(steps), STEPS)

    def test_slice_views_of_another_layout_show_the_prompts(self):
        self.panel.ui.pointButton.click()
        manager = slicer.app.layoutManager()
        before = manager.layout
        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutThreeByThreeSliceView)
        slicer.app.processEvents()
        display = self.panel.controller.sync.pointsNode(True).GetDisplayNode()
        names = manager.sliceViewNames()
        shown = [display.IsDisplayableInView(manager.sliceWidget(name).mrmlSliceNode().GetID()) for name in names]
        self.assertTrue(self.panel.ui.pointButton.checked)
        manager.setLayout(before)
        self.assertGreaterEqual(len(names), 9)
        self.assertTrue(all(shown))

    def test_a_segmentation_made_by_the_node_selector_is_drawn(self):
        made = self.panel.ui.segmentationSelector.addNode()
        self.panel.ui.segmentationSelector.setCurrentNode(made)
        self.panel.ui.pointButton.click()
        self.place(-20, -25, 15)
        self.assertIsNotNone(made.GetDisplayNode())
        self.assertTrue(made.GetDisplayNode().GetVisibility())

    def effect(self):
        """The Segment Editor with our effect active on an empty segment."""
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.util.getModuleWidget("SegmentEditor").editor
        self.assertIn("FastSAM3D", editor.availableEffectNames())
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        segmentId = node.GetSegmentation().AddEmptySegment()
        editor.setSegmentationNode(node)
        editor.setSourceVolumeNode(self.volume)
        editor.setCurrentSegmentID(segmentId)
        editor.setActiveEffectByName("FastSAM3D")
        self.addCleanup(lambda: editor.setActiveEffectByName(""))
        self.assertEqual(editor.activeEffect().name, "FastSAM3D")
        effect = editor.activeEffect().self()
        effect.installer.openSession = lambda *engine: BallSession()
        effect.installer.ensure = lambda again=False: True
        return editor, effect, lambda: slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, self.volume).sum()

    def test_the_effect_places_points_and_stays_the_active_one(self):
        editor, effect, voxels = self.effect()
        effect.buttons["point"].click()
        slicer.app.processEvents()
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        self.assertEqual(interaction.GetCurrentInteractionMode(), interaction.Place)
        self.assertIsNotNone(editor.activeEffect())
        self.assertEqual(editor.activeEffect().name, "FastSAM3D")
        self.assertTrue(effect.buttons["point"].checked)
        self.place(-20, -25, 15, controller=effect.controller)
        self.assertGreater(voxels(), 500)
        editor.setActiveEffectByName("")
        self.assertEqual(interaction.GetCurrentInteractionMode(), interaction.ViewTransform)

    def test_the_effect_uses_the_engine_chosen_in_the_module(self):
        _, effect, _ = self.effect()
        opened = []
        effect.installer.openSession = lambda *engine: opened.append(engine) or BallSession()
        for device in ("cpu", "auto"):
            effect.parameters().device = device
            effect.buttons["box"].click()
            self.place(-20, -25, 15, controller=effect.controller)
            self.assertEqual(opened[-1][1], device)


if __name__ == "__main__":
    unittest.main()
