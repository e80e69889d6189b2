"""What the page asks for: the names it triggers and where they lead."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from FastSAM3DCore.errors import FastSAM3DError

from .reading import ScanSource
from .tools import TOOLS

if TYPE_CHECKING:
    from .app import WebApp

__all__ = ["connect"]

BRUSH = (1.0, 40.0)
POLICIES = {"overwrite": "overwrite", "keep": "keep", "allow": "overlap"}


def connect(app: WebApp) -> None:
    """Register every trigger of the page."""
    page = Page(app)
    for name in (
        "tool", "action", "gesture", "hover", "slice", "layout", "segment", "opacity", "overlap", "threshold",
        "brush", "box", "preset", "window_level", "crosshair", "centre_3d", "open_sample", "answer", "complain",
        "timings",
    ):  # fmt: skip
        app.server.controller.trigger(name)(page.guarded(getattr(page, name)))


class Page:
    """One method per trigger; arguments come from the browser and are checked where they are used."""

    def __init__(self, app: WebApp) -> None:
        self.app = app

    def guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Turn the project's errors into the status line."""

        def call(*arguments: Any) -> Any:
            try:
                with self.app.state:
                    return method(*arguments)
            except FastSAM3DError as error:
                with self.app.state:
                    self.app.notes.say(str(error), "warning")
            return None

        return call

    def tool(self, name: str) -> None:
        if name in {tool.name for tool in TOOLS} and self.app.study.is_open:
            self.app.prompting.choose(name)

    def gesture(self, event: dict[str, Any]) -> None:
        self.app.prompting.gesture(event)

    def hover(self, tag: str, x: float, y: float) -> None:
        self.app.prompting.hover(tag, float(x), float(y))

    def slice(self, tag: str, value: float) -> None:
        self.app.display.set_slice(tag, value)

    def layout(self, tag: str) -> None:
        self.app.display.toggle_layout(tag)

    def segment(self, what: str, segment_id: str, value: Any = None) -> None:
        said = self.app.segments.change(what, segment_id, value)
        self.app.refresh()
        if said:
            self.app.notes.say(said)

    def opacity(self, value: float) -> None:
        self.app.segments.set_opacity(value)

    def overlap(self, policy: str) -> None:
        if policy in POLICIES:
            self.app.study.logic.rules.policy = POLICIES[policy]
            self.app.state.overlap = policy

    def threshold(self, value: float) -> None:
        self.app.prompting.check_open()
        self.app.prompting.threshold(float(value))

    def brush(self, millimetres: float) -> None:
        self.app.state.brush_mm = min(max(float(millimetres), BRUSH[0]), BRUSH[1])

    def box(self, tag: str, prompt_id: int, lower: Any, upper: Any) -> None:
        self.app.prompting.check_open()
        self.app.prompting.adjust_box(str(tag), int(prompt_id), lower, upper)

    def preset(self, name: str) -> None:
        self.app.display.preset(name)

    def window_level(self, window: float, level: float) -> None:
        self.app.display.set_window_level(float(window), float(level))

    def crosshair(self, visible: bool) -> None:
        self.app.display.set_crosshair(visible)

    def centre_3d(self) -> None:
        self.app.surfaces.centre()

    def open_sample(self) -> None:
        self.app.opening.later(self.app.opening.scan(ScanSource()))

    def answer(self, yes: bool) -> None:
        self.app.questions.answer(bool(yes))

    def complain(self, text: str) -> None:
        self.app.notes.say(str(text)[:400], "warning")

    def timings(self, tag: str) -> dict[str, Any]:
        """Milliseconds of the last answer's parts and of the engine's last call, for the benchmark."""
        wait, engine, write = self.app.state.server_ms
        draw, encode = self.app.views.picture_ms(tag)
        inner = getattr(getattr(self.app.engine.session, "engine", None), "seconds", {})
        return {
            "parts": {
                "wait": wait,
                "engine": engine,
                "write": write,
                "draw": round(draw, 1),
                "encode": round(encode, 1),
            },
            "engine": {name: round(seconds * 1e3, 1) for name, seconds in inner.items()},
            "idle": self.app.runner.is_idle,
        }

    # Actions: buttons and keys without a value

    def action(self, name: str) -> None:
        method = getattr(self, f"do_{name}", None)
        if method is not None:
            method()

    def do_undo(self) -> None:
        self.app.prompting.check_open()
        self.app.prompting.undo()

    def do_redo(self) -> None:
        self.app.prompting.check_open()
        self.app.prompting.redo()

    def do_reset(self) -> None:
        self.app.prompting.check_open()
        self.app.prompting.reset()

    def do_cancel(self) -> None:
        self.app.prompting.cancel()

    def do_next_segment(self) -> None:
        self.app.prompting.check_open()
        self.app.study.add_segment()
        self.app.refresh()
        self.app.notes.say(f"{self.app.state.target} is ready: click inside the next structure.")

    def do_visibility(self) -> None:
        self.app.segments.toggle_active()
        self.app.refresh()

    def do_fit(self) -> None:
        self.app.views.fit()
        self.app.display.refresh_slices()

    def do_overlay(self) -> None:
        self.app.prompting.spawn(self.app.toggle_overlay())

    def do_uncertain(self) -> None:
        self.app.prompting.check_open()
        self.app.prompting.spawn(self.app.go_to_uncertain())

    def do_slice_mode(self) -> None:
        self.app.prompting.check_open()
        on = not self.app.state.slice_mode
        self.app.state.slice_mode = on
        self.app.notes.say("Only the slice you work in changes now. ↑ and ↓ step through the slices." if on else "")

    def do_slice_next(self) -> None:
        self.app.views.step(self.app.prompting.view, 1)

    def do_slice_previous(self) -> None:
        self.app.views.step(self.app.prompting.view, -1)

    def do_fill(self) -> None:
        self.app.prompting.check_open()
        self.app.prompting.fill()

    def do_accept(self) -> None:
        self.app.prompting.check_open()
        self.app.autosave.later()
        if self.app.prompting.accept():
            self.app.prompting.spawn(self.app.go_to_uncertain())
        else:
            self.app.notes.say("This slice may change again.")

    def do_sign(self) -> None:
        """Between adding and removing: the click tools, or the two brushes."""
        other = {"positive": "negative", "negative": "positive", "paint": "erase", "erase": "paint"}
        self.tool(other.get(self.app.state.tool, "positive"))

    def do_brush_larger(self) -> None:
        self.brush(self.app.state.brush_mm * 1.25)

    def do_brush_smaller(self) -> None:
        self.brush(self.app.state.brush_mm / 1.25)
