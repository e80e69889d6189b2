"""The log of the active segment as markups: points, boxes and curves that can be seen, dragged and deleted."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from FastSAM3DCore.prompts import BoxPrompt, LassoPrompt, MaskPrompt, PointPrompt, Prompt, ScribblePrompt

from .VolumeBridge import ijkToWorld, matrixFromArray, transformPoints

GREEN, RED, BLUE = (0.2, 1.0, 0.3), (1.0, 0.2, 0.15), (0.25, 0.6, 1.0)
# Of the view's height in percent, and of the glyph's size: Slicer's own 1.5 is lost in a filled segment.
GLYPH_SCALE, LINE_THICKNESS = 3.0, 0.35
# Nodes made here carry this attribute; the value says what they show.
ROLE = "FastSAM3D.Role"
# A freehand stroke is shown with at most this many points: each costs an actor per view.
SHOWN_POINTS = 60
# Slicer stores marker positions as float64 in RAS; a marker adopted by a prompt must be this close, in voxels.
SAME_PLACE_VOXELS = 1e-2
MOVED_MM = 1e-3


def addMarkups(scene: Any, className: str, role: str, positive: bool = True) -> Any:
    """A markups node of ours: coloured, unlabelled, left out of saved scenes (the segment keeps the log)."""
    node = scene.AddNewNodeByClass(className, f"FastSAM3D {role}")
    node.SetAttribute(ROLE, role)
    node.SetSaveWithScene(False)
    node.SetControlPointLabelFormat("")
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    color = BLUE if className == "vtkMRMLMarkupsROINode" else GREEN if positive else RED
    display.SetColor(*color)
    display.SetSelectedColor(*color)
    display.SetPointLabelsVisibility(False)
    display.SetPropertiesLabelVisibility(False)
    display.SetGlyphScale(GLYPH_SCALE)
    display.SetLineThickness(LINE_THICKNESS)
    if className == "vtkMRMLMarkupsROINode":
        display.SetFillOpacity(0.0)
    return node


class PromptMarkups:
    """Shows a log; the caller holds back the nodes' events while it does.

    Args:
        scene: where the nodes are.

    Attributes:
        viewIds: views to show markups in; empty for all.
        lists: {node ID: (fiducial list, positive)}, our own and observed ones.
        shapes: {prompt id: ROI or curve node}.
        pointIds: {control point id: prompt id}.
    """

    def __init__(self, scene: Any):
        self.scene = scene
        self.viewIds: list[str] = []
        self._own: dict[bool, Any] = {}
        self.lists: dict[str, tuple[Any, bool]] = {}
        self.shapes: dict[int, Any] = {}
        self.pointIds: dict[tuple[str, str], int] = {}

    def pointsNode(self, positive: bool) -> Any:
        """Our own fiducial list, where clicks go."""
        node = self._own.get(positive)
        if node is None or not self.scene.IsNodePresent(node):
            role = "positive points" if positive else "negative points"
            node = self._own[positive] = addMarkups(self.scene, "vtkMRMLMarkupsFiducialNode", role, positive)
            self.lists[node.GetID()] = (self.limit(node), positive)
        return node

    def limit(self, node: Any) -> Any:
        """Show a node in `viewIds` only, if there are any."""
        node.GetDisplayNode().SetViewNodeIDs(self.viewIds)
        return node

    def ownNodes(self) -> list[Any]:
        """Every node made here."""
        return [*self._own.values(), *self.shapes.values()]

    def forgetNode(self, nodeId: str) -> list[int]:
        """A list or shape was deleted; returns the prompts it showed."""
        self.lists.pop(nodeId, None)
        gone = [self.pointIds.pop(key) for key in list(self.pointIds) if key[0] == nodeId]
        for promptId in [n for n, node in self.shapes.items() if node.GetID() == nodeId]:
            self.shapes.pop(promptId)
            gone.append(promptId)
        return gone

    def show(self, prompts: tuple[Prompt, ...], volumeNode: Any, busy: set[tuple[str, str]]) -> None:
        """Make the markups equal to a log; markers in `busy` (their prompt is still computed) stay."""
        toWorld = ijkToWorld(volumeNode) if volumeNode is not None else np.eye(4)
        for positive in (True, False):
            wanted = {p.id: p for p in prompts if isinstance(p, PointPrompt) and p.positive == positive}
            lists = [node for node, sign in self.lists.values() if sign == positive]
            for node in lists:
                self._dropPoints(node, wanted, toWorld, busy)
            if wanted:
                self._showPoints(positive, wanted, toWorld)
        wantedShapes = {p.id: p for p in prompts if not isinstance(p, PointPrompt | MaskPrompt)}
        for promptId in [n for n in self.shapes if n not in wantedShapes]:
            self.scene.RemoveNode(self.shapes.pop(promptId))
        for promptId, prompt in wantedShapes.items():
            if promptId not in self.shapes:
                self.shapes[promptId] = self._shape(prompt)
            self._place(self.shapes[promptId], prompt, toWorld)

    def promptAt(self, node: Any, index: int) -> int | None:
        """The prompt that a control point shows."""
        return self.pointIds.get((node.GetID(), node.GetNthControlPointID(index)))

    def _dropPoints(self, node: Any, wanted: dict[int, PointPrompt], toWorld: np.ndarray, busy: set[Any]) -> None:
        """Take away markers that show no prompt of the log."""
        for index in reversed(range(node.GetNumberOfControlPoints())):
            key = (node.GetID(), node.GetNthControlPointID(index))
            promptId = self.pointIds.get(key)
            if promptId is None:
                promptId = self._adopted(node, index, wanted, toWorld)
                if promptId is not None:
                    self.pointIds[key] = promptId
            if promptId not in wanted and key not in busy and self._isPlaced(node, index):
                self.pointIds.pop(key, None)
                node.RemoveNthControlPoint(index)

    def _showPoints(self, positive: bool, wanted: dict[int, PointPrompt], toWorld: np.ndarray) -> None:
        """Put a marker at every prompt, moving the one it has or adding one to our own list."""
        shown = {promptId: key for key, promptId in self.pointIds.items()}
        now = np.zeros(3)
        for promptId, prompt in wanted.items():
            position = transformPoints(toWorld, [prompt.point_ijk])[0]
            if promptId in shown:
                nodeId, pointId = shown[promptId]
                node = self.scene.GetNodeByID(nodeId)
                index = node.GetNthControlPointIndexByID(pointId)
                node.GetNthControlPointPositionWorld(index, now)
                if np.abs(now - position).max() > MOVED_MM:  # setting it costs 50 times as much as looking
                    node.SetNthControlPointPositionWorld(index, *position)
            else:
                node = self.pointsNode(positive)
                index = node.AddControlPointWorld(*position)
                self.pointIds[(node.GetID(), node.GetNthControlPointID(index))] = promptId

    def _adopted(self, node: Any, index: int, wanted: dict[int, PointPrompt], toWorld: np.ndarray) -> int | None:
        """The prompt that this marker was placed for: the one at its place that no marker shows yet."""
        position = np.zeros(3)
        node.GetNthControlPointPositionWorld(index, position)
        ijk = transformPoints(np.linalg.inv(toWorld), [position])[0]
        taken = set(self.pointIds.values())
        for promptId, prompt in wanted.items():
            if promptId not in taken and np.abs(ijk - prompt.point_ijk).max() < SAME_PLACE_VOXELS:
                return promptId
        return None

    @staticmethod
    def _isPlaced(node: Any, index: int) -> bool:
        """False for the marker that still hangs on the mouse pointer."""
        return node.GetNthControlPointPositionStatus(index) == slicer.vtkMRMLMarkupsNode.PositionDefined

    def _shape(self, prompt: Prompt) -> Any:
        if isinstance(prompt, BoxPrompt):
            return self.limit(addMarkups(self.scene, "vtkMRMLMarkupsROINode", "box"))
        if isinstance(prompt, LassoPrompt):
            return self.limit(addMarkups(self.scene, "vtkMRMLMarkupsClosedCurveNode", "lasso", prompt.positive))
        positive = isinstance(prompt, ScribblePrompt) and prompt.positive
        return self.limit(addMarkups(self.scene, "vtkMRMLMarkupsCurveNode", "scribble", positive))

    @staticmethod
    def _place(node: Any, prompt: Prompt, toWorld: np.ndarray) -> None:
        if isinstance(prompt, BoxPrompt):
            placeRoi(node, prompt, toWorld)
            return
        points = prompt.polygon_ijk if isinstance(prompt, LassoPrompt) else prompt.points_ijk  # type: ignore[union-attr]
        step = max(1, -(-len(points) // SHOWN_POINTS))
        world = transformPoints(toWorld, points[::step])
        node.SetControlPointPositionsWorld(pointsOf(world))
        node.SetLocked(step > 1)  # what is shown is thinner than the prompt: dragging it would lose points
        node.GetDisplayNode().SetGlyphScale(0.5)


def placeRoi(roiNode: Any, prompt: BoxPrompt, toWorld: np.ndarray) -> None:
    """Put an ROI around exactly the voxels of a box prompt."""
    lower, upper = np.array(prompt.box.lower) - 0.5, np.array(prompt.box.upper) - 0.5
    spacing = np.linalg.norm(toWorld[:3, :3], axis=0)
    matrix = np.eye(4)
    matrix[:3, :3] = toWorld[:3, :3] / spacing
    matrix[:3, 3] = transformPoints(toWorld, [(lower + upper) / 2])[0]
    roiNode.SetAndObserveObjectToNodeMatrix(matrixFromArray(matrix))
    roiNode.SetSize(*((upper - lower) * spacing))


def pointsOf(world: np.ndarray) -> Any:
    """vtkPoints of an (N, 3) array."""
    import vtk

    points = vtk.vtkPoints()
    for position in world:
        points.InsertNextPoint(*position)
    return points
