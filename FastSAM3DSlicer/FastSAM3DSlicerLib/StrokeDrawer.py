"""Drawing with the mouse held down in a slice view: scribbles, lassos and boxes; VTK only, any front end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .PromptMarkups import pointsOf
from .VolumeBridge import arrayFromMatrix, matrixFromArray

# Before Slicer's own interaction (priority 0 to 1), which would pan, zoom or change window/level.
PRIORITY = 10.0
# Screen pixels the mouse must travel before a point is added.
STEP_PIXELS = 2.0


class StrokeDrawer:
    """Turns press-drag-release in slice views into a markups node.

    Args:
        newNode: makes the markups node for a stroke that begins (curve, closed curve or ROI).
        onStroke: called with that node when the button is released.
        onCancel: called with a node whose stroke was too short to mean anything.
    """

    def __init__(
        self, newNode: Callable[[], Any], onStroke: Callable[[Any], None], onCancel: Callable[[Any], None]
    ) -> None:
        self._newNode, self._onStroke, self._onCancel = newNode, onStroke, onCancel
        self._observers: list[tuple[Any, int]] = []
        self._node: Any = None
        self._sliceNode: Any = None
        self._points: list[np.ndarray] = []
        self._pixels: list[tuple[int, int]] = []

    def attach(self, interactor: Any, sliceNode: Any) -> None:
        """Listen to one slice view."""
        for event, method in (
            ("LeftButtonPressEvent", self._press),
            ("MouseMoveEvent", self._move),
            ("LeftButtonReleaseEvent", self._release),
        ):
            self._observe(interactor, event, method, sliceNode)

    def detach(self) -> None:
        """Stop listening to all views; a stroke under way is dropped."""
        for interactor, tag in self._observers:
            interactor.RemoveObserver(tag)
        self._observers.clear()
        if self._node is not None:
            node, self._node = self._node, None
            self._onCancel(node)

    def _observe(self, interactor: Any, event: str, method: Callable[[Any, Any], bool], sliceNode: Any) -> None:
        tags: list[int] = []

        def called(caller: Any, _: str) -> None:
            if method(caller, sliceNode):
                caller.GetCommand(tags[0]).SetAbortFlag(1)

        tags.append(interactor.AddObserver(event, called, PRIORITY))
        self._observers.append((interactor, tags[0]))

    def _press(self, interactor: Any, sliceNode: Any) -> bool:
        if interactor.GetShiftKey() or interactor.GetControlKey() or interactor.GetAltKey():
            return False  # Slicer's own gestures
        self._node, self._sliceNode = self._newNode(), sliceNode
        self._points, self._pixels = [], []
        self._add(interactor)
        return True

    def _move(self, interactor: Any, sliceNode: Any) -> bool:
        if self._node is None or sliceNode is not self._sliceNode:
            return False
        if np.hypot(*np.subtract(interactor.GetEventPosition(), self._pixels[-1])) >= STEP_PIXELS:
            self._add(interactor)
            self._preview()
        return True

    def _release(self, interactor: Any, sliceNode: Any) -> bool:
        if self._node is None or sliceNode is not self._sliceNode:
            return False
        self._add(interactor)
        self._preview()
        node, self._node = self._node, None
        if self._isEnough(node):
            self._onStroke(node)
        else:
            self._onCancel(node)
        return True

    def _add(self, interactor: Any) -> None:
        x, y = interactor.GetEventPosition()
        self._pixels.append((x, y))
        self._points.append((arrayFromMatrix(self._sliceNode.GetXYToRAS()) @ [x, y, 0, 1])[:3])

    def _isEnough(self, node: Any) -> bool:
        extent = np.ptp(np.array(self._pixels), axis=0)
        if node.IsA("vtkMRMLMarkupsROINode"):
            return bool(extent.min() >= STEP_PIXELS)
        minimum = 3 if node.IsA("vtkMRMLMarkupsClosedCurveNode") else 2
        return len(self._pixels) > minimum and bool(extent.max() >= STEP_PIXELS)

    def _preview(self) -> None:
        if not self._node.IsA("vtkMRMLMarkupsROINode"):
            self._node.SetControlPointPositionsWorld(pointsOf(np.array(self._points)))
            return
        axes = arrayFromMatrix(self._sliceNode.GetSliceToRAS())[:3, :3]
        axes = axes / np.linalg.norm(axes, axis=0)
        first, last = self._points[0], self._points[-1]
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = axes, (first + last) / 2
        self._node.SetAndObserveObjectToNodeMatrix(matrixFromArray(matrix))
        across = np.abs(axes.T @ (last - first))
        self._node.SetSize(across[0], across[1], 0.0)  # flat: one slice thick
