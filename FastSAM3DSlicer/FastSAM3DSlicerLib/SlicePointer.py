"""Which slice view the user works in."""

from __future__ import annotations

from typing import Any


class SlicePointer:
    """The slice view under the mouse pointer, or the last one that was: buttons are pressed outside of all views.

    Args:
        scene: the vtkMRMLScene with the slice views.
    """

    def __init__(self, scene: Any):
        self._scene = scene
        # An ID, not the node: it is worth nothing once the node has left the scene.
        self._lastId = ""
        self._observed: tuple[Any, int] | None = None

    def follow(self) -> None:
        """Watch the mouse pointer from now on."""
        crosshair = self._scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        if self._observed is None and crosshair is not None:
            tag = crosshair.AddObserver(crosshair.CursorPositionModifiedEvent, self._onMoved)
            self._observed = (crosshair, tag)
            self._onMoved(crosshair)

    def close(self) -> None:
        """Stop watching."""
        if self._observed is not None:
            crosshair, tag = self._observed
            crosshair.RemoveObserver(tag)
            self._observed = None

    @property
    def node(self) -> Any:
        """The slice view's node; the scene's first one as long as the pointer was in none, None without slice views."""
        last = self._scene.GetNodeByID(self._lastId) if self._lastId else None
        return last or self._scene.GetFirstNodeByClass("vtkMRMLSliceNode")

    def _onMoved(self, crosshair: Any, _: str = "") -> None:
        under = crosshair.GetCursorPositionXYZ([0.0, 0.0, 0.0])
        if under is not None:
            self._lastId = under.GetID()
