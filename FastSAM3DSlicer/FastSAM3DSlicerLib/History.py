"""Undo and redo: one step per prompt, each remembering every segment it touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from FastSAM3DCore.errors import PromptError
from FastSAM3DCore.prompts import Prompt
from FastSAM3DCore.types import ModelIdentity

from .SegmentWriter import Changes

# A step holds compressed boxes, about 10-50 kB each.
MAXIMUM_STEPS = 200


@dataclass(frozen=True)
class SegmentLog:
    """What was asked of one segment so far: enough to make its mask again, with the weights of `model`."""

    prompts: tuple[Prompt, ...] = ()
    threshold: float = 0.5
    model: ModelIdentity | None = None


@dataclass
class Step:
    """One undoable change.

    Attributes:
        title: shown to the user.
        segmentationId: node ID.
        segmentId: the segment that was active.
        frame: time point of the scan.
        changes: what to restore.
        before, after: the segment's log before and after the change.
        session: how the engine's session takes it back: "step" by its own undo, "reload" by loading the log
            before it, "none" if it never heard of it.
    """

    title: str
    segmentationId: str
    segmentId: str
    frame: int
    changes: Changes
    before: SegmentLog
    after: SegmentLog
    session: str = "step"

    @property
    def key(self) -> tuple[str, str, int]:
        """Which segment and time point."""
        return (self.segmentationId, self.segmentId, self.frame)


@dataclass
class Removal(Step):
    """The deletion of a segment, which is kept whole meanwhile.

    Attributes:
        segment: the vtkSegment, on a labelmap of its own.
        successor: the segment it stood before in the list; empty for the last one.
    """

    segment: Any = None
    successor: str = ""


class History:
    """Two stacks of steps."""

    def __init__(self, maximum: int = MAXIMUM_STEPS):
        self.undoSteps: list[Step] = []
        self.redoSteps: list[Step] = []
        self.maximum = maximum

    def push(self, step: Step) -> None:
        """A new change; what could be redone is forgotten."""
        self.undoSteps.append(step)
        del self.undoSteps[: -self.maximum]
        self.redoSteps.clear()

    def last(self, redo: bool = False) -> Step:
        """The step that undo (or redo) would take back; PromptError if there is none."""
        steps = self.redoSteps if redo else self.undoSteps
        if not steps:
            raise PromptError("There is nothing to redo." if redo else "There is nothing to undo.")
        return steps[-1]

    def drop(self, redo: bool = False) -> None:
        """Forget the step that undo (or redo) would take back."""
        (self.redoSteps if redo else self.undoSteps).pop()

    def turn(self, step: Step, changes: Changes, redo: bool = False) -> None:
        """Move the step to the other stack, with what to restore there."""
        source, target = (self.redoSteps, self.undoSteps) if redo else (self.undoSteps, self.redoSteps)
        source.remove(step)
        step.changes = changes
        target.append(step)

    def clear(self) -> None:
        self.undoSteps.clear()
        self.redoSteps.clear()

    def forget(self, segmentationId: str) -> None:
        """Drop steps of a segmentation that is gone."""
        for steps in (self.undoSteps, self.redoSteps):
            steps[:] = [step for step in steps if step.segmentationId != segmentationId]
