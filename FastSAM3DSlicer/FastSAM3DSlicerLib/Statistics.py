"""Numbers about the active segment."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from FastSAM3DCore.errors import PromptError
from FastSAM3DCore.types import VoxelBox

from .ActiveSegment import ActiveSegment
from .Job import Job
from .SegmentImage import SegmentImage
from .SessionRunner import SessionRunner
from .VolumeBridge import ijkToWorld, shapeIjk

# Up to here a comparison takes less than 20 ms where the reference has another grid (17 ns per voxel of processor
# time, 1 ns on the scan's grid); at 512^3 it takes 2.4 s (2-core CPU).
AT_ONCE_VOXELS = 1_000_000


class Side:
    """A segment to compare.

    Attributes:
        box: where the scan holds it.
        key: differs after any change of its voxels or its place.
    """

    def __init__(self, image: SegmentImage, shape: tuple[int, int, int]):
        self.image = image
        self.box = image.voxelBox(image.box).intersect(VoxelBox((0, 0, 0), shape))
        self.key = (*image.stamp, image.segment.GetLabelValue(), image.voxelFromImage.tobytes(), self.box)


def overlap(a: np.ndarray, aBox: VoxelBox, b: np.ndarray, bBox: VoxelBox) -> float:
    """Dice of two bool arrays [k, j, i] and the boxes that they fill, 0 to 1; 1 if both are empty."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    both = aBox.intersect(bBox)
    if both.is_empty or not total:
        return 0.0 if total else 1.0
    return 2.0 * np.count_nonzero(within(a, aBox, both) & within(b, bBox, both)) / total


def within(content: np.ndarray, box: VoxelBox, part: VoxelBox) -> np.ndarray:
    """The view of what fills `box` that lies in `part` of it."""
    return content[tuple(slice(p - o, q - o) for p, q, o in zip(part.lower, part.upper, box.lower, strict=True))[::-1]]


class ReferenceDice:
    """Dice of the active segment with a reference, once per change of either; large ones on the worker.

    Args:
        runner: computes when no prompt waits.
        onKnown: called on the main thread when `value` has something new to say.
    """

    def __init__(self, runner: SessionRunner, onKnown: Callable[[], None]):
        self._runner, self._onKnown = runner, onKnown
        self._asked: Any = None
        self._value: float | None = None
        # On another grid the reference is most of the work, and it stays as it is while the user clicks.
        self._reference: tuple[Any, Callable[[], np.ndarray]] | None = None

    def value(self, active: ActiveSegment, referenceNode: Any, referenceId: str) -> float | None:
        """Overlap on the scan's grid, 0 to 1; None while it is computed; NaN if that was cancelled.

        Raises:
            PromptError: there is no such segment.
            ImageError: the reference is under a non-linear transform.
        """
        if referenceNode is None:
            raise PromptError("Choose a reference segmentation first.")
        volume = active.volumeNode
        shape = shapeIjk(volume)
        mine = Side(active.image(), shape)
        reference = Side(SegmentImage(referenceNode, referenceId, ijkToWorld(volume), shape), shape)
        key = (mine.key, reference.key)
        if key != self._asked:
            self._asked, self._value = key, None
            if sum(math.prod(side.box.shape_ijk) for side in (mine, reference)) <= AT_ONCE_VOXELS:
                self._value = self._prepare(mine, reference)()
            else:
                self._ask(key, mine, reference)
        return self._value

    def _ask(self, key: Any, mine: Side, reference: Side) -> None:
        def apply(answer: float) -> Any:
            if key == self._asked:
                self._value = answer

        def done(_: Any) -> None:
            if key == self._asked:  # else it has changed since, and was asked for again
                self._value = math.nan if self._value is None else self._value
                self._onKnown()

        self._runner.whenIdle(lambda: Job("Dice", self._prepare(mine, reference), apply, lambda: None), done)

    def _prepare(self, mine: Side, reference: Side) -> Callable[[], float]:
        """Copies the voxels; what is returned compares them, on any thread."""
        if self._reference is None or self._reference[0] != reference.key:
            self._reference = reference.key, functools.cache(reference.image.reader(reference.box))
        readMine, readReference = mine.image.reader(mine.box), self._reference[1]
        return lambda: overlap(readMine(), mine.box, readReference(), reference.box)
