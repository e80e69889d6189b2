"""The segment that the next prompt changes: its nodes, its log, and what it is known to hold."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import slicer

from FastSAM3DCore.errors import PromptError
from FastSAM3DCore.prompts import MaskPrompt, Prompt
from FastSAM3DCore.types import ModelIdentity, VoxelBox

from . import PromptStore
from .EditMask import EditRules
from .History import SegmentLog, Step
from .SegmentImage import BINARY, SegmentImage, Snapshot
from .SegmentState import FoundEdit, SegmentState, handEdit
from .SegmentWriter import Changes, SegmentWriter
from .SessionLink import HandEdit, Want
from .VolumeBridge import frameIndex, ijkToWorld, imageKey, nodeToWorld, shapeIjk, volumeFromNode

_versions = itertools.count(1)


@dataclass(frozen=True, eq=False)
class Edit:
    """A hand edit: what to restore to take it back, and the voxels to tell the session."""

    change: tuple[str, Snapshot]
    voxels: HandEdit
    found: FoundEdit


class ActiveSegment:
    """One segment of one segmentation node, prompted in one volume.

    Raises:
        PromptError: there is no such segment, or it is made of surfaces.
        ImageError: the segmentation is under a non-linear transform.
    """

    def __init__(self, volumeNode: Any, segmentationNode: Any, segmentId: str):
        if segmentationNode is None or not segmentationNode.IsA("vtkMRMLSegmentationNode"):
            raise PromptError("No segmentation is chosen; create one first.")
        segmentation = segmentationNode.GetSegmentation()
        if not segmentId or segmentation.GetSegment(segmentId) is None:
            raise PromptError(f"{segmentationNode.GetName()} has no segment to work on; add one first.")
        if segmentation.GetSourceRepresentationName() not in ("", BINARY):
            raise PromptError(
                f"{segmentationNode.GetName()} is made of surfaces. Make its binary labelmap the source "
                "representation (Segmentations module) first."
            )
        nodeToWorld(segmentationNode)
        self.volumeNode, self.node, self.segmentId = volumeNode, segmentationNode, segmentId
        self.nodeId = segmentationNode.GetID()
        self.frame = frameIndex(volumeNode)
        self.log = SegmentLog()
        self._version, self._seeded = 0, False
        self._state: SegmentState | None = None

    @staticmethod
    def create(volumeNode: Any, segmentationNode: Any, name: str = "") -> str:
        """Add an empty segment; an empty segmentation takes over the volume's grid and transform."""
        if segmentationNode is None or not segmentationNode.IsA("vtkMRMLSegmentationNode"):
            raise PromptError("No segmentation is chosen; create one first.")
        if segmentationNode.GetSegmentation().GetNumberOfSegments() == 0:
            segmentationNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
            segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
        segmentId = segmentationNode.GetSegmentation().AddEmptySegment("", name)
        if not segmentId:
            raise PromptError(f"{segmentationNode.GetName()} does not take another segment; create a new segmentation.")
        return segmentId

    @property
    def key(self) -> tuple[str, str, int]:
        """Segmentation, segment and time point."""
        return (self.nodeId, self.segmentId, self.frame)

    @property
    def owner(self) -> tuple[Any, ...]:
        """`key`, and which of several unrelated contents of the segment this is."""
        return (*self.key, self._version)

    @property
    def segment(self) -> Any:
        return self.node.GetSegmentation().GetSegment(self.segmentId)

    def activate(self) -> None:
        """Get the segment ready to be seen and to be written often, and find the log that made it."""
        if self.node.GetDisplayNode() is None:  # made by a node selector or a script
            self.node.CreateDefaultDisplayNodes()
        image = self.image()
        image.isolate()
        self._state = SegmentState(image)
        self._findLog()

    def isSame(self, other: ActiveSegment) -> bool:
        """Whether another one stands for the same segment, time point and volume."""
        return self.volumeNode is other.volumeNode and self.node is other.node and self.key == other.key

    def exists(self, scene: Any) -> bool:
        """Whether volume, segmentation and segment are all still there."""
        return (
            scene.IsNodePresent(self.volumeNode) != 0
            and scene.IsNodePresent(self.node) != 0
            and self.segment is not None
        )

    def check(self, scene: Any) -> None:
        """Raises PromptError if the segment is gone."""
        if not self.exists(scene):
            raise PromptError("The segment was removed; choose or add another one.")

    def refresh(self) -> bool:
        """Notice that the volume shows another time point; whether it does."""
        frame = frameIndex(self.volumeNode)
        if frame == self.frame:
            return False
        self.frame = frame
        self.activate()
        return True

    def image(self, segmentId: str | None = None) -> SegmentImage:
        return SegmentImage(
            self.node, segmentId or self.segmentId, ijkToWorld(self.volumeNode), shapeIjk(self.volumeNode)
        )

    def writer(self, rules: EditRules) -> SegmentWriter:
        return SegmentWriter(self.volumeNode, self.node, self.segmentId, rules)

    def want(self, same: bool = False) -> Want:
        """What the session must hold before a prompt on this segment.

        Args:
            same: the session is known to have the weights that made the log; else the segment's voxels come along.
        """
        seed = self._dense() if self._seeded else None
        return Want(
            imageKey(self.volumeNode),
            volumeFromNode(self.volumeNode),
            self.owner,
            self.log.prompts,
            seed,
            self.log.threshold,
            self.log.model,
            self._dense() if self.log.prompts and not same else None,
        )

    def findEdit(self) -> Edit | None:
        """What was changed by hand since the last prompt; found again until it is adopted."""
        if self._seeded or self._state is None:
            return None
        image = self.image()
        image.isolate()
        found = self._state.edited(image)
        if found is None:
            return None
        voxels = handEdit(image, found, shapeIjk(self.volumeNode))
        return Edit((self.segmentId, found.before), voxels, found)

    def adopt(self, edit: Edit) -> None:
        """The session knows of the edit now."""
        if self._state is not None:
            self._state.adopt(edit.found)

    def maskPrompt(self, after: tuple[Prompt, ...] | None = None) -> MaskPrompt:
        """The segment as it is, as a prompt that follows a log (its own by default)."""
        log = self.log.prompts if after is None else after
        return MaskPrompt.from_mask(max((p.id for p in log), default=0) + 1, self._dense()())

    def step(self, title: str, changes: Changes, before: SegmentLog, after: SegmentLog, session: str) -> Step:
        return Step(title, *self.key, changes, before, after, session)

    def settle(self, log: SegmentLog, box: VoxelBox | None, model: ModelIdentity | None = None) -> None:
        """The segment was written in `box` (None: anywhere) and `log` made it so; keep both in the scene.

        `model` stands in for a log that does not say which weights made it.
        """
        image = self.image()
        if self._state is None or box is None:
            self._state = SegmentState(image)
        else:
            self._state.written(image, box)
        if log.model is None:
            log = replace(log, model=model)
        self.log, self._seeded = log, False
        PromptStore.store(self.segment, self.frame, log, self._state.sliceCounts)
        logic, segment = slicer.vtkSlicerSegmentationsModuleLogic, self.segment
        if log.prompts and logic.GetSegmentStatus(segment) == logic.NotStarted:
            logic.SetSegmentStatus(segment, logic.InProgress)

    def boxOf(self, changes: Changes) -> VoxelBox:
        """The scan's voxels around all changes."""
        box = VoxelBox.empty()
        for segmentId, snapshot in changes:
            box = box.union(self.image(segmentId).voxelBox(snapshot.box))
        return box.intersect(VoxelBox((0, 0, 0), shapeIjk(self.volumeNode)))

    @property
    def isHidden(self) -> bool:
        """Whether the slice views do not show the segment: nobody would see what a prompt does."""
        display = self.node.GetDisplayNode()
        return display is not None and not (display.GetVisibility() and display.GetSegmentVisibility(self.segmentId))

    def milliliters(self) -> float:
        """The segment's size."""
        image = self.image()
        count = (self._state or SegmentState(image)).voxelCount
        toWorld = nodeToWorld(self.node) @ image.imageToLocal
        return count * abs(float(np.linalg.det(toWorld[:3, :3]))) / 1000.0

    def describe(self, title: str) -> str:
        """One line for the status bar."""
        prompts = len(self.log.prompts)
        line = f"{self.segment.GetName()}: {title}, {self.milliliters():.2f} ml, {prompts} prompt{'s' * (prompts != 1)}"
        return f"{line}; it is hidden, show it in the segment list" if self.isHidden else line

    def _findLog(self) -> None:
        state = self._state or SegmentState(self.image())
        log = PromptStore.load(self.segment, self.frame, state.sliceCounts)
        self._seeded = log is None and state.voxelCount > 0
        self.log = log or SegmentLog()
        self._version = 0 if log is not None else next(_versions)

    def _dense(self) -> Any:
        """A function that makes the whole scan's mask of what the segment holds now; safe on any thread."""
        image, shape = self.image(), shapeIjk(self.volumeNode)
        whole = VoxelBox((0, 0, 0), shape)
        part = image.voxelBox(image.box).intersect(whole)
        content = image.read(part)

        def dense() -> np.ndarray:
            mask = np.zeros(shape[::-1], np.uint8)
            mask[part.slices_kji] = content
            return mask

        return dense
