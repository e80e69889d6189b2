"""Keeps the engine's session in step with the volume and segment the user works on.

The session is called from whatever thread runs a job, one job at a time; nothing here touches the scene.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from FastSAM3DCore.prompts import MaskPrompt, Prompt
from FastSAM3DCore.protocol import SegmentationSession
from FastSAM3DCore.types import MaskUpdate, ModelIdentity, Volume, VoxelBox

from .ModelNotes import sameWeights
from .SliceLimit import SliceLimit

Action = Callable[[SegmentationSession], MaskUpdate]


@dataclass(frozen=True, eq=False)
class Want:
    """What the session must hold before a prompt.

    Attributes:
        imageKey, volume: the scan.
        owner: which segment and time point.
        prompts: the log that makes the segment.
        seed: makes the segment's voxels (dense, indexed [k, j, i]) if no log does; runs on the worker.
        threshold: probability above which a voxel is inside.
        model: the weights that made the segment, None if they were not recorded.
        content: makes the segment's voxels as they are, for weights other than `model`; None where those of the
            session are known to be the same.
    """

    imageKey: Any
    volume: Volume
    owner: Any
    prompts: tuple[Prompt, ...]
    seed: Callable[[], np.ndarray] | None
    threshold: float
    model: ModelIdentity | None = None
    content: Callable[[], np.ndarray] | None = None


@dataclass(frozen=True, eq=False)
class HandEdit:
    """Voxels that somebody changed since the last prompt: where, and what they are now."""

    box: VoxelBox
    changed: np.ndarray
    content: np.ndarray


@dataclass(eq=False)
class Answer:
    """What the engine said: the update, the log after it, and the log between hand edit and prompt.

    Attributes:
        limit: the slice or slab that was asked about; the user may have gone on to another one since.
    """

    update: MaskUpdate
    prompts: tuple[Prompt, ...]
    base: tuple[Prompt, ...]
    beforePrompt: tuple[Prompt, ...]
    model: ModelIdentity | None = None
    probability: np.ndarray | None = None
    box: VoxelBox | None = None
    mask: np.ndarray | None = None
    limit: SliceLimit | None = None


class SessionLink:
    """Wraps one session; knows which scan and which log it holds, and how many steps it can take back.

    Attributes:
        model: which weights answer; None until the session was first asked something.
    """

    def __init__(self, session: SegmentationSession):
        self.session = session
        self.model: ModelIdentity | None = None
        self._asked = False
        self.imageKey: Any = None
        self.forget()

    def forget(self) -> None:
        """What the session holds no longer fits the segment; load it again before the next prompt."""
        self.owner: Any = None
        self.threshold: float | None = None
        self.undoDepth = 0
        self.redoDepth = 0
        self.reach = VoxelBox.empty()

    def answersAs(self, model: ModelIdentity | None) -> bool:
        """Whether the session is known to have these weights; False as long as it was not asked anything."""
        return self._asked and sameWeights(model, self.model)

    def ensure(self, want: Want) -> None:
        """Give the session the scan and the log it lacks.

        Raises:
            FastSAM3DError: what the session raised; the next call tries again.
        """
        self._asked = True
        self.model = getattr(self.session, "model", None)  # a stand-in session may have no weights
        if self.imageKey != want.imageKey:
            self.forget()
            self.imageKey = None
            self.session.set_image(want.volume)
            self.imageKey = want.imageKey
        loaded = self.owner != want.owner
        if loaded:
            self.forget()
            prompts = want.prompts
            if want.seed is not None:
                prompts = (MaskPrompt.from_mask(1, want.seed()),)
            if prompts:
                self._reached(self.session.replay(prompts))
            elif self.session.prompts:
                self.session.reset()
        if self.threshold != want.threshold:
            self._reached(self.session.set_threshold(want.threshold))
            self.threshold = want.threshold
        if loaded:
            self._keep(want)
        self.owner = want.owner

    def _keep(self, want: Want) -> None:
        """Other weights answer the same log with another mask: go on from the segment as it is, lose nothing."""
        if want.content is None or not want.prompts or sameWeights(want.model, self.model):
            return
        content = want.content()
        if not np.array_equal(self.session.mask(), content):
            self._reached(self.session.set_mask(content))

    def ask(
        self, want: Want, action: Action, edit: HandEdit | None, limit: SliceLimit | None, probability: bool
    ) -> Answer:
        """Run one prompt, after whatever the session must be told first; nothing changes if it raises."""
        self.ensure(want)
        base = self.session.prompts
        if edit is not None:
            mask = self.session.mask()
            part = mask[edit.box.slices_kji]
            part[edit.changed] = edit.content[edit.changed]
            self.session.set_mask(mask)
            self._stepped()
        middle = self.session.prompts
        try:
            update = action(self.session)
        except BaseException:
            if edit is not None:
                self.session.undo()
                self.undoDepth -= 1
            raise
        self._stepped()
        self._reached(update)
        return self._answer(update, base, middle, limit, probability)

    def peek(self, want: Want, limit: SliceLimit, probability: bool) -> Answer:
        """What the session holds in a slice, without asking anything new."""
        self.ensure(want)
        log = self.session.prompts
        return self._answer(MaskUpdate(VoxelBox.empty(), np.zeros((0, 0, 0), np.uint8)), log, log, limit, probability)

    def retune(self, want: Want, threshold: float, limit: SliceLimit | None, probability: bool) -> Answer:
        """Another threshold on the same probabilities."""
        self.ensure(want)
        update = self.session.set_threshold(threshold)
        self.threshold = threshold
        self._reached(update)
        log = self.session.prompts
        return self._answer(update, log, log, limit, probability)

    def _answer(
        self, update: MaskUpdate, base: Any, middle: Any, limit: SliceLimit | None, probability: bool
    ) -> Answer:
        log = self.session.prompts
        answer = Answer(update, log, base, middle, self.model, box=update.box, mask=update.mask, limit=limit)
        if limit is not None and not self.reach.is_empty:
            # The session's mask may differ from the segment's anywhere in a slice not edited yet.
            answer.box = limit.bounds(self.reach)
            answer.mask = self.session.mask(answer.box)
        if probability and not self.reach.is_empty:
            answer.probability = self.session.probability(self.reach)
        return answer

    def reloaded(self, prompts: tuple[Prompt, ...]) -> Action:
        """An action that replaces the whole log; the session's own undo steps no longer fit afterwards."""

        def action(session: SegmentationSession) -> MaskUpdate:
            update = session.replay(prompts)
            self.undoDepth = self.redoDepth = -1  # `ask` counts this action as one more
            return update

        return action

    def canTurn(self, imageKey: Any, owner: Any, redo: bool) -> bool:
        """Whether the session's own undo (redo) is the same step as the segment's."""
        depth = self.redoDepth if redo else self.undoDepth
        return self.imageKey == imageKey and self.owner == owner and depth > 0

    def turn(self, redo: bool) -> MaskUpdate:
        """Undo or redo in the session."""
        update = self.session.redo() if redo else self.session.undo()
        step = 1 if redo else -1
        self.undoDepth += step
        self.redoDepth -= step
        return update

    def _stepped(self) -> None:
        self.undoDepth += 1
        self.redoDepth = 0

    def _reached(self, update: MaskUpdate) -> None:
        self.reach = self.reach.union(update.box)
