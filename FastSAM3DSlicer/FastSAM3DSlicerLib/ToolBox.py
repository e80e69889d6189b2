"""Which tool the mouse has: point placement through Slicer's place mode, strokes by our own drawing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer

from .PromptSync import PromptSync
from .StrokeDrawer import StrokeDrawer

POINT, BOX, SCRIBBLE, LASSO, NONE = "point", "box", "scribble", "lasso", ""
TOOLS = (POINT, BOX, SCRIBBLE, LASSO)

# (interactor, slice node) of every slice view on screen.
Views = Callable[[], list[tuple[Any, Any]]]


class ToolBox:
    """Switches tools on and off; one at a time.

    Args:
        sync: makes the markups that tools draw.
        views: the slice views to draw in.
        onChanged: called when a tool was switched, also by Slicer (Escape, another module's place button).
    """

    def __init__(self, sync: PromptSync, views: Views, onChanged: Callable[[], None]):
        self.sync, self._views, self._onChanged = sync, views, onChanged
        self.tool, self.positive = NONE, True
        self._drawer: StrokeDrawer | None = None
        self._switching = False
        self._interaction = sync.logic.scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
        self._tag = None
        if self._interaction is not None:
            event = slicer.vtkMRMLInteractionNode.InteractionModeChangedEvent
            self._tag = self._interaction.AddObserver(event, self._onModeChanged)

    def close(self) -> None:
        """Put the mouse back to Slicer's normal mode and stop listening."""
        self.use(NONE)
        if self._tag is not None:
            self._interaction.RemoveObserver(self._tag)
            self._tag = None

    def use(self, tool: str, positive: bool | None = None) -> None:
        """Pick up a tool, or put it down (NONE); `positive` switches between adding and removing."""
        self.positive = self.positive if positive is None else positive
        self._switching = True
        self._dropDrawer()
        self.tool = tool
        self._placeMode(tool == POINT)
        if tool in (BOX, SCRIBBLE, LASSO):
            self._drawer = StrokeDrawer(self._newDrawing, self.sync.commit, self.sync.cancel)
            for interactor, sliceNode in self._views():
                self._drawer.attach(interactor, sliceNode)
        self._switching = False
        self._onChanged()

    def _newDrawing(self) -> Any:
        if self.tool == BOX:
            return self.sync.newBox()
        return (self.sync.newScribble if self.tool == SCRIBBLE else self.sync.newLasso)(self.positive)

    def _dropDrawer(self) -> None:
        if self._drawer is not None:
            self._drawer.detach()
            self._drawer = None

    def _placeMode(self, on: bool) -> None:
        if self._interaction is None:
            return
        if not on:
            if self._interaction.GetCurrentInteractionMode() == self._interaction.Place:
                self._interaction.SetCurrentInteractionMode(self._interaction.ViewTransform)
            return
        node = self.sync.pointsNode(self.positive)
        selection = self.sync.logic.scene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
        selection.SetReferenceActivePlaceNodeClassName(node.GetClassName())
        selection.SetActivePlaceNodeID(node.GetID())
        self._interaction.SetPlaceModePersistence(1)
        self._interaction.SetCurrentInteractionMode(self._interaction.Place)

    def _onModeChanged(self, *_: Any) -> None:
        """Slicer left place mode, or another module entered it: our tool is put down."""
        if self._switching or self.tool == NONE:
            return
        placing = self._interaction.GetCurrentInteractionMode() == self._interaction.Place
        if placing != (self.tool == POINT):
            self._dropDrawer()
            self.tool = NONE
            self._onChanged()
