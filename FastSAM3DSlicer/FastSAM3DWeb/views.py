"""The four views: creation, coordinates, slices, window and level, and the order in which they repaint."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import vtk
from slicer import (
    vtkMRMLCrosshairNode,
    vtkMRMLInteractionNode,
    vtkMRMLLayerDisplayableManager,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSliceNode,
)
from trame_rca.encoders import RcaImageEncoder
from trame_server import Server
from trame_slicer.core import SlicerApp
from trame_slicer.rca_view import RemoteSliceViewFactory, RemoteThreeDViewFactory
from trame_slicer.views import AbstractView, SliceView, ViewLayoutDefinition, ViewProps, ViewType
from vtkmodules.util.numpy_support import vtk_to_numpy

__all__ = ["SLICE_VIEWS", "VIEWS", "ViewInfo", "Views"]


@dataclass(frozen=True, slots=True)
class ViewInfo:
    """A view's fixed facts. The letters at its edges are for Slicer's default orientations."""

    tag: str
    title: str
    color: str
    left: str = ""
    right: str = ""
    top: str = ""
    bottom: str = ""


SLICE_VIEWS = (
    ViewInfo("Red", "Axial", "#c96a5b", "R", "L", "A", "P"),
    ViewInfo("Green", "Coronal", "#7a9f63", "R", "L", "S", "I"),
    ViewInfo("Yellow", "Sagittal", "#c2ac5a", "A", "P", "S", "I"),
)
VIEWS = (SLICE_VIEWS[0], ViewInfo("ThreeD", "3D", "#6f8fb0"), SLICE_VIEWS[1], SLICE_VIEWS[2])

FPS = 30.0
# One quality for moving and still pictures: a second, sharper picture half a second later would cost another
# rendering of each view, and at 88 the edges of thin overlays stay clean (about 45 kB for 600x400).
JPEG_QUALITY = 88
# More pixels than a view needs on a 4K screen only cost rendering time on machines without a GPU.
MAX_PIXELS = 1_300_000
# How long the other views wait for the clicked one: drawing, encoding, sending (15-40 ms at 600x400) and showing.
OTHERS_WAIT = 0.09


class Views:
    """Creates the views and hides from everyone else how they are drawn."""

    def __init__(self, server: Server, app: SlicerApp) -> None:
        self._app = app
        self._factories = [
            factory(
                server,
                target_fps=FPS,
                blur_fps=FPS,
                interactive_quality=JPEG_QUALITY,
                rca_encoder="jpeg",
                rca_event_throttle_s=0.016,
            )
            for factory in (RemoteSliceViewFactory, RemoteThreeDViewFactory)
        ]
        for factory in self._factories:
            app.view_manager.register_factory(factory)
        self.shown = frozenset(view.tag for view in VIEWS)
        for info in VIEWS:
            self._create(info)
        app.view_manager.set_current_view_ids([view.tag for view in VIEWS])
        self._crosshair().SetCrosshairMode(vtkMRMLCrosshairNode.ShowBasic)
        self._crosshair().SetCrosshairThickness(vtkMRMLCrosshairNode.Fine)
        self._release: asyncio.Task[None] | None = None

    def _create(self, info: ViewInfo) -> None:
        if info.tag == "ThreeD":
            definition = ViewLayoutDefinition.threed_view(background_color=("#0b0e11", "#161c22"), label="3D")
        else:
            definition = ViewLayoutDefinition(
                info.tag, ViewType.SLICE_VIEW, ViewProps(label=info.title, orientation=info.title, color=info.color)
            )
        view = self._app.view_manager.create_view(definition)
        # Multisampling costs a factor of four in software rendering and changes nothing in a slice.
        view.render_window().SetMultiSamples(0)
        if info.tag == "ThreeD":
            view.renderer().UseFXAAOn()
            # A crosshair in 3D hides the small segment it stands in; without a scene its manager draws none.
            view.get_displayable_manager_by_class("vtkMRMLCrosshairDisplayableManager3D").SetMRMLScene(None)
        adapter = self._adapter(info.tag)
        adapter.max_pixel_count = MAX_PIXELS
        adapter.update_quality(JPEG_QUALITY, JPEG_QUALITY)

    def _adapter(self, tag: str):
        for factory in self._factories:
            if factory.has_view(tag):
                return factory.get_factory_view(tag).view_adapter
        raise KeyError(tag)

    def template_name(self, tag: str) -> str:
        return self._adapter(tag).area_name

    def view(self, tag: str) -> AbstractView:
        return self._app.view_manager.get_view(tag)

    def slice_views(self) -> dict[str, SliceView]:
        return {info.tag: self.view(info.tag) for info in SLICE_VIEWS}

    def slice_node(self, tag: str) -> vtkMRMLSliceNode:
        return self.view(tag).get_view_node()

    def show_only(self, tags: frozenset[str]) -> None:
        """Stop drawing the views that the page hides."""
        self.shown = tags
        self._app.view_manager.set_current_view_ids(sorted(tags))

    # Coordinates

    def ras(self, tag: str, x: float, y: float) -> tuple[float, float, float]:
        """World position of a place in a slice view.

        Args:
            x, y: fraction of the view's width from the left and of its height from the top.
        """
        node = self.slice_node(tag)
        width, height = node.GetDimensions()[:2]
        point = node.GetXYToRAS().MultiplyPoint((x * width, (1 - y) * height, 0.0, 1.0))
        return (point[0], point[1], point[2])

    def place(self, tag: str, ras: tuple[float, float, float]) -> tuple[float, float]:
        """The inverse of `ras`: fractions from the left and from the top."""
        node = self.slice_node(tag)
        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(node.GetXYToRAS(), inverse)
        x, y = inverse.MultiplyPoint((*ras, 1.0))[:2]
        width, height = node.GetDimensions()[:2]
        return (x / width, 1 - y / height)

    def mm_per_width(self, tag: str) -> float:
        """Millimetres across the view."""
        return float(self.slice_node(tag).GetFieldOfView()[0])

    def normal(self, tag: str) -> tuple[float, float, float]:
        """Unit normal of the slice plane in RAS."""
        matrix = self.slice_node(tag).GetSliceToRAS()
        return (matrix.GetElement(0, 2), matrix.GetElement(1, 2), matrix.GetElement(2, 2))

    def origin(self, tag: str) -> tuple[float, float, float]:
        """A point in the slice plane, RAS."""
        matrix = self.slice_node(tag).GetSliceToRAS()
        return (matrix.GetElement(0, 3), matrix.GetElement(1, 3), matrix.GetElement(2, 3))

    def axis_across(self, tag: str, ijk_to_ras: np.ndarray) -> int:
        """The voxel axis (0 = i, 1 = j, 2 = k) that a view looks along."""
        world = ijk_to_ras[:3, :3]
        return int(np.abs(np.array(self.normal(tag)) @ (world / np.linalg.norm(world, axis=0))).argmax())

    # Looking around

    def show_volume(self, node: vtkMRMLScalarVolumeNode) -> None:
        self._app.display_manager.show_volume_in_slice_background(node)
        self.fit()

    def fit(self) -> None:
        self._app.display_manager.reset_views()
        for view in self.slice_views().values():
            view.schedule_render()

    def _crosshair(self) -> vtkMRMLCrosshairNode:
        return self._app.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")

    @property
    def crosshair_ras(self) -> tuple[float, float, float]:
        return tuple(self._crosshair().GetCrosshairRAS())

    def jump(self, ras: tuple[float, float, float], keep: str = "") -> None:
        """Put the crosshair somewhere and bring all slices (except view `keep`) there."""
        self._crosshair().SetCrosshairRAS(*ras)
        for tag in self.slice_views():
            if tag != keep:
                self.slice_node(tag).JumpSliceByOffsetting(*ras)

    def set_crosshair_visible(self, visible: bool) -> None:
        mode = vtkMRMLCrosshairNode.ShowBasic if visible else vtkMRMLCrosshairNode.NoCrosshair
        self._crosshair().SetCrosshairMode(mode)

    def step(self, tag: str, slices: int) -> None:
        view = self.view(tag)
        low, high = view.get_slice_range()
        value = view.get_slice_value() + slices * view.get_slice_step()
        view.set_slice_value(min(max(value, low), high))

    def set_window_level_by_drag(self, on: bool) -> None:
        """Whether dragging with the left button changes window and level."""
        node = self._app.scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
        node.SetCurrentInteractionMode(
            vtkMRMLInteractionNode.AdjustWindowLevel if on else vtkMRMLInteractionNode.ViewTransform
        )

    # Repainting

    def repaint_first(self, tag: str | None) -> None:
        """Draw this view now and the others right after, so that the eye sees the answer where it looks."""
        if tag is None or tag not in self.shown:
            return
        for other in self.shown - {tag}:
            self.view(other).set_render_blocked(True)
        self.view(tag).schedule_render()
        if self._release is not None:
            self._release.cancel()
        self._release = asyncio.get_running_loop().create_task(self._release_others())

    def picture_ms(self, tag: str) -> tuple[float, float]:
        """Make a view's picture once more; returns how long drawing and encoding took."""
        start = perf_counter()
        window, image = self.view(tag).render_window(), vtk.vtkImageData()
        window.Render()
        vtkMRMLLayerDisplayableManager.RenderWindowBufferToImage(window, image)
        pixels = vtk_to_numpy(image.GetPointData().GetScalars())
        columns, rows = image.GetDimensions()[:2]
        pixels = pixels.reshape(rows, columns, -1)[::-1].copy()
        drawn = perf_counter()
        RcaImageEncoder.JPEG.encode(pixels, columns, rows, JPEG_QUALITY)
        return (drawn - start) * 1e3, (perf_counter() - drawn) * 1e3

    async def _release_others(self) -> None:
        await asyncio.sleep(OTHERS_WAIT)
        for tag in self.shown:
            self.view(tag).set_render_blocked(False)
