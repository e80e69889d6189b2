"""Put one update into one segment, obeying the edit rules, and remember how to take it back."""

from __future__ import annotations

from typing import Any

import numpy as np

from FastSAM3DCore.errors import PromptError
from FastSAM3DCore.types import VoxelBox

from .EditMask import EditRules
from .Resampling import shiftBox
from .SegmentImage import SegmentImage, Snapshot
from .VolumeBridge import ijkToWorld, shapeIjk

# (segment id, what it held before)
Changes = list[tuple[str, Snapshot]]


class SegmentWriter:
    """Writes boxes of a scan's voxels into segments of one segmentation node."""

    def __init__(self, volumeNode: Any, segmentationNode: Any, segmentId: str, rules: EditRules):
        self.volumeNode, self.node, self.segmentId, self.rules = volumeNode, segmentationNode, segmentId, rules

    def image(self, segmentId: str | None = None) -> SegmentImage:
        """The active segment, or another one of the node."""
        return SegmentImage(
            self.node, segmentId or self.segmentId, ijkToWorld(self.volumeNode), shapeIjk(self.volumeNode)
        )

    def others(self, box: VoxelBox) -> dict[str, SegmentImage]:
        """The other segments that have a labelmap near `box`; looking at extents only costs nothing."""
        found = {}
        world, shape = ijkToWorld(self.volumeNode), shapeIjk(self.volumeNode)
        for segmentId in self.node.GetSegmentation().GetSegmentIDs():
            if segmentId != self.segmentId:
                other = SegmentImage(self.node, segmentId, world, shape)
                if not other.nativeBox(box).intersect(other.box).is_empty:
                    found[segmentId] = other
        return found

    def write(self, box: VoxelBox, mask: np.ndarray) -> tuple[VoxelBox, Changes]:
        """Make the segment equal to `mask` in `box`, where the rules allow it.

        Args:
            box: voxels of the scan, half-open.
            mask: the wanted content, indexed [k, j, i]; nonzero is inside.

        Returns:
            The box that changed (empty if nothing did), and what every touched segment held there before.
        """
        whole = VoxelBox((0, 0, 0), shapeIjk(self.volumeNode))
        inside = box.intersect(whole)
        if inside.is_empty:
            return VoxelBox.empty(), []
        wanted = mask[shiftBox(inside, -np.array(box.lower)).slices_kji] != 0
        image, others = self.image(), self.others(inside)
        before = image.read(inside)
        changed = wanted != before
        allowed = self.rules.allowed(image, others, self.volumeNode, inside)
        if allowed is not np.True_:
            changed &= allowed
        tight = VoxelBox.around(changed, inside.lower)
        if tight.is_empty:
            return VoxelBox.empty(), []
        cut = shiftBox(tight, -np.array(inside.lower)).slices_kji
        wanted, changed = wanted[cut], changed[cut]
        added = wanted & changed
        losers = []
        if added.any():
            losers = [o for o in self.rules.overwritten(image, others) if (o.read(tight) & added).any()]
        changes = [(self.segmentId, image.snapshot(tight, before[cut]))]
        changes += [(loser.segmentId, loser.snapshot(tight)) for loser in losers]
        for loser in losers:
            loser.write(tight, np.zeros_like(added), added)
        image.write(tight, wanted, changed)
        return tight, changes

    def clear(self) -> Changes:
        """Empty the active segment."""
        image = self.image()
        if image.box.is_empty:
            return []
        before = Snapshot.of(image.box, image.ownContent(), image.imageToLocal)
        image.restore(Snapshot.of(image.box, np.zeros(image.box.shape_ijk[::-1], bool), image.imageToLocal))
        return [(self.segmentId, before)]

    def swap(self, changes: Changes) -> Changes:
        """Restore what a step changed, last change first; returns what to restore to redo it.

        Raises:
            PromptError: a segment is gone or its grid was changed; nothing was restored.
        """
        images = {segmentId: self.image(segmentId) for segmentId, _ in changes}
        if not all(images[segmentId].canRestore(snapshot) for segmentId, snapshot in changes):
            raise PromptError("The segmentation's geometry was changed since; that step cannot be restored.")
        return [(segmentId, images[segmentId].restore(snapshot)) for segmentId, snapshot in reversed(changes)]
