"""Everything that writes voxels: accepted proposals, and what a person decided by hand."""

from __future__ import annotations

from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ..calibration import STEPS_PER_LOGIT
from ..engine import Engine
from ..geometry import paste_positions, resample_axes
from ..prompts import LassoPrompt, PointPrompt, Prompt, ScribblePrompt
from ..types import VoxelBox
from .acceptance import Proposal
from .grid import BACKGROUND, UNDECIDED, Delta, LogitGrid, quantise
from .shapes import polygon_mask, polyline_voxels

__all__ = ["Painter"]

# Logit of voxels that a person decided: scribbles, lassos, seeds (probability 98 %).
DECIDED = 4.0
# Below this logit (probability 0.25 %) a voxel is background whatever happens; it is not worth writing.
IGNORED_LOGIT = -6.0


class Painter:
    """Writes to a grid and notes in a list of deltas how to take it back.

    Args:
        engine: knows the scan's geometry.
        grid: the segmentation's state.
    """

    def __init__(self, engine: Engine, grid: LogitGrid) -> None:
        self._engine = engine
        self._grid = grid

    def paste(self, proposal: Proposal, limit: VoxelBox, deltas: list[Delta]) -> None:
        """Blend a proposal into the scan's grid within `limit`; only where it matters is resampled."""
        start = perf_counter()
        box_ras = self._relevant_box(proposal, limit)
        if not box_ras.is_empty:
            self._write(*self._blended(proposal, box_ras), deltas)
        seconds = self._engine.seconds
        seconds["paste"] = seconds.get("paste", 0.0) + perf_counter() - start

    def _relevant_box(self, proposal: Proposal, limit: VoxelBox) -> VoxelBox:
        """Canonical voxels that a proposal may change."""
        relevant = (proposal.accept > 0) & (proposal.logits.maximum(proposal.previous) > IGNORED_LOGIT)
        if not bool(relevant.any()):
            return VoxelBox.empty()
        axes, frame, stride = self._engine.axes, proposal.frame, self._engine.traits.mask_stride
        where = relevant.nonzero()
        low = np.maximum((where.amin(0).numpy() - 1) * stride, 0)
        high = np.minimum((where.amax(0).numpy() + 2) * stride, frame.size)
        return frame.box(axes.shape, low, high).intersect(axes.box_from_ijk(limit))

    def _blended(self, proposal: Proposal, box_ras: VoxelBox) -> tuple[VoxelBox, NDArray[np.uint8]]:
        """The box on the scan's grid and its new values."""
        axes, stride = self._engine.axes, self._engine.traits.mask_stride
        positions = axes.per_array_axis(paste_positions(axes, proposal.frame, box_ras, stride))
        logits = resample_axes(axes.canonical_to_array(proposal.logits).numpy(), positions).numpy()
        box = axes.box_to_ijk(box_ras)
        if not bool((proposal.accept < 1).any()):
            return box, quantise(logits)
        accept = resample_axes(axes.canonical_to_array(proposal.accept).numpy(), positions).numpy()
        old = self._grid.logits(box)
        blended = np.asarray(old + accept * (logits - old), dtype=np.float32)
        return box, np.where(accept > 0, quantise(blended), self._grid.read(box)).astype(np.uint8)

    def honour(self, prompt: Prompt, deltas: list[Delta]) -> None:
        """What a person pointed at is on their side of the mask, whatever the network says."""
        match prompt:
            case PointPrompt():
                self._decide(np.round(np.array([prompt.point_ijk])).astype(int), prompt.positive, deltas)
            case ScribblePrompt():
                self._decide(polyline_voxels(prompt.points_ijk).astype(int), prompt.positive, deltas)
            case LassoPrompt():
                box, inside = polygon_mask(np.array(prompt.polygon_ijk), self._engine.volume.shape_ijk)
                voxels = np.argwhere(inside)[:, ::-1] + np.asarray(box.lower)
                self._decide(voxels, prompt.positive, deltas)

    def _decide(self, voxels_ijk: NDArray[np.int_], positive: bool, deltas: list[Delta]) -> None:
        """Put voxels on one side of the mask; those already there keep their logit."""
        last = np.asarray(self._engine.volume.shape_ijk) - 1
        voxels = np.clip(voxels_ijk, 0, last)
        lower, upper = voxels.min(axis=0), voxels.max(axis=0) + 1
        box = VoxelBox(tuple(lower.tolist()), tuple(upper.tolist()))
        values = self._grid.read(box).copy()
        i, j, k = (voxels - lower).T
        current = values[k, j, i]
        already = (current > self._grid.level) == positive
        values[k, j, i] = np.where(already, current, self._decided_level(positive))
        self._write(box, values, deltas)

    def seed(self, mask: NDArray[np.bool_], deltas: list[Delta]) -> None:
        """Take over a mask of the whole scan; voxels that agree with it keep their logit."""
        values = self._grid.read(self._grid.box)
        already = (values > self._grid.level) == mask
        decided = np.where(mask, np.uint8(self._decided_level(True)), np.uint8(self._decided_level(False)))
        self._write(self._grid.box, np.where(already, values, decided), deltas)

    def _decided_level(self, positive: bool) -> int:
        decided, level = int(DECIDED * STEPS_PER_LOGIT), self._grid.level
        return max(UNDECIDED + decided, level + 1) if positive else min(UNDECIDED - decided, level)

    def blank(self, deltas: list[Delta]) -> None:
        """Background everywhere."""
        box = self._grid.touched
        self._write(box, np.full(self._grid.read(box).shape, BACKGROUND, dtype=np.uint8), deltas)

    def _write(self, box: VoxelBox, values: NDArray[np.uint8], deltas: list[Delta]) -> None:
        delta = self._grid.write(box, values)
        if delta is not None:
            deltas.append(delta)
