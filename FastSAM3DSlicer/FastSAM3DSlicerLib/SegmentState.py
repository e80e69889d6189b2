"""What a segment is known to hold, so that a hand edit made since is noticed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from FastSAM3DCore.types import VoxelBox

from .Resampling import sampleNearest, shiftBox
from .SegmentImage import SegmentImage, Snapshot
from .SessionLink import HandEdit


@dataclass(frozen=True, eq=False)
class FoundEdit:
    """A hand edit in the labelmap's own voxels: where, what was there before, and what is there now."""

    box: VoxelBox
    before: Snapshot
    after: np.ndarray


class SegmentState:
    """The voxels the segment held after the last prompt, in its labelmap's own grid.

    An unchanged modification time proves that nothing was edited, which costs nothing; only when it differs
    are the voxels compared, because a neighbour on the same layer changes it as well.
    """

    def __init__(self, image: SegmentImage):
        self._take(image)

    @property
    def content(self) -> np.ndarray:
        """bool, indexed [k, j, i], of the labelmap's extent."""
        return self._content

    @property
    def sliceCounts(self) -> np.ndarray:
        """Voxels of the segment in each slice of the labelmap's extent; kept up to date box by box."""
        return self._counts

    @property
    def voxelCount(self) -> int:
        return int(self._counts.sum())

    def written(self, image: SegmentImage, box: VoxelBox) -> None:
        """A box of the scan's voxels was written: take over that box only."""
        if image.box != self._box:
            self._take(image)
            return
        native = image.nativeBox(box).intersect(self._box)
        if not native.is_empty:
            cut = shiftBox(native, -np.array(self._box.lower)).slices_kji
            old, new = self._content[cut], image.labels()[cut] == image.segment.GetLabelValue()
            self._counts[cut[0]] += _perSlice(new) - _perSlice(old)
            self._content[cut] = new
        self._stamp = image.stamp

    def edited(self, image: SegmentImage) -> FoundEdit | None:
        """What was edited since, with the content before and after; None if nothing. `adopt` makes it known."""
        if image.stamp == self._stamp:
            return None
        now, box = image.ownContent(), image.box
        around = box.union(self._box)
        before = self._over(around)
        after = now if box == around else _placed(now, box, around)
        different = VoxelBox.around(before != after, around.lower)
        if different.is_empty:
            self._stamp = image.stamp
            return None
        cut = shiftBox(different, -np.array(around.lower)).slices_kji
        return FoundEdit(different, Snapshot.of(different, before[cut], self._imageToLocal), after[cut].copy())

    def adopt(self, edit: FoundEdit) -> None:
        """An edit that was found is what the segment should hold; edits made since then are still found."""
        around = self._box.union(edit.box)
        self._content, self._box = self._over(around).copy(), around
        self._content[shiftBox(edit.box, -np.array(around.lower)).slices_kji] = edit.after
        self._counts = _perSlice(self._content)

    def _over(self, box: VoxelBox) -> np.ndarray:
        return self._content if box == self._box else _placed(self._content, self._box, box)

    def _take(self, image: SegmentImage) -> None:
        self._box = image.box
        self._content = image.ownContent()
        self._counts = _perSlice(self._content)
        self._imageToLocal = image.imageToLocal
        self._stamp: Any = image.stamp


def handEdit(image: SegmentImage, edit: FoundEdit, shape: tuple[int, int, int]) -> HandEdit:
    """An edit found in the labelmap's grid, as voxels of the scan."""
    native = edit.box
    box = image.voxelBox(native).intersect(VoxelBox((0, 0, 0), shape))
    now = image.read(box)
    then = sampleNearest(edit.before.content(), native, np.linalg.inv(image.voxelFromImage), box)
    inside = sampleNearest(np.ones(native.shape_ijk[::-1], bool), native, np.linalg.inv(image.voxelFromImage), box)
    return HandEdit(box, inside & (now != then), now)


def _perSlice(content: np.ndarray) -> np.ndarray:
    return np.array([np.count_nonzero(plane) for plane in content], np.int64)


def _placed(content: np.ndarray, box: VoxelBox, around: VoxelBox) -> np.ndarray:
    out = np.zeros(around.shape_ijk[::-1], bool)
    if not box.is_empty:
        out[shiftBox(box, -np.array(around.lower)).slices_kji] = content
    return out
