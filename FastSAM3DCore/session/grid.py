"""The segmentation's state on the scan's own grid, and deltas that undo any write to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..calibration import STEPS_PER_LOGIT
from ..types import VoxelBox

__all__ = ["BACKGROUND", "UNDECIDED", "Delta", "LogitGrid", "decoded", "quantise"]

Numbers = TypeVar("Numbers", NDArray[np.float32], Tensor)

# Sure background is code 0: an array of zeros takes no memory until it is written to, so that opening a scan of
# 1024^3 voxels is immediate; filling it with another number took 2 s and 1 GB.
BACKGROUND = 0
# The code of logit 0.
UNDECIDED = 127


def quantise(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Logits as codes, sixteenths above `BACKGROUND`, rounded so that no voxel changes sides.

    Codes above `UNDECIDED` are positive logits, and only those.
    """
    scaled = logits * STEPS_PER_LOGIT
    np.ceil(scaled, out=scaled)  # (0, 1/16] -> 1, (-1/16, 0] -> 0
    np.clip(scaled, -UNDECIDED, UNDECIDED, out=scaled)
    scaled += UNDECIDED
    return scaled.astype(np.uint8)


def decoded(codes: Numbers) -> Numbers:
    """Logits of codes given as floating-point numbers, which may lie between codes; array or tensor."""
    return (codes - UNDECIDED) / STEPS_PER_LOGIT


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """What a write replaced: enough to put it back.

    Attributes:
        box: the smallest box around the changed logits.
        mask_box: the smallest box around the voxels that changed sides at `level`.
        level: the foreground level at the time, a code.
        changed: packed bits, one per voxel of `box`.
        values: the old codes of the changed voxels.
    """

    box: VoxelBox
    mask_box: VoxelBox
    level: int
    changed: NDArray[np.uint8]
    values: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        return self.changed.nbytes + self.values.nbytes


class LogitGrid:
    """Foreground logits of one structure on the scan's grid, uint8 codes (see `quantise`) indexed [k, j, i].

    Attributes:
        touched: the smallest box known to hold everything that is not background.
        level: code above which a voxel is foreground.
    """

    def __init__(self, shape_kji: tuple[int, int, int]) -> None:
        self.values = np.zeros(shape_kji, dtype=np.uint8)
        self.touched = VoxelBox.empty()
        self.level = UNDECIDED

    @property
    def box(self) -> VoxelBox:
        k, j, i = self.values.shape
        return VoxelBox((0, 0, 0), (i, j, k))

    @property
    def level_logit(self) -> float:
        """The logit above which a voxel is foreground."""
        return float(decoded(np.array(self.level, dtype=np.float32)))

    def read(self, box: VoxelBox) -> NDArray[np.uint8]:
        """A view of the codes of a box."""
        return self.values[box.slices_kji]

    def mask(self, box: VoxelBox) -> NDArray[np.uint8]:
        """Foreground of a box, uint8 {0, 1}, a copy."""
        return (self.read(box) > self.level).view(np.uint8)

    def logits(self, box: VoxelBox) -> NDArray[np.float32]:
        """Logits of a box, float32."""
        return decoded(np.asarray(self.read(box), dtype=np.float32))

    def foreground_box(self) -> VoxelBox:
        """The tight box around the foreground; empty if there is none."""
        return VoxelBox.around(self.read(self.touched) > self.level, self.touched.lower)

    def changed_box(self, deltas: list[Delta], *, logits: bool) -> VoxelBox:
        """The smallest box known to hold all changes of some writes, of the mask or of the logits."""
        box = VoxelBox.empty()
        for delta in deltas:
            exact = not logits and delta.level == self.level
            box = box.union(delta.mask_box if exact else delta.box)
        return box

    def set_level(self, level: int) -> VoxelBox:
        """Move the foreground level, a code; returns the box of voxels that changed sides."""
        low, high = min(level, self.level), max(level, self.level)
        region = self.read(self.touched)
        self.level = level
        return VoxelBox.around((region > low) & (region <= high), self.touched.lower)

    def write(self, box: VoxelBox, values: NDArray[np.uint8]) -> Delta | None:
        """Replace the codes of a box; None if nothing differs."""
        old = self.read(box)
        different = old != values
        inner = VoxelBox.around(different, box.lower)
        if inner.is_empty:
            return None
        local = _relative(inner, box)
        changed, before, after = different[local], old[local], values[local]
        flipped = VoxelBox.around((before > self.level) != (after > self.level), inner.lower)
        delta = Delta(inner, flipped, self.level, np.packbits(changed), before[changed])
        before[...] = after
        self.touched = self.touched.union(inner)
        return delta

    def restore(self, delta: Delta) -> Delta:
        """Undo one write; returns the delta that redoes it."""
        region = self.read(delta.box)
        changed = np.unpackbits(delta.changed, count=region.size).view(bool).reshape(region.shape)
        inverse = Delta(delta.box, delta.mask_box, delta.level, delta.changed, region[changed])
        region[changed] = delta.values
        return inverse


def _relative(inner: VoxelBox, outer: VoxelBox) -> tuple[slice, slice, slice]:
    """Slices [k, j, i] that select `inner` from an array that covers `outer`."""
    i, j, k = (slice(l - o, u - o) for l, u, o in zip(inner.lower, inner.upper, outer.lower, strict=True))
    return (k, j, i)
