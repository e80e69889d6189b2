"""Puts one worker's parts together and carries out what concerns more than one of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from trame_server import Server
from trame_slicer import module as slicer_module
from trame_slicer.core import SlicerApp

from FastSAM3DCore.errors import FastSAM3DError
from FastSAM3DSlicerLib.PromptSync import PromptSync

from .autosave import Autosave, Saved, read_saved
from .config import WorkerConfig
from .display import Display
from .engine import Engine
from .events import connect
from .markers import quieten, show, shrink
from .notes import Notes
from .opening import Opening
from .overlay import UncertaintyOverlay
from .prompting import Prompting
from .questions import Questions
from .reading import ScanSource
from .routes import add_routes
from .runner import Runner
from .segments import SegmentList
from .shell import add_shell_routes
from .state import set_defaults
from .study import Study
from .surface import Surfaces
from .ui.page import build_page
from .uploads import Uploads
from .views import Views

__all__ = ["WebApp"]

log = logging.getLogger(__name__)


class WebApp:
    """One person's app: scene, engine, page."""

    def __init__(self, server: Server, config: WorkerConfig) -> None:
        self.server, self.config = server, config
        self.state = server.state
        server.enable_module(slicer_module)
        set_defaults(self.state, config.max_upload)
        self.slicer = SlicerApp()
        self.views = Views(server, self.slicer)
        self.notes = Notes(self.state)
        self.questions = Questions(self.state)
        self.runner = Runner()
        self.engine = Engine(config, self.runner)
        self.study = Study(self.slicer.scene, None)
        self.display = Display(self.state, self.study, self.views)
        self.segments = SegmentList(self.state, self.study)
        self.overlay = UncertaintyOverlay(self.study, self.views)
        self.surfaces = Surfaces(self.state, self.study, self.views)
        self.prompting = Prompting(self.state, self.study, self.views, self.runner, self.notes, self.engine)
        self.prompting.changed = lambda _: self.refresh()
        self.prompting.chosen = self._show_outlines
        self.display.moved = self.prompting.boxes.moved
        self.sync = PromptSync(self.study.logic, self._submit)
        folder = Path(config.state_dir)
        self.uploads = Uploads(folder / "uploads", config.max_upload)
        self.autosave = Autosave(folder, self.study, self._describe, self._saved)
        self.opening = Opening(self)
        self._starting: asyncio.Task[None] | None = None
        build_page(server, self.views)
        connect(self)

    def add_routes(self, app: web.Application) -> None:
        add_shell_routes(app)
        add_routes(app, self)

    # Start and end

    async def start(self) -> None:
        """Open the scan and load the model, in the background: the page is there at once."""
        self._starting = asyncio.create_task(self.notes.report(self._begin()))

    async def _begin(self) -> None:
        model = asyncio.create_task(self._load_model())
        try:
            await self._open_first()
        finally:
            await self.notes.report(model)  # only now: opening a scan clears the status line

    async def _load_model(self) -> None:
        try:
            with self.notes.waiting("Loading the model…"):
                session = await self.engine.load()
        except FastSAM3DError:
            with self.state:
                self.state.device = "No model"
            raise
        self.study.logic.setSession(session)
        self.prompting.prefetch.session = session
        self.prompting.prefetch.warm_up()
        device = getattr(getattr(session, "engine", None), "device", None)
        with self.state:
            self.state.ready = True
            self.state.device = str(device).upper() if device is not None else ""
            self.state.model_detail = f"Model: {Path(self.config.model).name}."

    async def _open_first(self) -> None:
        saved = read_saved(self.autosave.folder)
        if saved is not None:
            try:
                return await self._resume(saved)
            except FastSAM3DError as error:
                log.warning("the autosave cannot be opened: %s", error)
        config = self.config
        scan = Path(config.scan) if config.scan is not None else None
        await self.opening.scan(ScanSource(scan, frame=config.frame, series=config.series))
        if config.segmentation is not None and self.study.is_open:
            path = Path(config.segmentation)
            await self.opening.segmentation(path, path.name)
        return None

    async def _resume(self, saved: Saved) -> None:
        await self.opening.scan(saved.source)
        if self.autosave.segments_path.is_file():
            self.study.load_segmentation(self.autosave.segments_path, "the autosave")
        ids = self.study.segment_ids()
        if saved.active < len(ids):
            self.study.activate(ids[saved.active])
        with self.state:
            if len(saved.window) == 2:
                self.display.set_window_level(*saved.window)
            for tag, value in saved.slices.items():
                self.display.set_slice(tag, value)
            self.notes.say("Your work was restored.")
        self.refresh(save=False)

    async def stop(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
        self.prompting.cancel()
        if self.autosave.pending:
            self.autosave.now()
        self.runner.close()

    # After every change

    def refresh(self, save: bool = True) -> None:
        """Bring page, markers, overlay, surfaces and autosave up to date with the scene."""
        self.sync.mirror()
        quieten(self.sync.markups.shapes.values())
        shrink(node for node, _ in self.sync.markups.lists.values())
        self._show_outlines()
        self.prompting.prefetch.forget()
        if self.overlay.on:
            self.overlay.refresh()
        with self.state:
            self.prompting.boxes.refresh()
            self.segments.refresh()
            self.prompting.say_target()
        self.surfaces.later()
        if save:
            self.autosave.later()

    def _show_outlines(self) -> None:
        """The outline of the box that has handles would only double it."""
        box = self.prompting.boxes.prompt if self.state.tool == "box" else None
        for prompt_id, node in self.sync.markups.shapes.items():
            show(node, box is None or prompt_id != box.id)

    def _submit(self, prepare: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """A marker was dragged or deleted in a view."""

        async def run() -> None:
            update = None
            try:
                update = await self.prompting.run(prepare)
            finally:
                done(update)

        self.prompting.spawn(run())

    # Uncertainty

    async def _know_probability(self) -> None:
        """Have the engine's probability of the active segment in the logic, as of now."""
        logic = self.study.logic
        logic.wantProbability = True
        if logic.probability is None and logic.prompts:
            await self.prompting.run(logic.prepareProbe, None, "Looking for doubt…")

    async def toggle_overlay(self) -> None:
        """Show or hide the uncertainty."""
        on = not self.overlay.on
        if on:
            await self._know_probability()
        self.overlay.turn(on)
        with self.state:
            self.state.overlay = on
            if on and self.study.logic.probability is None:
                self.notes.say("Segment something first; then its uncertainty can be shown.", "warning")

    async def go_to_uncertain(self) -> None:
        """Bring the view in work to the slice that the model is least sure of."""
        await self._know_probability()
        tag = self.prompting.view
        axis = self.views.axis_across(tag, self.study.volume.ijk_to_ras)
        index = self.overlay.most_uncertain(axis)
        with self.state:
            if index is None:
                self.notes.say("Segment something first; then there is something to doubt.", "warning")
                return
            self.overlay.go_to(tag, axis, index)
            self.notes.say("This is the slice that the model is least sure of.")

    def _describe(self, saved: Saved) -> None:
        saved.window = [float(self.state.window_width), float(self.state.level)]
        saved.slices = {tag: view.get_slice_value() for tag, view in self.views.slice_views().items()}

    def _saved(self, text: str) -> None:
        with self.state:
            self.state.saved = text
