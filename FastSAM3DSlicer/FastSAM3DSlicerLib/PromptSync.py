"""Markups events to prompts: placing, dragging and deleting markups leads to the same calls as the API."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import slicer
import vtk

from FastSAM3DCore.errors import FastSAM3DError
from FastSAM3DCore.types import MaskUpdate

from .Job import Job
from .PromptMarkups import ROLE, PromptMarkups, addMarkups
from .SegmentationLogic import SegmentationLogic

Prepare = Callable[[], Job]
Done = Callable[[MaskUpdate | None], None]
Submit = Callable[[Prepare, Done], None]

MARKUPS = slicer.vtkMRMLMarkupsNode
MINIMUM_POINTS = {"vtkMRMLMarkupsROINode": 1, "vtkMRMLMarkupsCurveNode": 2, "vtkMRMLMarkupsClosedCurveNode": 3}


class PromptSync:
    """Observes markups for one `SegmentationLogic`.

    Args:
        logic: where prompts go.
        submit: takes a function that prepares a job, and a function to call with the update (None if the
            prompt was refused). The default runs it here and now and sends errors to `logic.onStatus`.
    """

    def __init__(self, logic: SegmentationLogic, submit: Submit | None = None):
        self.logic = logic
        self.markups = PromptMarkups(logic.scene)
        self._submit = submit or self._runNow
        self._observers: list[tuple[Any, int]] = []
        self._watched: dict[str, tuple[Any, bool]] = {}
        self._drawing: dict[str, tuple[Any, bool]] = {}
        self._busy: set[tuple[str, str]] = set()
        self._held = 0
        self._observe(logic.scene, slicer.vtkMRMLScene.NodeRemovedEvent, self._onNodeRemoved)

    def close(self) -> None:
        """Stop listening and take our markups out of the scene."""
        for subject, tag in self._observers:
            subject.RemoveObserver(tag)
        self._observers.clear()
        self._watched.clear()
        self._drawing.clear()
        for node in self.markups.ownNodes():
            if self.logic.scene.IsNodePresent(node):
                self.logic.scene.RemoveNode(node)
        self.markups = PromptMarkups(self.logic.scene)

    # -- nodes to draw in ------------------------------------------------------------------------------

    def pointsNode(self, positive: bool) -> Any:
        """The list to place points in."""
        node = self.markups.pointsNode(positive)
        self.observe(node, positive)
        return node

    def newBox(self) -> Any:
        """An ROI to place."""
        return self._newDrawing("vtkMRMLMarkupsROINode", "box", True)

    def newScribble(self, positive: bool) -> Any:
        """A curve to draw along the structure."""
        return self._newDrawing("vtkMRMLMarkupsCurveNode", "scribble", positive)

    def newLasso(self, positive: bool) -> Any:
        """A closed curve to draw around the structure."""
        return self._newDrawing("vtkMRMLMarkupsClosedCurveNode", "lasso", positive)

    def observe(self, node: Any, positive: bool = True) -> None:
        """Listen to any markups node: its points are prompts as soon as they are placed, an ROI or curve when
        its placement ends (or `commit` is called)."""
        if node.GetID() in self._watched:
            return
        self._watched[node.GetID()] = (node, positive)
        if node.IsA("vtkMRMLMarkupsFiducialNode"):
            self.markups.lists[node.GetID()] = (node, positive)
        self._observe(node, MARKUPS.PointPositionDefinedEvent, self._onPlaced)
        self._observe(node, MARKUPS.PointEndInteractionEvent, self._onDragged)
        self._observe(node, MARKUPS.PointRemovedEvent, self._onPointRemoved)
        interaction = self.logic.scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
        if interaction is not None and interaction.GetID() not in self._watched:
            self._watched[interaction.GetID()] = (interaction, True)
            self._observe(interaction, interaction.EndPlacementEvent, self._onPlacementEnded)

    def commit(self, node: Any, positive: bool | None = None) -> None:
        """An ROI or curve is complete: make it a prompt. Our own drawing disappears into the log."""
        sign = self._watched.get(node.GetID(), (node, True))[1] if positive is None else positive
        prepare = {
            "vtkMRMLMarkupsROINode": lambda: self.logic.prepareBox(node),
            "vtkMRMLMarkupsClosedCurveNode": lambda: self.logic.prepareLasso(node, sign),
            "vtkMRMLMarkupsCurveNode": lambda: self.logic.prepareScribble(node, sign),
        }[node.GetClassName()]
        own = self._drawing.pop(node.GetID(), None) is not None

        def done(update: MaskUpdate | None) -> None:
            if own:
                self.cancel(node)
            self.mirror()

        self._submit(prepare, done)

    def cancel(self, node: Any) -> None:
        """A drawing was given up: take it out of the scene."""
        self._drawing.pop(node.GetID(), None)
        if self.logic.scene.IsNodePresent(node):
            with self.held():
                self.logic.scene.RemoveNode(node)

    def limitToSliceViews(self, sliceNodes: Iterable[Any]) -> None:
        """Show, and place, our markups in these views only: a click in a 3D view then places nothing."""
        self.markups.viewIds = [node.GetID() for node in sliceNodes]
        for positive in (True, False):
            self.pointsNode(positive)
        for node in (*self.markups.ownNodes(), *(drawing for drawing, _ in self._drawing.values())):
            self.markups.limit(node)

    def mirror(self) -> None:
        """Make the markups show the active segment's log."""
        if not self._observers:
            return  # closed; an answer came late
        with self.held():
            try:
                self.markups.show(self.logic.prompts, self.logic.volumeNode, self._busy)
            except FastSAM3DError:  # the scan cannot be used any more; the next prompt says why
                self.markups.show((), None, self._busy)
        for promptId, node in self.markups.shapes.items():
            self.observe(node, self._sign(promptId))
        for node, positive in list(self.markups.lists.values()):
            self.observe(node, positive)

    @contextmanager
    def held(self) -> Iterator[None]:
        """While the scene is changed by us, markups events mean nothing."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    # -- events ----------------------------------------------------------------------------------------

    def _onPlaced(self, node: Any, index: int | None) -> None:
        if self._held or index is None or not node.IsA("vtkMRMLMarkupsFiducialNode"):
            return
        key = (node.GetID(), node.GetNthControlPointID(index))
        if key in self.markups.pointIds:
            return
        position = np.zeros(3)
        node.GetNthControlPointPositionWorld(index, position)
        positive = self._watched[node.GetID()][1]
        self._busy.add(key)
        self._submit(lambda: self.logic.preparePoint(position, positive), lambda update: self._pointDone(key, update))

    def _pointDone(self, key: tuple[str, str], update: MaskUpdate | None) -> None:
        self._busy.discard(key)
        if update is not None and update.prompt_id is not None:
            self.markups.pointIds[key] = update.prompt_id
        self.mirror()  # takes a refused marker away: no prompt of the log is at its place

    def _onDragged(self, node: Any, index: int | None) -> None:
        if self._held:
            return
        if node.IsA("vtkMRMLMarkupsFiducialNode"):
            promptId = self.markups.promptAt(node, index or 0)
            position = np.zeros(3)
            node.GetNthControlPointPositionWorld(index or 0, position)
            if promptId is not None:
                self._submit(lambda: self.logic.prepareMove(promptId, position), lambda _: self.mirror())
            return
        shape = self._shapeId(node)
        if shape is not None:
            self._submit(lambda: self.logic.prepareReplace(shape, node), lambda _: self.mirror())

    def _onPointRemoved(self, node: Any, _: int | None) -> None:
        if self._held or not node.IsA("vtkMRMLMarkupsFiducialNode"):
            return
        left = {node.GetNthControlPointID(n) for n in range(node.GetNumberOfControlPoints())}
        for key in [k for k in self.markups.pointIds if k[0] == node.GetID() and k[1] not in left]:
            self._remove(self.markups.pointIds.pop(key))

    def _onNodeRemoved(self, _: Any, node: Any) -> None:
        if self._held or node is None or not node.IsA("vtkMRMLMarkupsNode"):
            return
        self._watched.pop(node.GetID(), None)
        self._drawing.pop(node.GetID(), None)
        if self.logic.scene.IsClosing():
            return
        for promptId in self.markups.forgetNode(node.GetID()):
            self._remove(promptId)

    def _onPlacementEnded(self, *_: Any) -> None:
        for node, positive in list(self._drawing.values()):
            if node.GetNumberOfDefinedControlPoints() >= MINIMUM_POINTS[node.GetClassName()]:
                self.commit(node, positive)

    # -- helpers ---------------------------------------------------------------------------------------

    def _remove(self, promptId: int) -> None:
        self._submit(lambda: self.logic.prepareRemove(promptId), lambda _: self.mirror())

    def _shapeId(self, node: Any) -> int | None:
        return next((promptId for promptId, shape in self.markups.shapes.items() if shape is node), None)

    def _sign(self, promptId: int) -> bool:
        return next((getattr(p, "positive", True) for p in self.logic.prompts if p.id == promptId), True)

    def _newDrawing(self, className: str, role: str, positive: bool) -> Any:
        for node, _ in list(self._drawing.values()):  # one that was begun and left
            self.logic.scene.RemoveNode(node)
        node = self.markups.limit(addMarkups(self.logic.scene, className, role, positive))
        node.SetAttribute(ROLE, f"{role} being drawn")
        self._drawing[node.GetID()] = (node, positive)
        self.observe(node, positive)
        return node

    def _observe(self, subject: Any, event: Any, method: Callable[[Any, Any], None]) -> None:
        scene = subject is self.logic.scene
        alive = weakref.WeakMethod(method)  # a forgotten sync must not be kept, or called, by the scene

        @vtk.calldata_type(vtk.VTK_OBJECT if scene else vtk.VTK_INT)
        def called(caller: Any, _: str, data: Any = None) -> None:
            listener = alive()
            if listener is not None:
                listener(caller, data)

        self._observers.append((subject, subject.AddObserver(event, called)))

    def _runNow(self, prepare: Prepare, done: Done) -> None:
        update = None
        try:
            update = prepare().run()
        except FastSAM3DError as error:
            self.logic.onStatus(str(error))
        done(update)
