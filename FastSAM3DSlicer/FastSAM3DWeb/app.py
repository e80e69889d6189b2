"""Puts one worker's parts together and carries out what concerns more than one of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from aiohttp import web
from trame_server import Server
from trame_slicer import module as slicer_module
from trame_slicer.core import SlicerApp

from FastSAM3DCore.errors import FastSAM3DError, ImageError
from FastSAM3DCore.io import load_volume
from FastSAM3DCore.types import Volume
from FastSAM3DSlicerLib.PromptSync import PromptSync

from .autosave import Autosave, Saved, read_saved
from .config import WorkerConfig
from .display import Display
from .events import connect
from .loading import default_name
from .markers import quieten, show, shrink
from .notes import Notes
from .overlay import UncertaintyOverlay
from .prompting import Prompting
from .routes import add_routes
from .runner import Runner
from .sample import load_sample
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
        self.runner = Runner()
        self.study = Study(self.slicer.scene, None)
        self.display = Display(self.state, self.study, self.views)
        self.segments = SegmentList(self.state, self.study)
        self.overlay = UncertaintyOverlay(self.study, self.views)
        self.surfaces = Surfaces(self.state, self.study, self.views)
        self.prompting = Prompting(self.state, self.study, self.views, self.runner, self.notes)
        self.prompting.changed = lambda _: self.refresh()
        self.prompting.chosen = self._show_outlines
        self.display.moved = self.prompting.boxes.moved
        self.sync = PromptSync(self.study.logic, self._submit)
        folder = Path(config.state_dir)
        self.uploads = Uploads(folder / "uploads", config.max_upload)
        self.autosave = Autosave(folder, self.study, self._describe, self._saved)
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
        model = asyncio.create_task(self.notes.report(self._load_model()))
        try:
            await self._open_first()
        finally:
            await model

    async def _load_model(self) -> None:
        busy = self.notes.busy("Loading the model…")
        module, function = self.config.session.split(":")

        def load() -> Any:
            return getattr(import_module(module), function)(self.config.model, self.config.device)

        try:
            session = await self.runner.call(load)
        finally:
            busy.end()
        self.study.logic.setSession(session)
        self.prompting.session = self.prompting.prefetch.session = session
        self.prompting.ready.set()
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
        if self.config.scan is None:
            await self.open_sample()
        else:
            await self.open_scan(Path(self.config.scan))
        if self.config.segmentation is not None and self.study.is_open:
            self.open_segmentation(Path(self.config.segmentation))
        return None

    async def _resume(self, saved: Saved) -> None:
        if saved.scan is None:
            await self.open_sample()
        else:
            await self.open_scan(Path(saved.scan), saved.name)
        if self.autosave.segments_path.is_file():
            self.study.load_segmentation(self.autosave.segments_path)
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

    # Opening

    async def open_sample(self) -> None:
        await self._open(load_sample, None)

    async def open_scan(self, path: Path, name: str | None = None) -> None:
        """Open a file or DICOM folder in place of the scan there is.

        Raises:
            ImageError: it cannot be used; the scan before stays.
        """
        await self._open(lambda: (load_volume(path), name or default_name(path)), str(path))

    async def _open(self, load: Callable[[], tuple[Volume, str]], source: str | None) -> None:
        busy = self.notes.busy("Opening the scan…")
        try:
            volume, name = await asyncio.to_thread(load)
            async with self.runner.pause():
                self.surfaces.clear()
                self.overlay.turn(False)
                self.study.open(volume, name, source)
        finally:
            busy.end()
        with self.state:
            i, j, k = volume.shape_ijk
            spacing = " × ".join(f"{s:.3g}" for s in volume.spacing_ijk)
            self.state.scan_name = name
            self.state.scan_detail = f"{i} × {j} × {k}, {spacing} mm"
            self.state.overlay = self.state.slice_mode = False
            self.state.click_ms = 0
            self.display.show()
            self.segments.set_opacity(self.state.opacity)
            self.prompting.choose("positive")
        self.refresh()
        self.prompting.prefetch.warm_up()

    def open_segmentation(self, path: Path) -> None:
        """Take over a file's segments.

        Raises:
            ImageError: there are none in it, or no scan is open.
        """
        if not self.study.is_open:
            raise ImageError("Open the scan first, then its segmentation.")
        if self.study.load_segmentation(path) == 0:
            raise ImageError(f"{path.name} holds no segments that can be read.")
        with self.state:
            self.segments.set_opacity(self.state.opacity)
        self.refresh()

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
