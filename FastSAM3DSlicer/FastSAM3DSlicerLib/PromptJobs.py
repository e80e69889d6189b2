"""Prompts as jobs: prepared from the scene, answered by the engine, applied to the scene."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from FastSAM3DCore.errors import FastSAM3DError, PromptError
from FastSAM3DCore.prompts import BoxPrompt, LassoPrompt, Prompt, ScribblePrompt
from FastSAM3DCore.protocol import SegmentationSession
from FastSAM3DCore.types import MaskUpdate, VoxelBox

from .ActiveSegment import ActiveSegment
from .EditMask import EditRules
from .History import Removal, SegmentLog, Step
from .Job import Job
from .PromptResults import PromptResults, ignore
from .Prompts import boxPrompt, lassoPrompt, pointPrompt, scribblePrompt
from .SegmentImage import SegmentImage
from .SessionLink import Action, Answer, SessionLink, Want
from .VolumeBridge import checkVolume, frameIndex, ijkToWorld, imageKey, shapeIjk


class PromptJobs(PromptResults):
    """The prompts of `SegmentationLogic` as jobs, for front ends that must stay responsive."""

    # -- what to work on -----------------------------------------------------------------------------

    def setSession(self, session: SegmentationSession) -> None:
        """Go on with another engine (other model, device or server); the log is replayed there."""
        self.link = SessionLink(session)

    def setVolume(self, volumeNode: Any) -> None:
        """Segment in this scan from now on.

        Raises:
            ImageError: it cannot be segmented; the volume before stays.
        """
        checkVolume(volumeNode)
        if volumeNode is not self.volumeNode:
            self.volumeNode = volumeNode
            self.active = None
            self.probability = None

    def setSegment(self, segmentationNode: Any, segmentId: str) -> None:
        """Prompts change this segment from now on; coming back to a segment continues where it was left.

        Raises:
            PromptError: there is no such segment, or no volume is set.
            ImageError: the segmentation is under a non-linear transform.
        """
        self._checkVolume()
        active = ActiveSegment(self.volumeNode, segmentationNode, segmentId)
        if self.active is not None and self.active.isSame(active):
            return
        active.activate()
        self.active = active
        self.probability = None

    def addSegment(self, segmentationNode: Any, name: str = "") -> str:
        """Add an empty segment and work on it; returns its id."""
        self._checkVolume()
        segmentId = ActiveSegment.create(self.volumeNode, segmentationNode, name)
        self.setSegment(segmentationNode, segmentId)
        return segmentId

    def removeSegment(self, segmentationNode: Any, segmentId: str) -> None:
        """Delete a segment; one undo step. If it was the active one, the last of the others is active then.

        Raises:
            PromptError: there is no such segment, it is locked, or no volume is set.
        """
        self._checkVolume()
        image = self._imageOf(segmentationNode, segmentId)
        self.rules.checkUnlocked(image)
        image.isolate()  # deleted with a layer it shares, it would leave its voxels there
        ids = list(segmentationNode.GetSegmentation().GetSegmentIDs())
        successor = next(iter(ids[ids.index(segmentId) + 1 :]), "")
        place = (segmentationNode.GetID(), segmentId, frameIndex(self.volumeNode))
        nothing = SegmentLog()
        self.history.push(Removal("delete", *place, [], nothing, nothing, "none", image.segment, successor))
        self._takeOut(segmentationNode, segmentId)

    def clear(self) -> None:
        """Forget nodes and history; for when the scene closes."""
        self.volumeNode = self.active = self.probability = None
        self.history.clear()
        self.rules = EditRules(policy=self.rules.policy)
        self.link.forget()

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The log of the active segment."""
        return self.active.log.prompts if self.active else ()

    # -- prompts -------------------------------------------------------------------------------------

    def preparePoint(self, ras: Any, positive: bool = True) -> Job:
        prompt = pointPrompt(self._ready().volumeNode, ras, positive)
        return self._job("point", lambda s: s.add_point(prompt.point_ijk, prompt.positive))

    def prepareBox(self, roiNode: Any) -> Job:
        prompt = boxPrompt(self._ready().volumeNode, roiNode)
        return self._job("box", lambda s: s.add_box(prompt.box))

    def prepareScribble(self, curveNode: Any, positive: bool = True) -> Job:
        prompt = scribblePrompt(self._ready().volumeNode, curveNode, positive)
        return self._job("scribble", lambda s: s.add_scribble(prompt.points_ijk, prompt.positive))

    def prepareLasso(self, curveNode: Any, positive: bool = True) -> Job:
        prompt = lassoPrompt(self._ready().volumeNode, curveNode, positive)
        if isinstance(prompt, ScribblePrompt):  # in an oblique slice: a path over the inside
            return self._job("lasso", lambda s: s.add_scribble(prompt.points_ijk, positive))
        return self._job("lasso", lambda s: s.add_lasso(prompt.polygon_ijk, positive))

    def prepareMove(self, promptId: int, ras: Any) -> Job:
        prompt = pointPrompt(self._ready().volumeNode, ras, True)
        return self._job("move", lambda s: s.move_prompt(promptId, prompt.point_ijk))

    def prepareRemove(self, promptId: int) -> Job:
        self._ready()
        return self._job("remove", lambda s: s.remove_prompt(promptId))

    def prepareReplace(self, promptId: int, markupsNode: Any) -> Job:
        """A box or curve was dragged: the log with it in the new place."""
        active = self._ready()
        old = next((p for p in active.log.prompts if p.id == promptId), None)
        if not isinstance(old, BoxPrompt | ScribblePrompt | LassoPrompt):
            raise PromptError("That box or curve is no longer part of the segment.")
        if isinstance(old, BoxPrompt):
            new: Prompt = boxPrompt(active.volumeNode, markupsNode, promptId)
        else:
            make = scribblePrompt if isinstance(old, ScribblePrompt) else lassoPrompt
            new = make(active.volumeNode, markupsNode, old.positive, promptId)
        log = tuple(new if p.id == promptId else p for p in active.log.prompts)
        return self._job("move", self.link.reloaded(log), session="reload")

    def prepareReset(self) -> Job:
        self._ready()
        return self._job("reset", lambda s: s.reset(), write=lambda active, _: active.writer(self.rules).clear())

    def prepareFill(self) -> Job:
        active = self._ready()
        if self.rules.limit is None:
            raise PromptError("Slice mode is off; turn it on to fill one slice.")
        want = self.wanted(active)
        limit = self.rules.limit

        def call() -> Answer:
            return self.link.peek(want, limit, self.wantProbability)

        return Job("fill slice", call, lambda answer: self._apply(active, answer, "fill slice", "none"), self._drop)

    def prepareReady(self) -> Job:
        """Load the engine, the scan and the log ahead of the first prompt; changes nothing."""
        want = self.wanted(self._ready())
        nothing = MaskUpdate(VoxelBox.empty(), np.zeros((0, 0, 0), np.uint8))
        return Job("getting ready", lambda: self.link.ensure(want), lambda _: nothing, self._drop)

    def prepareProbe(self) -> Job:
        """Fetch the probability without asking anything new; changes nothing."""
        active = self._ready()
        want = self.wanted(active)

        def apply(answer: Answer) -> MaskUpdate:
            if answer.probability is not None and self.active is active:
                self.probability = (self.link.reach, answer.probability)
            return answer.update

        return Job("uncertainty", lambda: self.link.peek(want, None, True), apply, self._drop)

    def prepareThreshold(self, probability: float) -> Job:
        active = self._ready()
        if not 0.0 < probability < 1.0:
            raise PromptError(f"The threshold must lie between 0 and 1, got {probability}.")
        want, limit = self.wanted(active), self.rules.limit

        def call() -> Answer:
            return self.link.retune(want, probability, limit, self.wantProbability)

        def apply(answer: Answer) -> MaskUpdate:
            return self._apply(active, answer, "threshold", "none", threshold=probability)

        return Job("threshold", call, apply, self._drop)

    def prepareTurn(self, redo: bool) -> Job:
        """Undo or redo as a job; the scene is restored from what was stored, so it never fails half way."""
        self._pickUpEdit()
        step, title = self._nextTurn(redo), "redo" if redo else "undo"
        if isinstance(step, Removal):
            return Job(title, ignore, lambda _: self._turnRemoval(step, redo), ignore)
        active = self._activateFor(step)
        inSession = step.session == "step" and self.link.canTurn(imageKey(active.volumeNode), active.owner, redo)

        def call() -> None:
            if inSession:
                try:
                    self.link.turn(redo)
                except FastSAM3DError:  # a server lost the session, and its steps: the log is loaded again later
                    self.link.forget()
            elif step.session != "none":
                self.link.forget()

        return Job(title, call, lambda _: self._turned(active, step, redo), self._drop)

    def wanted(self, active: ActiveSegment) -> Want:
        """What the session must hold before a prompt on this segment."""
        return active.want(self.link.answersAs(active.log.model))

    # -- inside --------------------------------------------------------------------------------------

    def _checkVolume(self) -> None:
        """Raises ImageError or PromptError if the scan cannot be used (any more)."""
        checkVolume(self.volumeNode)
        if self.volumeNode.GetScene() is not self.scene:
            raise PromptError("The volume was removed from the scene; choose another one.")

    def _ready(self) -> ActiveSegment:
        """The active segment, checked to be usable right now."""
        self._checkVolume()
        if self.active is None:
            raise PromptError("No segment is chosen; add a segment first.")
        self.active.check(self.scene)
        self.rules.checkUnlocked(self.active.image())
        self.active.refresh()
        return self.active

    def _job(self, title: str, action: Action, session: str = "step", write: Any = None) -> Job:
        active = self._ready()
        want, edit = self.wanted(active), active.findEdit()
        limit, probability = self.rules.limit, self.wantProbability

        def call() -> Answer:
            return self.link.ask(want, action, edit.voxels if edit else None, limit, probability)

        def apply(answer: Answer) -> MaskUpdate:
            if edit is not None and self.active is active:
                active.adopt(edit)
                before = replace(active.log, prompts=answer.base)
                after = replace(active.log, prompts=answer.beforePrompt)
                self.history.push(active.step("hand edit", [edit.change], before, after, "step"))
                active.log = after
            return self._apply(active, answer, title, session, write=write)

        return Job(title, call, apply, self._drop)

    def _nextTurn(self, redo: bool) -> Step:
        """The step to take back or do again next; what belongs to segments that are gone is dropped on the way."""
        while True:
            step = self.history.last(redo)
            node = self.scene.GetNodeByID(step.segmentationId)
            if node is None:
                self.history.forget(step.segmentationId)
                raise PromptError("The segmentation of that step is gone; it cannot be restored.")
            there = set(node.GetSegmentation().GetSegmentIDs())
            comesBack = isinstance(step, Removal) and not redo
            if (step.segmentId in there) != comesBack:
                step.changes = [change for change in step.changes if change[0] in there]
                return step
            self.history.drop(redo)

    def _activateFor(self, step: Step) -> ActiveSegment:
        """Undo may reach back to a segment that is not active any more: work on that one again."""
        if self.active is None or self.active.key != step.key:
            self.setSegment(self.scene.GetNodeByID(step.segmentationId), step.segmentId)
        return self._ready()

    # -- deleted segments ----------------------------------------------------------------------------

    def _imageOf(self, node: Any, segmentId: str) -> SegmentImage:
        return SegmentImage(node, segmentId, ijkToWorld(self.volumeNode), shapeIjk(self.volumeNode))

    def _takeOut(self, node: Any, segmentId: str) -> None:
        wasActive = self.active is not None and self.active.node is node and self.active.segmentId == segmentId
        node.GetSegmentation().RemoveSegment(segmentId)
        if wasActive:
            self.active = self.probability = None
            others = node.GetSegmentation().GetSegmentIDs()
            if others:
                self.setSegment(node, others[-1])

    def _turnRemoval(self, step: Removal, redo: bool) -> MaskUpdate:
        """Bring a deleted segment back as it was, or delete it again."""
        if self._nextTurn(redo) is not step:
            raise PromptError("The segment was changed or removed meanwhile; nothing was done.")
        self._checkVolume()
        node = self.scene.GetNodeByID(step.segmentationId)
        if not redo:
            node.GetSegmentation().AddSegment(step.segment, step.segmentId, step.successor)
        image = self._imageOf(node, step.segmentId)
        box = image.voxelBox(image.box).intersect(VoxelBox((0, 0, 0), shapeIjk(self.volumeNode)))
        if redo:
            self.rules.checkUnlocked(image)
            self._takeOut(node, step.segmentId)
        else:
            self.setSegment(node, step.segmentId)
        self.history.turn(step, [], redo)
        if self.active is None:
            return MaskUpdate(box, np.zeros(box.shape_ijk[::-1], np.uint8))
        return self._tell(self.active, box, None, "redo" if redo else "undo")
