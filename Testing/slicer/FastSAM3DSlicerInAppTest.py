"""Tests that need the running application: Reload and Test in the module, or `ctest -R FastSAM3D`.

They use what stand-ins cannot show: the real widgets, layout, parameter node, Segment Editor and scene saving.
The engine is a ball-shaped answer, so nothing is installed or downloaded.
"""

# Slicer runs these with unittest.
# ruff: noqa: PT009

import tempfile
import unittest
from pathlib import Path

import numpy as np
import slicer


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

    def place(self, *ras):
        self.panel.controller.sync.pointsNode(True).AddControlPointWorld(*ras)
        while self.panel.controller.runner.busy:
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

    def test_the_effect_is_in_the_segment_editor(self):
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.util.getModuleWidget("SegmentEditor").editor
        self.assertIn("FastSAM3D", editor.availableEffectNames())
        editor.setSegmentationNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode"))
        editor.setSourceVolumeNode(self.volume)
        editor.setActiveEffectByName("FastSAM3D")
        self.assertEqual(editor.activeEffect().name, "FastSAM3D")
        editor.setActiveEffectByName("")


if __name__ == "__main__":
    unittest.main()
