"""Undo and redo of any depth: each step knows the prompts and the voxels it replaced."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..geometry import CropFrame
from ..prompts import Prompt
from .grid import Delta, LogitGrid

__all__ = ["History", "Step"]


@dataclass(slots=True)
class Step:
    """One undoable change.

    Attributes:
        prompts: the log as it was before the change.
        frame: where the engine was looking before the change.
        deltas: the writes of the change, oldest first.
    """

    prompts: tuple[Prompt, ...]
    frame: CropFrame | None
    deltas: list[Delta] = field(default_factory=list)

    def revert(self, grid: LogitGrid) -> list[Delta]:
        """Put the old voxels back, newest write first; returns deltas whose own revert redoes the step."""
        return [grid.restore(delta) for delta in reversed(self.deltas)]


class History:
    """Two stacks of steps: what can be undone, and what can be redone."""

    def __init__(self) -> None:
        self._undo: list[Step] = []
        self._redo: list[Step] = []

    @property
    def undo_depth(self) -> int:
        return len(self._undo)

    @property
    def redo_depth(self) -> int:
        return len(self._redo)

    @property
    def nbytes(self) -> int:
        """Memory held by both stacks."""
        return sum(delta.nbytes for step in (*self._undo, *self._redo) for delta in step.deltas)

    @property
    def newest(self) -> Step | None:
        """The change that `undo` would take back."""
        return self._undo[-1] if self._undo else None

    def push(self, step: Step) -> None:
        """Record a new change; what was undone before it is gone."""
        self._undo.append(step)
        self._redo.clear()

    def undo(self, grid: LogitGrid, present: Step) -> Step:
        """Take the newest change back; its prompts and frame are in force again.

        Args:
            grid: the voxels.
            present: the prompts and frame in force now, so that the change can be redone.
        """
        return self._move(self._undo, self._redo, grid, present)

    def redo(self, grid: LogitGrid, present: Step) -> Step:
        """Apply the newest undone change again; otherwise as `undo`."""
        return self._move(self._redo, self._undo, grid, present)

    def back_to(self, prompts: tuple[Prompt, ...]) -> list[Step] | None:
        """The newest steps to revert, in order, to reach the state in which `prompts` were in force.

        None if the way there is not a plain sequence of added prompts (a reset or replay lies between).
        """
        steps = []
        for step in reversed(self._undo):
            steps.append(step)
            if step.prompts == prompts:
                return steps
            if step.prompts[: len(prompts)] != prompts:
                return None
        return None

    @staticmethod
    def _move(source: list[Step], target: list[Step], grid: LogitGrid, present: Step) -> Step:
        step = source.pop()
        present.deltas = step.revert(grid)
        target.append(present)
        return step
