"""The segment list of the side panel."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from FastSAM3DCore.errors import PromptError
from FastSAM3DSlicerLib.VolumeBridge import nodeToWorld

from .study import Study

__all__ = ["SegmentList"]

COLOR = re.compile(r"#[0-9a-fA-F]{6}")
MAX_NAME = 80


class SegmentList:
    """Shows the segments of the study and carries out what is done in the list."""

    def __init__(self, state: Any, study: Study) -> None:
        self.state, self.study = state, study
        self._counted: dict[str, tuple[Any, float]] = {}

    @property
    def _display(self) -> Any:
        return self.study.segmentation_node.GetDisplayNode()

    def refresh(self) -> None:
        """Write the list into the page's state."""
        if not self.study.is_open:
            self.state.segments, self.state.active_segment = [], ""
            return
        self.state.segments = [self._entry(segment_id) for segment_id in self.study.segment_ids()]
        self.state.active_segment = self.study.active_id

    def _entry(self, segment_id: str) -> dict[str, Any]:
        segment = self.study.segment(segment_id)
        return {
            "id": segment_id,
            "name": segment.GetName(),
            "color": "#" + "".join(f"{round(255 * c):02x}" for c in segment.GetColor()),
            "visible": bool(self._display.GetSegmentVisibility(segment_id)),
            "locked": self.study.is_locked(segment_id),
            "volume": volume_text(self._milliliters(segment_id)),
        }

    def _milliliters(self, segment_id: str) -> float:
        """A segment's size. The logic counts along for the active one; others are counted after they were touched."""
        if segment_id == self.study.active_id:
            return self.study.logic.active.milliliters()
        image = self.study.image(segment_id)
        stamp, milliliters = self._counted.get(segment_id, (None, 0.0))
        if image.stamp != stamp:
            to_world = nodeToWorld(self.study.segmentation_node) @ image.imageToLocal
            voxel = abs(float(np.linalg.det(to_world[:3, :3]))) / 1000
            milliliters = np.count_nonzero(image.ownContent()) * voxel
            self._counted[segment_id] = (image.stamp, milliliters)
        return milliliters

    def change(self, what: str, segment_id: str, value: Any = None) -> str:
        """Do what the list's controls say.

        Returns:
            what to tell the person, if anything.

        Raises:
            PromptError: there is no such segment, or the value makes no sense.
        """
        if segment_id not in self.study.segment_ids():
            raise PromptError("That segment is gone.")
        segment = self.study.segment(segment_id)
        match what:
            case "activate":
                self.study.activate(segment_id)
            case "name":
                name = str(value).strip()[:MAX_NAME]
                if name:
                    segment.SetName(name)
            case "color":
                if not COLOR.fullmatch(str(value)):
                    raise PromptError(f"{value!r} is no colour.")
                segment.SetColor(*(int(str(value)[n : n + 2], 16) / 255 for n in (1, 3, 5)))
            case "visible":
                self._display.SetSegmentVisibility(segment_id, bool(value))
            case "locked":
                self.study.set_locked(segment_id, bool(value))
            case "remove":
                self.study.remove_segment(segment_id)
                return f"{segment.GetName()} is deleted; Undo brings it back."
            case _:
                raise PromptError(f"Unknown change {what!r}.")
        return ""

    def toggle_active(self) -> None:
        """Show or hide the active segment."""
        segment_id = self.study.active_id
        if segment_id:
            self.change("visible", segment_id, not self._display.GetSegmentVisibility(segment_id))

    def set_opacity(self, opacity: float) -> None:
        """Of all segments' fill in slices; the outline stays a little stronger."""
        opacity = min(max(float(opacity), 0.0), 1.0)
        self.state.opacity = opacity
        if self.study.segmentation_node is not None:
            self._display.SetOpacity2DFill(opacity)
            self._display.SetOpacity2DOutline(min(1.0, opacity + 0.4))


def volume_text(milliliters: float) -> str:
    """A volume with as many digits as make sense."""
    if milliliters <= 0:
        return ""
    return f"{milliliters:.2f} ml" if milliliters < 10 else f"{milliliters:.0f} ml"
