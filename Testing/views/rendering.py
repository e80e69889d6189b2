"""Real slice and 3D views, rendered off screen, driven by real mouse events."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# A GPU-less machine renders through EGL and Mesa; must be set before VTK makes its first window.
os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

import vtk
from trame_slicer.core import SlicerApp
from trame_slicer.views import DirectViewFactory, ViewLayoutDefinition, ViewProps, ViewType
from trame_slicer.views.render_scheduler import NoScheduleRendering
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from FastSAM3DSlicerLib.VolumeBridge import arrayFromMatrix

ORIENTATIONS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}


class RenderedViews:
    """A scene with three slice views (and a 3D view), as an application shows them.

    Attributes:
        scene: the vtkMRMLScene.
        views: by layout name: Red (axial), Green (coronal), Yellow (sagittal), ThreeD.
    """

    def __init__(self, size: tuple[int, int] = (400, 400), threeD: bool = False) -> None:
        self.app = SlicerApp()
        self.scene = self.app.scene
        manager = self.app.view_manager
        manager.register_factory(DirectViewFactory(do_render_offscreen=True))
        self.views: dict[str, Any] = {}
        for tag, orientation in ORIENTATIONS.items():
            properties = ViewProps(orientation=orientation)
            self.views[tag] = manager.create_view(
                ViewLayoutDefinition(singleton_tag=tag, view_type=ViewType.SLICE_VIEW, properties=properties)
            )
        if threeD:
            self.views["ThreeD"] = manager.create_view(
                ViewLayoutDefinition(singleton_tag="ThreeD", view_type=ViewType.THREE_D_VIEW, properties=ViewProps())
            )
        for view in self.views.values():
            view.set_scheduled_render(NoScheduleRendering())  # else every mouse event renders: 5x slower
            view.interactor().UpdateSize(*size)

    def close(self) -> None:
        for view in self.views.values():
            view.finalize()

    def addVolume(
        self, array: np.ndarray, ijkToRas: np.ndarray, window: tuple[float, float], name: str = "Scan"
    ) -> Any:
        """A volume shown in the slice views; array indexed [k, j, i]."""
        node = self.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        matrix = vtk.vtkMatrix4x4()
        matrix.DeepCopy(np.asarray(ijkToRas, dtype=float).ravel())
        node.SetIJKToRASMatrix(matrix)
        image = vtk.vtkImageData()
        image.SetDimensions(*array.shape[::-1])
        image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=1))
        node.SetAndObserveImageData(image)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(*window)
        # Not show_volume(): it turns on volume rendering, minutes per frame without a GPU.
        self.app.display_manager.show_volume_in_slice_background(node)
        self.app.display_manager.reset_views()
        return node

    def sliceNode(self, tag: str) -> Any:
        return self.views[tag].get_view_node()

    def interactor(self, tag: str) -> Any:
        return self.views[tag].interactor()

    def jump(self, ras: Sequence[float]) -> None:
        """Show a world position in all slice views."""
        for tag in ORIENTATIONS:
            self.sliceNode(tag).JumpSliceByOffsetting(*ras)

    def look(self, ras: Sequence[float], zoom: float) -> None:
        """Centre all slice views on a world position and show this part of the scan's extent there."""
        self.app.display_manager.reset_views()
        for tag in ORIENTATIONS:
            node = self.sliceNode(tag)
            x, y, z = node.GetFieldOfView()
            node.SetFieldOfView(zoom * x, zoom * y, z)
            node.JumpSliceByCentering(*ras)

    def pixel(self, tag: str, ras: Sequence[float]) -> tuple[int, int]:
        """Where a world position is in a slice view, in screen pixels."""
        toXY = np.linalg.inv(arrayFromMatrix(self.sliceNode(tag).GetXYToRAS()))
        x, y = (toXY @ [*ras, 1.0])[:2]
        return (round(float(x)), round(float(y)))

    def world(self, tag: str, pixel: tuple[int, int]) -> np.ndarray:
        """The world position under a screen pixel of a slice view."""
        return (arrayFromMatrix(self.sliceNode(tag).GetXYToRAS()) @ [*pixel, 0, 1])[:3]

    def place(self, node: Any, persistent: bool = True) -> None:
        """Clicks place points of this markups node."""
        self.app.markups_logic.place_node(node, persistent=persistent)

    def stopPlacing(self) -> None:
        self.app.markups_logic.disable_place_mode()

    def move(self, tag: str, x: int, y: int) -> None:
        interactor = self.interactor(tag)
        interactor.SetEventPosition(x, y)
        interactor.InvokeEvent("MouseMoveEvent")

    def leave(self, tag: str) -> None:
        """The mouse pointer goes out of a view."""
        self.interactor(tag).InvokeEvent("LeaveEvent")

    def click(self, tag: str, x: int, y: int) -> None:
        """A left click, as the window system would send it."""
        self.move(tag, x, y)
        self.interactor(tag).InvokeEvent("LeftButtonPressEvent")
        self.interactor(tag).InvokeEvent("LeftButtonReleaseEvent")

    def drag(self, tag: str, path: Sequence[tuple[int, int]]) -> None:
        """Press at the first pixel, move along the path, release at the last."""
        self.move(tag, *path[0])
        self.interactor(tag).InvokeEvent("LeftButtonPressEvent")
        for x, y in path[1:]:
            self.move(tag, x, y)
        self.interactor(tag).InvokeEvent("LeftButtonReleaseEvent")

    def grab(self, tag: str, path: Path | None = None) -> np.ndarray:
        """Render a view; uint8 RGB indexed [row from the bottom, column, channel]; optionally also a PNG."""
        view = self.views[tag]
        view.render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(view.render_window())
        grabber.ReadFrontBufferOff()
        grabber.Update()
        image = grabber.GetOutput()
        if path is not None:
            writer = vtk.vtkPNGWriter()
            writer.SetFileName(str(path))
            writer.SetInputData(image)
            writer.Write()
        width, height, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[..., :3].copy()


def reddish(pixels: np.ndarray) -> int:
    """How many pixels of a picture are tinted red: a red segment over a grey scan."""
    rgb = pixels.astype(int)
    return int(((rgb[..., 0] - rgb[..., 1] > 25) & (rgb[..., 0] - rgb[..., 2] > 25)).sum())


def setRed(segment: Any) -> None:
    segment.SetColor(1.0, 0.0, 0.0)
