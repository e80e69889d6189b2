"""Surfaces for the 3D view, made when the hand rests.

A closed-surface representation inside the segmentation would be meshed again at every write (210 ms for a
1 M voxel segment on a laptop CPU); these models are separate, coarse where the segment is large, and take
10-40 ms each.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import slicer
import vtk
from vtkmodules.util.numpy_support import numpy_to_vtk

from .study import Study
from .views import Views

__all__ = ["Surfaces", "mesh"]

REST = 0.45
MAX_SIDE = 96
# Room left around the surfaces, so that a growing segment does not move the camera at every click.
MARGIN = 1.25


def mesh(mask: np.ndarray, to_world: np.ndarray) -> Any:
    """A smoothed surface around a mask.

    Args:
        mask: bool, indexed [k, j, i].
        to_world: (4, 4) from voxel indices (i, j, k) of `mask` to RAS.

    Returns:
        vtkPolyData with normals.
    """
    step = max(1, -(-max(mask.shape) // MAX_SIDE))
    coarse = np.pad(mask[::step, ::step, ::step].astype(np.float32), 3)
    image = vtk.vtkImageData()
    image.SetDimensions(*coarse.shape[::-1])
    image.SetOrigin(-3 * step, -3 * step, -3 * step)
    image.SetSpacing(step, step, step)
    image.GetPointData().SetScalars(numpy_to_vtk(coarse.ravel(), deep=1))
    smooth = vtk.vtkImageGaussianSmooth()
    smooth.SetInputData(image)
    smooth.SetStandardDeviations(1.2, 1.2, 1.2)
    smooth.SetRadiusFactors(2, 2, 2)
    edges = vtk.vtkFlyingEdges3D()
    edges.SetInputConnection(smooth.GetOutputPort())
    edges.SetValue(0, 0.5)
    edges.ComputeNormalsOff()
    place = vtk.vtkTransform()
    place.SetMatrix(np.ascontiguousarray(to_world, dtype=float).ravel())
    moved = vtk.vtkTransformPolyDataFilter()
    moved.SetInputConnection(edges.GetOutputPort())
    moved.SetTransform(place)
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(moved.GetOutputPort())
    normals.SplittingOff()
    normals.Update()
    return normals.GetOutput()


class Surfaces:
    """One model node per segment, made again after the segment changed and the hand rested."""

    def __init__(self, state: Any, study: Study, views: Views) -> None:
        self.state, self.study, self.views = state, study, views
        self._models: dict[str, Any] = {}
        self._stamps: dict[str, Any] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._framed: Any = None

    def later(self) -> None:
        """The segments changed; make the surfaces when nothing has happened for a moment."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(REST, self.refresh)

    def refresh(self) -> None:
        """Bring all surfaces up to date now."""
        if not self.study.is_open or self.study.logic.active is None:
            return
        ids = self.study.segment_ids()
        for segment_id in [i for i in self._models if i not in ids]:
            self._remove(segment_id)
        for segment_id in ids:
            self._refresh(segment_id)
        with self.state:
            self.state.has_surface = any(m.GetPolyData().GetNumberOfPoints() for m in self._models.values())
        self._frame()

    def clear(self) -> None:
        for segment_id in list(self._models):
            self._remove(segment_id)
        self._framed = None
        self.state.has_surface = False

    def centre(self) -> None:
        """Look at everything from the front."""
        self.views.view("ThreeD").reset_view()
        self._framed = None
        self._frame()

    def _frame(self) -> None:
        """Bring the camera so far back that all surfaces are in sight; leave it alone while they are."""
        around = vtk.vtkBoundingBox()
        for model in self._models.values():
            if model.GetPolyData().GetNumberOfPoints() and model.GetDisplayNode().GetVisibility():
                around.AddBounds(model.GetPolyData().GetBounds())
        if not around.IsValid() or (self._framed is not None and self._framed.Contains(around)):
            return
        around.ScaleAboutCenter(MARGIN)
        self._framed = around
        bounds = [0.0] * 6
        around.GetBounds(bounds)
        view = self.views.view("ThreeD")
        view.renderer().ResetCamera(bounds)
        view.schedule_render()

    def _remove(self, segment_id: str) -> None:
        self.study.scene.RemoveNode(self._models.pop(segment_id))
        self._stamps.pop(segment_id, None)

    def _refresh(self, segment_id: str) -> None:
        image = self.study.logic.active.image(segment_id)
        model = self._models.get(segment_id)
        if model is None:
            model = self._models[segment_id] = self._create(self.study.segment(segment_id).GetName())
        if self._stamps.get(segment_id) != image.stamp:
            self._stamps[segment_id] = image.stamp
            mask = image.ownContent()
            surface = vtk.vtkPolyData()
            if mask.any():
                offset = np.eye(4)
                offset[:3, 3] = image.box.lower
                surface = mesh(mask, image.imageToLocal @ offset)
            model.SetAndObservePolyData(surface)
        display, shown = model.GetDisplayNode(), self.study.segmentation_node.GetDisplayNode()
        display.SetColor(*self.study.segment(segment_id).GetColor())
        display.SetVisibility(bool(shown.GetSegmentVisibility(segment_id)))

    def _create(self, name: str) -> Any:
        model = slicer.vtkMRMLModelNode()
        model.SetName(f"{name} surface")
        model.SetSaveWithScene(False)
        model.SetHideFromEditors(True)
        self.study.scene.AddNode(model)
        model.SetAndObservePolyData(vtk.vtkPolyData())
        model.CreateDefaultDisplayNodes()
        model.GetDisplayNode().SetSaveWithScene(False)
        model.GetDisplayNode().SetVisibility2D(False)
        return model
