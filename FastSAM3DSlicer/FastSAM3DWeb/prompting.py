"""From gestures on the page to prompts: what each tool does with the points it collected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from FastSAM3DCore.errors import PromptError
from FastSAM3DSlicerLib.SliceLimit import SliceLimit
from FastSAM3DSlicerLib.SliceReview import ACCEPTED_TAG, SliceReview, acceptedSlices

from .boxes import BoxHandles
from .engine import Engine
from .handedit import paint
from .notes import Notes
from .prefetch import Prefetch
from .replies import reply
from .runner import Runner
from .study import Study
from .tools import hint_for
from .views import SLICE_VIEWS, Views

__all__ = ["Prompting"]

Point = tuple[float, float, float]

MAX_POINTS = 5000
# The picture of the clicked view is drawn, encoded and sent in this time (15-40 ms); nothing else may run before.
DRAW_FIRST = 0.05


class Prompting:
    """The tools.

    Attributes:
        changed: called after the segment changed, with the voxel box.
        chosen: called after a tool was chosen.
        prefetch, boxes: what prepares the engine under the hand, and the handles of boxes.
        engine: where the session comes from.
        view: the slice view the person works in.
    """

    def __init__(self, state: Any, study: Study, views: Views, runner: Runner, notes: Notes, engine: Engine) -> None:
        self.state, self.study, self.views, self.runner, self.notes = state, study, views, runner, notes
        self.changed: Callable[[Any], None] = lambda box: None
        self.chosen: Callable[[], None] = lambda: None
        self.prefetch = Prefetch(study, runner)
        self.boxes = BoxHandles(state, study, views)
        self.engine = engine
        self.view = SLICE_VIEWS[0].tag
        self._tasks: set[asyncio.Task[None]] = set()
        self._threshold_wanted: float | None = None
        self._review = SliceReview(study.logic)

    # Starting work from the page

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run work without making the page wait; its failure is told to the person."""
        task = asyncio.get_running_loop().create_task(self.notes.report(work))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        with self.state:
            self.state.settled = self.state.answers

    async def settle(self) -> None:
        """Wait until everything asked for so far is done."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def choose(self, tool: str) -> None:
        with self.state:
            self.state.tool = tool
            self.state.hint = hint_for(tool)
            self.notes.say("")
        self.chosen()
        self.views.set_window_level_by_drag(tool == "navigate")

    # Gestures

    def gesture(self, event: dict[str, Any]) -> None:
        """A finished gesture: {"tool", "view", "points": [[x, y], ...], "ctrl"}; x and y as in `Views.ras`."""
        tag, tool = str(event.get("view", "")), str(event.get("tool", ""))
        places = event.get("points") or []
        if tag not in self.views.slice_views() or not self.study.is_open or not 0 < len(places) <= MAX_POINTS:
            return
        points = [self.views.ras(tag, float(x), float(y)) for x, y in places]
        away = bool(event.get("ctrl"))
        self.view = tag
        match tool:
            case "navigate":
                self.views.jump(points[-1], keep=tag)
            case "positive" | "negative":
                self.spawn(self._click(tag, points[-1], (tool == "positive") != away))
            case "box":
                self.spawn(self._box(tag, points, away))
            case "scribble":
                curve = self.study.curve(points, closed=False) if len(points) > 1 else None
                if curve is None:
                    self.spawn(self._prompt(tag, lambda: self._logic.preparePoint(points[0], not away)))
                else:
                    self.spawn(self._prompt(tag, lambda: self._logic.prepareScribble(curve, not away)))
            case "lasso":
                curve = self.study.curve(points, closed=True)
                self.spawn(self._prompt(tag, lambda: self._logic.prepareLasso(curve, not away)))
            case "paint" | "erase":
                self.spawn(self._paint(tag, points, (tool == "paint") != away))

    @property
    def _logic(self) -> Any:
        return self.study.logic

    async def run(
        self,
        prepare: Callable[[], Any],
        tag: str | None = None,
        title: str = "Segmenting…",
        at: Point | None = None,
        asks: bool = True,
    ) -> Any:
        """One job of the logic, with the page told before and after; returns the update.

        Args:
            prepare: makes the job.
            tag: the view to repaint first.
            title: what the busy state says.
            at: where the prompt is, for work that was begun under the hand.
            asks: whether the engine has to answer; undoing a stroke of the brush needs none.

        Raises:
            FastSAM3DError: refused or cancelled, or there is no engine; nothing was changed.
        """
        try:
            with self.notes.waiting(title, can_cancel=True):
                session = await self.engine.ready() if asks else self.engine.session
                self._limit()
                update, timing = await self.runner.job(
                    prepare,
                    cancel=getattr(session, "cancel", None),
                    before_write=lambda: self.views.repaint_first(tag),
                    keep_quiet=at is not None and self.prefetch.is_near(at),
                )
        except Exception:
            with self.state:
                self.state.answers += 1
            raise
        has_handles = self.state.tool == "box" and self.boxes.prompt is not None
        with self.state:
            self.state.answers += 1
            self.notes.say(reply(self._logic, update.box, has_handles))
            self.state.click_split = (
                f"waiting {timing.wait:.0f} ms, engine {timing.engine:.0f} ms, writing {timing.write:.0f} ms"
            )
            self.state.server_ms = [round(timing.wait, 1), round(timing.engine, 1), round(timing.write, 1)]
        # Let the clicked view draw before lists, markers and files are brought up to date.
        await asyncio.sleep(DRAW_FIRST)
        self.changed(update.box)
        return update

    async def _prompt(self, tag: str | None, prepare: Callable[[], Any], title: str = "Segmenting…") -> None:
        await self.run(prepare, tag, title)

    async def _click(self, tag: str, ras: Point, positive: bool) -> None:
        await self.run(lambda: self._logic.preparePoint(ras, positive), tag, at=ras)
        # The other slices go to the click, so that the answer is seen from all sides.
        self.views.jump(ras, keep=tag)

    async def _box(self, tag: str, points: list[Point], flat: bool) -> None:
        """Three-dimensional, or of this slice only, where only this slice may change."""
        flat = flat or bool(self.state.slice_mode)
        middle = tuple((a + b) / 2 for a, b in zip(points[0], points[-1], strict=True))
        await self.run(
            lambda: self._logic.prepareBox(self.boxes.draw(tag, points[0], points[-1], flat=flat)), tag, at=middle
        )
        self.views.jump(self.boxes.centre() or middle, keep=tag)

    async def _paint(self, tag: str, points: list[Point], add: bool) -> None:
        """A hand edit goes straight into the segment; the engine hears of it before the next prompt."""
        try:
            async with self.runner.pause():
                self._limit()
                limit = SliceLimit.fromSliceNode(self.views.slice_node(tag), self.study.volume_node)
                self.views.repaint_first(tag)
                box = paint(self._logic, points, self.state.brush_mm / 2, limit, add)
            self.notes.say("")
        finally:
            with self.state:
                self.state.answers += 1
        self.changed(box)

    def _limit(self) -> None:
        """In slice-by-slice mode, only the slice that the person looks at may change."""
        self._review.on = bool(self.state.slice_mode)
        self._review.aim(self.views.slice_node(self.view))

    # Things that happen at once

    def undo(self) -> None:
        self.spawn(self.run(lambda: self._logic.prepareTurn(redo=False), None, "Undoing…", asks=False))

    def redo(self) -> None:
        self.spawn(self.run(lambda: self._logic.prepareTurn(redo=True), None, "Redoing…", asks=False))

    def reset(self) -> None:
        self._review.release()
        self.spawn(self._prompt(None, self._logic.prepareReset, "Starting again…"))

    def fill(self) -> None:
        """Slice mode: take what the model proposes for this slice."""
        self.spawn(self._prompt(self.view, self._logic.prepareFill))

    def accept(self) -> bool:
        """The slice in view is right: nothing changes it any more; a second time releases it.

        Returns:
            whether it is accepted now.

        Raises:
            PromptError: slice-by-slice mode is off.
        """
        self._limit()
        limit, active = self._logic.rules.limit, self._logic.active
        if limit is None or active is None:
            raise PromptError("Slice-by-slice mode is off; press M first.")
        before = acceptedSlices(active.segment)
        accepted = [plane for plane in before if plane != limit] if limit in before else [*before, limit]
        active.segment.SetTag(ACCEPTED_TAG, json.dumps([[*plane.plane, plane.halfThickness] for plane in accepted]))
        return len(accepted) > len(before)

    def cancel(self) -> None:
        self.runner.cancel()

    def threshold(self, value: float) -> None:
        """Follow the slider; values that come while one is being computed replace each other."""
        running = self._threshold_wanted is not None
        self._threshold_wanted = min(max(value, 0.05), 0.95)
        self.state.threshold = self._threshold_wanted
        if not running:
            self.spawn(self._follow_threshold())

    async def _follow_threshold(self) -> None:
        try:
            done = None
            while self._threshold_wanted != done:
                done = self._threshold_wanted
                prepare = partial(self._logic.prepareThreshold, done)
                await self._prompt(self.view, prepare, "Applying the threshold…")
        finally:
            self._threshold_wanted = None

    def hover(self, tag: str, x: float, y: float) -> None:
        """The hand is here with a prompt tool: prepare the engine for a click at this place."""
        if self.study.is_open and tag in self.views.slice_views():
            self.prefetch.aim(self.views.ras(tag, x, y))

    def adjust_box(self, tag: str, prompt_id: int, lower: Any, upper: Any) -> None:
        """A side or corner of the newest box was pulled; the segment is made again."""
        if tag in self.views.slice_views():
            self.view = tag
            boxes, logic = self.boxes, self._logic
            self.spawn(self._prompt(tag, lambda: logic.prepareReplace(prompt_id, boxes.roi(prompt_id, lower, upper))))

    def say_target(self) -> None:
        """Name what the next click acts on."""
        active = self._logic.active
        self.state.target = active.segment.GetName() if active is not None else ""
        history = self._logic.history
        self.state.can_undo = bool(history.undoSteps) or bool(self._logic.prompts)
        self.state.can_redo = bool(history.redoSteps)
        self.state.can_reset = bool(self._logic.prompts) or bool(history.undoSteps)
        if active is not None:
            self.state.threshold = active.log.threshold

    def check_open(self) -> None:
        if not self.study.is_open:
            raise PromptError("Open a scan first.")
