"""The uncertainty of the active segment, drawn over the slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from FastSAM3DCore.types import Volume, VoxelBox
from FastSAM3DSlicerLib.SliceReview import acceptedSlices
from FastSAM3DSlicerLib.Uncertainty import sliceScores

from .loading import add_volume, replace_voxels
from .study import Study
from .views import SLICE_VIEWS, Views

__all__ = ["UncertaintyOverlay", "entropy"]

# Below this many bits the model is sure enough (probability outside 4-96 %) to show nothing.
SHOWN_FROM = 0.25
OPACITY = 0.75
# From dark violet over orange to pale yellow: more doubt is lighter, readable without hue.
RAMP = ((0, (0.18, 0.04, 0.33)), (110, (0.75, 0.25, 0.35)), (190, (0.97, 0.6, 0.2)), (255, (1.0, 0.97, 0.7)))


def entropy(probability: np.ndarray) -> np.ndarray:
    """Bits of doubt, 0 (sure) to 1 (even odds), float32, of probabilities in [0, 1]."""
    p = np.clip(probability.astype(np.float32), 1e-6, 1 - 1e-6)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))


class UncertaintyOverlay:
    """A foreground volume over the scan; follows the logic's probability while it is on."""

    def __init__(self, study: Study, views: Views) -> None:
        self.study, self.views = study, views
        self.on = False
        self._node: Any = None
        self._colors: Any = None

    def turn(self, on: bool) -> None:
        """Show or hide; the first showing needs `logic.wantProbability` and a prompt after it."""
        self.on = on
        self.study.logic.wantProbability = on
        self.refresh()

    def refresh(self) -> None:
        """Show what the logic knows now."""
        found = self.study.logic.probability if self.on else None
        if found is None or found[0].is_empty:
            self._show(None)
            return
        box, probability = found
        bits = np.rint(entropy(probability) * 255).astype(np.uint8)
        affine = self.study.volume.ijk_to_ras.copy()
        affine[:3, 3] = self.study.volume.ijk_to_ras_points(box.lower)
        if self._node is None or not self.study.scene.IsNodePresent(self._node):
            self._node = self._create(Volume(bits, affine))
        else:
            replace_voxels(self._node, Volume(bits, affine))
        self._node.SetAndObserveTransformNodeID(self.study.volume_node.GetTransformNodeID())
        self._show(self._node.GetID())

    def most_uncertain(self, axis: int) -> int | None:
        """Voxel index of the slice across an axis (0 = i, 1 = j, 2 = k) with the most doubt, accepted ones apart."""
        found = self.study.logic.probability
        if found is None or found[0].is_empty:
            return None
        first, doubt = sliceScores(found, axis, acceptedSlices(self.study.logic.active.segment))
        return first + int(doubt.argmax())

    def go_to(self, tag: str, axis: int, index: int) -> None:
        """Bring a view to a voxel slice, and the crosshair into the doubtful part of it."""
        box, probability = self.study.logic.probability or (VoxelBox.empty(), None)
        point = [(low + high - 1) / 2 for low, high in zip(box.lower, box.upper, strict=True)]
        if probability is not None and box.lower[axis] <= index < box.upper[axis]:
            plane = entropy(np.take(probability, index - box.lower[axis], axis=2 - axis))
            row, column = np.unravel_index(int(plane.argmax()), plane.shape)
            first, second = (a for a in (2, 1, 0) if a != axis)
            point[first], point[second] = box.lower[first] + row, box.lower[second] + column
        point[axis] = index
        self.views.jump(tuple(self.study.volume.ijk_to_ras_points(point)))

    def _show(self, volume_id: str | None) -> None:
        for info in SLICE_VIEWS:
            view = self.views.view(info.tag)
            if view.get_foreground_volume_id() != volume_id:
                view.set_foreground_volume_id(volume_id)
                view.set_foreground_opacity(OPACITY if volume_id else 0.0)

    def _create(self, volume: Volume) -> Any:
        node = add_volume(self.study.scene, volume, "Uncertainty")
        node.SetSaveWithScene(False)
        display = node.GetDisplayNode()
        display.SetAndObserveColorNodeID(self._color_node().GetID())
        display.SetAutoWindowLevel(0)
        display.SetWindowLevelMinMax(0, 255)
        display.SetThreshold(255 * SHOWN_FROM, 255)
        display.SetApplyThreshold(1)
        return node

    def _color_node(self) -> Any:
        if self._colors is None or not self.study.scene.IsNodePresent(self._colors):
            ramp = vtk.vtkColorTransferFunction()
            ramp.SetColorSpaceToLab()
            for place, color in RAMP:
                ramp.AddRGBPoint(place, *color)
            node = slicer.vtkMRMLProceduralColorNode()
            node.SetName("Uncertainty colours")
            node.SetAndObserveColorTransferFunction(ramp)
            node.SetSaveWithScene(False)
            self._colors = self.study.scene.AddNode(node)
        return self._colors
