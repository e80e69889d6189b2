"""Where the engine is undecided: an overlay over the scan, and the slices that need a look."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from FastSAM3DCore.types import VoxelBox

from .PromptMarkups import ROLE
from .SliceLimit import SliceLimit
from .VolumeBridge import shapeIjk

OPACITY = 0.6
# Certain voxels (both sides) are transparent; only above this the overlay shows.
SHOWN_PERCENT = 20
COLORS = 101


def uncertaintyOf(probability: np.ndarray) -> np.ndarray:
    """1 where the probability is 0.5, 0 where it is 0 or 1; float32."""
    return 4.0 * probability * (1.0 - probability)


class UncertaintyOverlay:
    """A scalar volume over the scan, in percent, shown as the slice views' foreground; written box by box."""

    def __init__(self, scene: Any):
        self.scene = scene
        self.node: Any = None
        self._volumeId = ""
        self._box = VoxelBox.empty()
        # {slice view's composite node ID: (foreground volume ID, opacity) before ours}
        self._before: dict[str, tuple[str | None, float]] = {}

    def show(self, volumeNode: Any, probability: tuple[VoxelBox, np.ndarray] | None) -> None:
        """Show a probability (box, float32 [k, j, i]); None shows nothing anywhere."""
        if self.node is None or not self.scene.IsNodePresent(self.node) or self._volumeId != volumeNode.GetID():
            self.hide()
            self._create(volumeNode)
        self._coverViews()
        image = self.node.GetImageData()
        percent = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
        percent[self._box.slices_kji] = 0
        self._box = VoxelBox.empty()
        if probability is not None:
            self._box, values = probability
            percent[self._box.slices_kji] = uncertaintyOf(values) * 100 + 0.5
        image.Modified()

    def hide(self) -> None:
        """Take the overlay out of the views and the scene; the views show again what they showed before."""
        if self.node is None:
            return
        for composite in composites(self.scene):
            if composite.GetForegroundVolumeID() == self.node.GetID():
                before, opacity = self._before.get(composite.GetID(), (None, composite.GetForegroundOpacity()))
                composite.SetForegroundVolumeID(before if before and self.scene.GetNodeByID(before) else None)
                composite.SetForegroundOpacity(opacity)
        self._before.clear()
        if self.scene.IsNodePresent(self.node):
            self.scene.RemoveNode(self.node)
            self.scene.RemoveNode(colorTable(self.scene))
        self.node, self._box = None, VoxelBox.empty()

    def _create(self, volumeNode: Any) -> None:
        node = self.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "FastSAM3D uncertainty")
        node.SetAttribute(ROLE, "uncertainty")
        node.SetSaveWithScene(False)
        node.SetHideFromEditors(True)
        matrix = vtk.vtkMatrix4x4()
        volumeNode.GetIJKToRASMatrix(matrix)
        node.SetIJKToRASMatrix(matrix)
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        image = vtk.vtkImageData()
        image.SetDimensions(*shapeIjk(volumeNode))
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        image.GetPointData().GetScalars().Fill(0)
        node.SetAndObserveImageData(image)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetAndObserveColorNodeID(colorTable(self.scene).GetID())
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(0, 100)
        display.SetApplyThreshold(True)
        display.SetLowerThreshold(SHOWN_PERCENT)
        display.SetUpperThreshold(255)
        self.node, self._volumeId, self._box = node, volumeNode.GetID(), VoxelBox.empty()

    def _coverViews(self) -> None:
        """Become the foreground of every slice view, once: what the user chooses there later stays."""
        for composite in composites(self.scene):
            if composite.GetID() not in self._before:
                self._before[composite.GetID()] = (composite.GetForegroundVolumeID(), composite.GetForegroundOpacity())
                composite.SetForegroundVolumeID(self.node.GetID())
                composite.SetForegroundOpacity(OPACITY)


def colorTable(scene: Any) -> Any:
    """Yellow to red, of our own: the colours a scene comes with differ between applications."""
    name = "FastSAM3D uncertainty colours"
    node = scene.GetFirstNodeByName(name)
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLColorTableNode", name)
        node.SetTypeToUser()
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        node.SetNumberOfColors(COLORS)
        node.SetNamesInitialised(True)
        for n in range(COLORS):
            node.SetColor(n, str(n), 1.0, 1.0 - n / (COLORS - 1), 0.0, 1.0)
    return node


def composites(scene: Any) -> list[Any]:
    """What the slice views show."""
    count = scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")
    return [scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode") for n in range(count)]


def sliceScores(
    probability: tuple[VoxelBox, np.ndarray], axis: int, accepted: list[SliceLimit]
) -> tuple[int, np.ndarray]:
    """Summed uncertainty of each slice across a voxel axis, accepted voxels left out: (first slice, scores)."""
    box, values = probability
    uncertainty = uncertaintyOf(values)
    for plane in accepted:
        uncertainty = np.where(plane.inside(box), 0.0, uncertainty)
    others = tuple(a for a in range(3) if a != 2 - axis)
    return box.lower[axis], uncertainty.sum(axis=others)
