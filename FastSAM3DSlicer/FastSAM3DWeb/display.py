"""How the scan is shown: window and level, slices, crosshair, layout; kept in step with the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import vtk
from trame_slicer.core import VolumeWindowLevel

from .study import Study
from .ui.page import WINDOW_PRESETS
from .views import SLICE_VIEWS, VIEWS, Views

__all__ = ["Display"]

# Letters of the positive and negative directions of the R, A and S axes.
LETTERS = ("RL", "AP", "SI")
BY_HAND = "By hand"
CT_BELOW = -500
# The slider of a range with fewer steps feels jerky.
SLIDER_STEPS = 400


class Display:
    """Window and level, slices, crosshair and layout.

    Attributes:
        moved: called with a slice view's tag after it shows something else.
    """

    def __init__(self, state: Any, study: Study, views: Views) -> None:
        self.state, self.study, self.views = state, study, views
        self._tags: list[tuple[Any, int]] = []
        self._setting = False
        self.moved: Callable[[str], None] = lambda tag: None
        for info in SLICE_VIEWS:
            views.view(info.tag).modified.connect(lambda *_, tag=info.tag: self.refresh_slice(tag))

    # The scan

    def show(self) -> None:
        """Bring the study's scan into the views, centred, with a window that fits it."""
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        node = self.study.volume_node
        low, high = (float(v) for v in node.GetImageData().GetScalarRange())
        self.state.wl_low = low
        self.state.wl_range = max(high - low, 1e-6)
        self.state.wl_step = self.state.wl_range / SLIDER_STEPS
        display = node.GetDisplayNode()
        display.SetInterpolate(1)
        self._tags = [(display, display.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._window_changed()))]
        self.views.show_volume(node)
        # Hounsfield units begin far below zero; between air and metal the whole range shows no organs.
        self.preset("Soft tissue" if low < CT_BELOW else "Auto")
        bounds = np.zeros(6)
        node.GetRASBounds(bounds)
        self.views.jump(tuple(bounds.reshape(3, 2).mean(axis=1)))
        self.refresh_slices()

    def preset(self, name: str) -> None:
        """One of `WINDOW_PRESETS`; unknown names change nothing."""
        if not self.study.is_open or name not in WINDOW_PRESETS:
            return
        values = WINDOW_PRESETS[name]
        if values is None:
            node = self.study.volume_node
            low, high = VolumeWindowLevel.get_volume_auto_min_max_range(node)
            if high <= low:
                low, high = node.GetImageData().GetScalarRange()
            values = (high - low, (high + low) / 2)
        self.set_window_level(*values, preset=name)

    def set_window_level(self, window: float, level: float, preset: str = BY_HAND) -> None:
        if not self.study.is_open:
            return
        self._setting = True
        VolumeWindowLevel.set_volume_node_window_level(self.study.volume_node, max(float(window), 1e-6), float(level))
        self._setting = False
        self.state.update({"window_width": window, "level": level, "preset": preset})

    def _window_changed(self) -> None:
        if self._setting or not self.study.is_open:
            return
        display = self.study.volume_node.GetDisplayNode()
        with self.state:
            self.state.update({"window_width": display.GetWindow(), "level": display.GetLevel(), "preset": BY_HAND})

    # Slices

    def refresh_slices(self) -> None:
        for info in SLICE_VIEWS:
            self.refresh_slice(info.tag)

    def refresh_slice(self, tag: str) -> None:
        """Tell the page where a view's slice is."""
        view = self.views.view(tag)
        if view is None:
            return
        low, high = view.get_slice_range()
        value = view.get_slice_value()
        normal = self.views.normal(tag)
        axis = int(np.abs(normal).argmax())
        letter = LETTERS[axis][0 if value * normal[axis] >= 0 else 1]
        entry = {"min": low, "max": high, "step": view.get_slice_step(), "value": value, "normal": normal}
        across = dict(self.state.mm_across or {})
        across[tag] = self.views.mm_per_width(tag)
        with self.state:
            self.state[f"slice_{tag}"] = entry | {"text": f"{letter} {abs(value):.1f} mm"}
            self.state.mm_across = across
            self.moved(tag)

    def set_slice(self, tag: str, value: float) -> None:
        if tag in self.views.slice_views():
            self.views.view(tag).set_slice_value(float(value))

    def set_crosshair(self, visible: bool) -> None:
        self.views.set_crosshair_visible(bool(visible))
        self.state.crosshair = bool(visible)

    def toggle_layout(self, tag: str) -> None:
        """Enlarge one view, or go back to all."""
        if tag not in {view.tag for view in VIEWS}:
            return
        single = self.state.layout != tag
        self.state.layout = tag if single else "quad"
        self.views.show_only(frozenset({tag}) if single else frozenset(view.tag for view in VIEWS))
