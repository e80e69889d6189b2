"""What the module's panel and the Segment Editor effect have in common: everything but the widgets."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from FastSAM3DCore.errors import CancelledError, DeviceError, FastSAM3DError
from FastSAM3DCore.types import MaskUpdate, ModelIdentity

from .DeferredSession import DeferredSession
from .EditMask import setLocked
from .Job import Job
from .PromptSync import PromptSync
from .SegmentationLogic import SegmentationLogic
from .SessionRunner import Request, SessionRunner
from .SlicePointer import SlicePointer
from .SliceReview import SliceReview
from .ToolBox import NONE, ToolBox, Views
from .Uncertainty import UncertaintyOverlay
from .VolumeBridge import sizeNote

logger = logging.getLogger(__name__)

# Of each timer tick (20 ms), for the worker; the rest is for the mouse and the views.
WORKER_SHARE_S = 0.015


def ignore(*_: Any) -> None:
    """Nobody waits for this one."""


class Controller:
    """Tools, queue, overlay and slice review around one `SegmentationLogic`.

    Args:
        scene: the scene to work in.
        session: what to segment with; opened on the worker at the first prompt.
        views: the slice views on screen.
        say: shows one line to the user.
        onChanged: something the panel shows has changed.
        fallback: makes a session on the CPU for when a graphics card runs out of memory; None, or one that
            returns None, to give up.

    Attributes:
        inside: whether the panel is shown: tools and markups react.
        editorNode: Segment Editor settings to obey; None: those of the Segment Editor module, if it is used.
    """

    def __init__(
        self,
        scene: Any,
        session: DeferredSession,
        views: Views,
        say: Callable[[str], None],
        onChanged: Callable[[], None] = ignore,
        fallback: Callable[[], DeferredSession | None] | None = None,
    ):
        self.scene, self.say, self.onChanged, self._fallback = scene, say, onChanged, fallback
        self._views = views
        self.editorNode: Any = None
        self.session = session
        self.logic = SegmentationLogic(scene, session)
        self.logic.onStatus = say
        self.logic.onUpdate = self._onUpdate
        self.runner = SessionRunner(self._onError)
        self.runner.cancelRunning = lambda: self.session.cancel()
        self.sync = PromptSync(self.logic, self.submit)
        self.tools = ToolBox(self.sync, views, self._onTool)
        self.inside = True
        self.pointer = SlicePointer(scene)
        self.pointer.follow()
        self.review = SliceReview(self.logic, self.pointer)
        self.overlay = UncertaintyOverlay(scene)
        self.overlayOn = False
        self._fellBack = False
        self._thresholdWanted: float | None = None
        self._thresholdRunning: float | None = None

    def close(self) -> None:
        """Put tools down, wait for the worker, take our nodes out of the scene, free the session."""
        self.leave()
        self.runner.close()
        self.overlay.hide()
        self.session.close()

    def leave(self) -> None:
        """The panel is hidden: no tool, no markups that react; segments, log and session stay."""
        self.inside = False
        self.tools.close()
        self.sync.close()
        self.pointer.close()

    def enter(self) -> None:
        """The panel is shown again."""
        if not self.inside:
            self.inside = True
            self.sync = PromptSync(self.logic, self.submit)
            self.tools = ToolBox(self.sync, self._views, self._onTool)
        self.pointer.follow()
        self._limitToSliceViews()
        self.sync.mirror()

    def layoutChanged(self) -> None:
        """Slice views came or went: prompts are shown in those there are now, and the tool in hand works in them."""
        if not self.inside:
            return
        self._limitToSliceViews()
        if self.tools.tool != NONE:  # else another module may be placing markups
            self.tools.use(self.tools.tool)
        self._showOverlay()

    # -- what to work on -----------------------------------------------------------------------------

    def useSession(self, session: DeferredSession, expected: ModelIdentity | None = None) -> None:
        """Another model, device or server; the log of the segment goes with it.

        Args:
            session: the engine.
            expected: which weights it will answer with, as far as that is known before it is opened.
        """
        self.runner.cancel()
        self._fellBack = False
        self._swapSession(session, expected)

    def select(self, volumeNode: Any, segmentationNode: Any, segmentId: str) -> bool:
        """Work on this; says what is wrong with it and returns False if it cannot be."""
        try:
            self.logic.setVolume(volumeNode)
            if segmentationNode is not None and segmentId:
                self.logic.setSegment(segmentationNode, segmentId)
        except FastSAM3DError as error:
            self.say(str(error))
            self._retarget()
            return False
        self._retarget()
        self.say(" ".join(filter(None, (self.target(), self.logic.modelNote(), sizeNote(volumeNode)))))
        return True

    def tick(self) -> bool:
        """For a timer of Slicer's: lets the worker run, then `pump`. Returns whether it has to be called again."""
        self.runner.wait(WORKER_SHARE_S)
        return self.pump() or self.runner.working

    def pump(self) -> bool:
        """Apply answers, start what waits, follow a sequence. Returns whether anything runs or waits."""
        if not self.runner.pump() and self.inside:
            try:
                self._followFrame()
            except FastSAM3DError as error:
                self.say(str(error))
        if not self.runner.busy and (notices := self.session.takeNotices()):  # while it is busy, answers overwrite it
            self.say(" ".join(notices))
        return self.runner.busy

    def _followFrame(self) -> None:
        """The sequence shows another time point: its prompts are the ones to show."""
        active = self.logic.active
        if active is not None and active.exists(self.scene) and active.refresh():
            self.logic.probability = None
            self._retarget()
            self.say(f"Time point {active.frame + 1}. {self.target()}")

    def newSegmentation(self, volumeNode: Any) -> Any:
        """An empty segmentation for a volume."""
        node = self.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volumeNode.GetName()} segmentation")
        node.CreateDefaultDisplayNodes()
        return node

    def nextSegment(self, segmentationNode: Any) -> str:
        """Add a segment and work on it; returns its id, empty if that was refused (and said)."""
        try:
            segmentId = self.logic.addSegment(segmentationNode)
        except FastSAM3DError as error:
            self.say(str(error))
            return ""
        self._retarget()
        self.say(self.target())
        return segmentId

    def target(self) -> str:
        """What the next click acts on."""
        volume, active = self.logic.volumeNode, self.logic.active
        if volume is None:
            return "Choose a volume to start."
        if active is None or not active.exists(self.scene):
            return f"Choose or add a segment to work on in {volume.GetName()}."
        verb = "adds to" if self.tools.positive else "removes from"
        tool = self.tools.tool or "next prompt"
        where = " (this slice only)" if self.review.on else ""
        return f"{tool.capitalize()} {verb} {active.segment.GetName()} in {volume.GetName()}{where}."

    # -- what to do ----------------------------------------------------------------------------------

    def submit(self, prepare: Callable[[], Job], done: Callable[[MaskUpdate | None], None] = ignore) -> None:
        """Queue a prompt that changes what the user looks at now; errors are said."""
        place = self.review.place()

        def prepared() -> Job:
            self.logic.rules.editorNode = self.editorNode or self._sharedEditorNode()
            self.review.confine(place)
            return prepare()

        try:
            self.runner.submit(prepared, done)
        except FastSAM3DError as error:
            self.say(str(error))
            done(None)

    def undo(self) -> None:
        self.submit(lambda: self.logic.prepareTurn(redo=False))

    def redo(self) -> None:
        self.submit(lambda: self.logic.prepareTurn(redo=True))

    def reset(self) -> None:
        self.submit(self.logic.prepareReset)

    def setThreshold(self, probability: float) -> None:
        """Follow a slider: only the newest value is computed."""
        waiting = self._thresholdWanted is not None
        self._thresholdWanted = probability
        if not waiting:
            self.submit(self._prepareThreshold, lambda _: self._thresholdDone())

    def actions(self) -> dict[str, Callable[[], None]]:
        """What keys can do without a panel, by the names of `Shortcuts.DEFAULTS`."""
        return {
            "sign": self.toggleSign,
            "undo": self.undo,
            "redo": self.redo,
            "reset": self.reset,
            "uncertain": self.goToUncertain,
            "accept": self.acceptSlice,
        }

    def toggleSign(self) -> None:
        """Between adding and removing, with the same tool."""
        self.tools.use(self.tools.tool, not self.tools.positive)

    def useTool(self, tool: str) -> None:
        """Pick a tool up; the one in hand is put down instead."""
        self.tools.use(NONE if tool == self.tools.tool else tool)
        if self.tools.tool != NONE and not self.session.isOpen and not self.runner.busy:
            # So that the first click is as quick as the others.
            self.submit(self.logic.prepareReady, lambda _: self._warnOfOtherModel())

    def setLocked(self, locked: bool) -> None:
        """Protect the active segment, or release it."""
        if self.logic.active is not None and self.logic.active.exists(self.scene):
            setLocked(self.logic.active.segment, locked)

    def setSurfaces(self, on: bool) -> None:
        """Show the segments as surfaces in the 3D views, or stop."""
        active = self.logic.active
        if active is not None and active.exists(self.scene):
            node = active.node
            (node.CreateClosedSurfaceRepresentation if on else node.RemoveClosedSurfaceRepresentation)()

    def setOverlay(self, on: bool) -> None:
        """Show where the engine is undecided."""
        self.overlayOn = on
        self._wantProbability()
        if not on:
            self.overlay.hide()
        elif self.logic.prompts:
            self.submit(self.logic.prepareProbe, lambda _: self._showOverlay())

    def setSliceMode(self, on: bool, slabMm: float = 0.0) -> None:
        """Changes stay in the slice under the pointer, or a slab around it."""
        self.review.set(on, slabMm)
        self._wantProbability()
        self.say(self.target())

    def acceptSlice(self) -> None:
        """This slice is right: it never changes again; go to the next that needs a look."""
        if self.review.accept():
            self.goToUncertain()
        else:
            self.say("Slice mode is off; turn it on to accept slices one by one.")

    def goToUncertain(self) -> None:
        """Show the slice where the engine is least sure."""
        node = self.pointer.node
        self.submit(self.logic.prepareProbe, lambda update: self._jump(node) if update is not None else None)

    def fillSlice(self) -> None:
        """Take over what the engine proposes for this slice."""
        self.submit(self.logic.prepareFill)

    # -- inside --------------------------------------------------------------------------------------

    def _warnOfOtherModel(self) -> None:
        """The session is open now: its digest is known."""
        if note := self.logic.modelNote():
            self.say(note)

    def _swapSession(self, session: DeferredSession, expected: ModelIdentity | None) -> None:
        old, self.session = self.session, session
        self.logic.setSession(session)
        self.logic.expected = expected
        self.runner.afterwards(old.close)

    def _sharedEditorNode(self) -> Any:
        """The Segment Editor's settings for our segmentation: its masks count here as well."""
        for n in range(self.scene.GetNumberOfNodesByClass("vtkMRMLSegmentEditorNode")):
            node = self.scene.GetNthNodeByClass(n, "vtkMRMLSegmentEditorNode")
            if self.logic.active is not None and node.GetSegmentationNode() is self.logic.active.node:
                return node
        return None

    def _prepareThreshold(self) -> Job:
        wanted, self._thresholdRunning = self._thresholdWanted, self._thresholdWanted
        return self.logic.prepareThreshold(0.5 if wanted is None else wanted)

    def _thresholdDone(self) -> None:
        wanted, self._thresholdWanted = self._thresholdWanted, None
        if wanted is not None and wanted != self._thresholdRunning:
            self.setThreshold(wanted)

    def _mirror(self) -> None:
        if self.inside:
            self.sync.mirror()

    def _onUpdate(self, _: MaskUpdate) -> None:
        self._mirror()
        self._showOverlay()
        self.onChanged()

    def _onTool(self) -> None:
        self.say(self.target())
        self.onChanged()

    def _onError(self, error: BaseException, request: Request) -> None:
        onCpu = self._fallback() if isinstance(error, DeviceError) and self._fallback and not self._fellBack else None
        if onCpu is not None:
            self._fellBack = True
            self._swapSession(onCpu, self.logic.model)  # same weights; what waits goes on there
            self.say(f"{error} Continuing on the CPU.")
            self.runner.again(request)
            return
        if isinstance(error, CancelledError):
            self.say("Cancelled; nothing was changed.")
        elif isinstance(error, FastSAM3DError):
            self.say(str(error))
        else:
            self.say(f"Something unexpected went wrong ({type(error).__name__}: {error}); nothing was changed.")
        request.done(None)
        self.onChanged()

    def _retarget(self) -> None:
        self.review.aim()
        self._mirror()
        self._showOverlay()
        self.onChanged()

    def _wantProbability(self) -> None:
        self.logic.wantProbability = self.overlayOn or self.review.on

    def _showOverlay(self) -> None:
        if self.overlayOn and self.logic.volumeNode is not None:
            self.overlay.show(self.logic.volumeNode, self.logic.probability)

    def _limitToSliceViews(self) -> None:
        self.sync.limitToSliceViews([sliceNode for _, sliceNode in self._views()])

    def _jump(self, sliceNode: Any) -> None:
        self.say(self.review.goToUncertain(sliceNode))
