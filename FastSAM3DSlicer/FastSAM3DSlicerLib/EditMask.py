"""Where a prompt may change the segment: locks, neighbours to keep, the Segment Editor's masks, the slice limit.

The rules are Slicer's own (`vtkSlicerSegmentEditorLogic::ModifySegmentByLabelmap`; a test compares the two),
evaluated for the changed box only: Slicer's builds a mask of the whole scan for every edit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import slicer
import vtk

from FastSAM3DCore.errors import PromptError
from FastSAM3DCore.types import VoxelBox

from .SegmentImage import SegmentImage
from .SliceLimit import SliceLimit
from .VolumeBridge import voxels

OVERWRITE, KEEP, OVERLAP, EDITOR = "overwrite", "keep", "overlap", "editor"
POLICIES = (OVERWRITE, KEEP, OVERLAP)
LOCK_TAG = "FastSAM3D.Locked"


def tagValue(segment: Any, name: str) -> str:
    """A segment's tag, empty if it has none."""
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else ""


def isLocked(segment: Any) -> bool:
    """Whether the user protected the segment from every change."""
    return tagValue(segment, LOCK_TAG) == "1"


def setLocked(segment: Any, locked: bool) -> None:
    """Protect a segment, or release it; kept with the segment in the scene and in .seg.nrrd files."""
    if locked:
        segment.SetTag(LOCK_TAG, "1")
    else:
        segment.RemoveTag(LOCK_TAG)


@dataclass
class EditRules:
    """What the user allowed.

    Attributes:
        policy: what happens to other segments under a new voxel: "overwrite" them, "keep" them (the new voxel
            is not set), let them "overlap", or do what `editorNode` says ("editor").
        editorNode: the Segment Editor's settings (vtkMRMLSegmentEditorNode), whose masks are obeyed, or None.
        limit: only this slice or slab may change.
        accepted: slices that were accepted and may not change any more.
    """

    policy: str = OVERWRITE
    editorNode: Any = None
    limit: SliceLimit | None = None
    accepted: list[SliceLimit] = field(default_factory=list)

    def checkUnlocked(self, image: SegmentImage) -> None:
        """Raises PromptError if the segment that would change is locked."""
        if isLocked(image.segment):
            raise PromptError(f"{image.segment.GetName()} is locked; nothing was changed. Unlock it or choose another.")

    def allowed(self, image: SegmentImage, others: dict[str, SegmentImage], volumeNode: Any, box: VoxelBox) -> Any:
        """bool [k, j, i] of the voxels of `box` that may change, or True for all."""
        allowed: Any = np.True_
        protected = [other for other in others.values() if self.policy == KEEP or isLocked(other.segment)]
        for other in protected:
            allowed = allowed & ~other.read(box)
        if self.limit is not None:
            allowed = allowed & self.limit.inside(box)
        for plane in self.accepted:
            allowed = allowed & ~plane.inside(box)
        if self.editorNode is not None:
            allowed = allowed & self._editorMask(image, others, volumeNode, box)
        return allowed

    def overwritten(self, image: SegmentImage, others: dict[str, SegmentImage]) -> list[SegmentImage]:
        """Segments that lose the voxels this one gains."""
        if self.policy in (KEEP, OVERLAP):
            return []
        ids = set(others)
        if self.policy == EDITOR and self.editorNode is not None:
            mode = self.editorNode.GetOverwriteMode()
            if mode == slicer.vtkMRMLSegmentEditorNode.OverwriteNone:
                return []
            if mode == slicer.vtkMRMLSegmentEditorNode.OverwriteVisibleSegments:
                ids &= visibleSegments(image.node)
        return [other for id, other in others.items() if id in ids and not isLocked(other.segment)]

    def _editorMask(
        self, image: SegmentImage, others: dict[str, SegmentImage], volumeNode: Any, box: VoxelBox
    ) -> np.ndarray:
        N, mode = slicer.vtkMRMLSegmentationNode, self.editorNode.GetMaskMode()
        visible = visibleSegments(image.node)
        everything = np.True_
        if mode in (N.EditAllowedOutsideAllSegments, N.EditAllowedInsideAllSegments):
            chosen = list(others.values())
        elif mode in (N.EditAllowedOutsideVisibleSegments, N.EditAllowedInsideVisibleSegments):
            chosen = [other for id, other in others.items() if id in visible]
        elif mode == N.EditAllowedInsideSingleSegment:
            chosen = [other for id, other in others.items() if id == self.editorNode.GetMaskSegmentID()]
            if image.segmentId == self.editorNode.GetMaskSegmentID():
                chosen = [image]
        else:
            chosen = []
        if mode != N.EditAllowedEverywhere:
            everything = np.zeros(box.shape_ijk[::-1], bool)
            for other in chosen:
                everything |= other.read(box)
            if mode in (N.EditAllowedOutsideAllSegments, N.EditAllowedOutsideVisibleSegments):
                everything = ~everything
            elif mode != N.EditAllowedInsideSingleSegment or image.segmentId != self.editorNode.GetMaskSegmentID():
                everything |= image.read(box)
        if self.editorNode.GetSourceVolumeIntensityMask():
            low, high = self.editorNode.GetSourceVolumeIntensityMaskRange()
            values = voxels(volumeNode)[box.slices_kji]
            everything = everything & (values >= low) & (values <= high)
        return everything


def visibleSegments(segmentationNode: Any) -> set[str]:
    """Segments shown by the node's display node; all of them without one."""
    ids, display = segmentationNode.GetSegmentation().GetSegmentIDs(), segmentationNode.GetDisplayNode()
    return {segmentId for segmentId in ids if display is None or display.GetSegmentVisibility(segmentId)}
