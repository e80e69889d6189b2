"""Answers to scene: writing updates, undo and redo, hand edits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from FastSAM3DCore.errors import PromptError
from FastSAM3DCore.protocol import SegmentationSession
from FastSAM3DCore.types import MaskUpdate, ModelIdentity, VoxelBox

from .ActiveSegment import ActiveSegment, Edit
from .EditMask import EditRules
from .History import History, SegmentLog, Step
from .ModelNotes import byModel, otherWeights, refinedBy, sameWeights
from .Resampling import shiftBox
from .SegmentWriter import Changes
from .SessionLink import Answer, HandEdit, SessionLink
from .Surfaces import Surfaces

Nothing = Callable[..., None]


def ignore(*_: Any) -> None:
    """The callback of somebody who does not listen."""


def withEdit(answer: Answer, edit: HandEdit) -> np.ndarray:
    """The answer's mask, but the voxels of a hand edit as the hand left them."""
    mask = answer.mask.copy()
    both = answer.box.intersect(edit.box)
    if not both.is_empty:
        there = shiftBox(both, -np.array(edit.box.lower)).slices_kji
        here = mask[shiftBox(both, -np.array(answer.box.lower)).slices_kji]
        here[edit.changed[there]] = edit.content[there][edit.changed[there]]
    return mask


class PromptResults:
    """What `SegmentationLogic` does with answers.

    Attributes:
        surfaces: meshed again by `surfaces.refresh()`, for when the user pauses.
        rules: overlap policy, Segment Editor masks, slice limit.
        onUpdate: called with the `MaskUpdate` written (its box is what changed in the segment).
        onStatus: called with one line of text for the user.
        beforeWrite: called right before a segment changes (a Segment Editor effect saves its undo state here).
        wantProbability: keep `probability` up to date for an overlay; costs a copy per prompt.
        expected: which weights will answer, for as long as the session has not been opened; None if not known.
    """

    def __init__(self, scene: Any, session: SegmentationSession):
        self.scene = scene
        self.link = SessionLink(session)
        self.rules = EditRules()
        self.history = History()
        self.surfaces = Surfaces()
        self.onUpdate: Nothing = ignore
        self.onStatus: Nothing = ignore
        self.beforeWrite: Nothing = ignore
        self.wantProbability = False
        self.probability: tuple[VoxelBox, np.ndarray] | None = None
        self.expected: ModelIdentity | None = None
        self.volumeNode: Any = None
        self.active: ActiveSegment | None = None

    @property
    def model(self) -> ModelIdentity | None:
        """Which weights answer; None until the session was first asked something."""
        return self.link.model

    def modelNote(self) -> str:
        """What to know before the next prompt: other weights made this segment. Empty if there is nothing."""
        active, now = self.active, self.link.model or self.expected
        if now is None or active is None or not byModel(active.log.prompts) or sameWeights(active.log.model, now):
            return ""
        return otherWeights(active.segment.GetName(), active.log.model, now)

    def _apply(
        self,
        active: ActiveSegment,
        answer: Answer,
        title: str,
        session: str,
        threshold: float | None = None,
        write: Any = None,
    ) -> MaskUpdate:
        if self.active is not active or not active.exists(self.scene):
            self.link.forget()
            raise PromptError("The segment or volume was changed or removed meanwhile; the answer was not written.")
        note = self._modelChange(active.log, answer.model)
        before = replace(active.log, prompts=answer.beforePrompt)
        late = active.findEdit()
        if late is not None:
            before, session = self._takeLate(active, late, before), "reload"
        self.beforeWrite()
        with self.surfaces.kept(active.node) as touched:
            if write is None:
                mask = answer.mask if late is None else withEdit(answer, late.voxels)
                box, changes = active.writer(replace(self.rules, limit=answer.limit)).write(answer.box, mask)
            else:
                changes = write(active, answer)
                box = active.boxOf(changes)
            touched.update(segmentId for segmentId, _ in changes)
        log = SegmentLog(answer.prompts, active.log.threshold if threshold is None else threshold, answer.model)
        if late is not None:  # the session's mask lacks the edit: the sum of both is where it goes on from
            log = replace(log, prompts=(*log.prompts, active.maskPrompt(log.prompts)))
        self._remember(active.step(title, changes, before, log, session))
        active.settle(log, box if late is None else None)
        if answer.probability is not None:
            self.probability = (self.link.reach, answer.probability)
        return self._tell(active, box, answer.update.prompt_id, title, note)

    @staticmethod
    def _modelChange(made: SegmentLog, now: ModelIdentity | None) -> str:
        if now is None or not byModel(made.prompts) or sameWeights(made.model, now):
            return ""
        return refinedBy(made.model, now)

    def _takeLate(self, active: ActiveSegment, late: Edit, before: SegmentLog) -> SegmentLog:
        """Somebody edited the segment while the engine computed: that is a step of its own, before the answer's."""
        edited = replace(before, prompts=(*before.prompts, active.maskPrompt(before.prompts)))
        self.history.push(active.step("hand edit", [late.change], before, edited, "reload"))
        self.link.forget()
        return edited

    def _remember(self, step: Step) -> None:
        last = self.history.undoSteps[-1] if self.history.undoSteps else None
        if last is not None and step.title == last.title == "threshold" and step.key == last.key:
            last.changes += step.changes
            last.after = step.after
            self.history.redoSteps.clear()
        elif step.changes or step.before.prompts != step.after.prompts:
            self.history.push(step)

    def _turned(self, active: ActiveSegment, step: Step, redo: bool) -> MaskUpdate:
        if self.active is not active or not active.exists(self.scene):
            self.link.forget()
            raise PromptError("The segment or volume was changed or removed meanwhile; nothing was undone.")
        if active.findEdit() is not None:  # edited while the session was undoing
            self.link.forget()
            raise PromptError("The segment was edited meanwhile; nothing was undone. Undo again to take the edit back.")
        self.beforeWrite()
        with self.surfaces.kept(active.node) as touched:
            changes: Changes = active.writer(self.rules).swap(step.changes)
            touched.update(segmentId for segmentId, _ in changes)
        self.history.turn(step, changes, redo)
        box = active.boxOf(changes)
        active.settle(step.after if redo else step.before, box)
        return self._tell(active, box, None, "redo" if redo else "undo")

    def _tell(
        self, active: ActiveSegment, box: VoxelBox, promptId: int | None, title: str, note: str = ""
    ) -> MaskUpdate:
        content = active.image().read(box).view(np.uint8)
        update = MaskUpdate(box, content, prompt_id=promptId)
        self.onUpdate(update)
        self.onStatus(". ".join(filter(None, (active.describe(title), note))))
        return update

    def _pickUpEdit(self) -> None:
        """A hand edit made since the last prompt becomes the step that undo takes back first."""
        if self.active is None or not self.active.exists(self.scene):
            return
        edit = self.active.findEdit()
        if edit is not None:
            before = self.active.log
            after = replace(before, prompts=(*before.prompts, self.active.maskPrompt()))
            self.history.push(self.active.step("hand edit", [edit.change], before, after, "reload"))
            self.active.settle(after, None)
            self.link.forget()

    def _drop(self) -> None:
        """A job was cancelled after the session had answered: load the log again before the next prompt."""
        self.link.forget()
