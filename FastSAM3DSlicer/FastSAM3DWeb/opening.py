"""Takes scans and segmentations in; asks first where work would be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from FastSAM3DCore.errors import ImageError

from .reading import Scan, ScanSource, read_scan

if TYPE_CHECKING:
    from .app import WebApp

__all__ = ["Opening"]


class Opening:
    """What replaces the scan, or its segments."""

    def __init__(self, app: WebApp) -> None:
        self.app = app
        self._tasks: set[asyncio.Task[None]] = set()

    def later(self, work: Coroutine[Any, Any, Any]) -> None:
        """Open something without making the page wait.

        Not one of the prompts' tasks: those are waited for by downloads, and this may wait for one.
        """
        task = asyncio.get_running_loop().create_task(self.app.notes.report(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def scan(self, source: ScanSource) -> bool:
        """Open a scan in place of the one there is.

        Returns:
            whether it was opened; the person may have kept the one before.

        Raises:
            ImageError: it cannot be used; the scan before stays.
        """
        app, study = self.app, self.app.study
        with app.notes.waiting("Opening the scan…"):
            scan = await asyncio.to_thread(read_scan, source)
        text = f"“{study.name}” and its segments leave this page and its autosave for good."
        if not await self._may_replace(f"Open “{scan.source.name}”?", text, "Open the scan"):
            return False
        with app.notes.waiting("Opening the scan…"):
            async with app.runner.pause():
                app.surfaces.clear()
                app.overlay.turn(False)
                study.open(scan)
        self._show(scan)
        return True

    async def segmentation(self, path: Path, name: str) -> bool:
        """Take over a file's segments in place of those there are.

        Returns:
            whether they were; the person may have kept those before.

        Raises:
            ImageError: there are none in it, they lie outside the scan, or no scan is open.
        """
        app = self.app
        if not app.study.is_open:
            raise ImageError("Open the scan first, then its segmentation.")
        text = "They replace the segments that are here, in the autosave too."
        if not await self._may_replace(f"Take over the segments of “{name}”?", text, "Replace the segments"):
            return False
        async with app.runner.pause():
            app.study.load_segmentation(path, name)
        with app.state:
            app.segments.set_opacity(app.state.opacity)
        app.refresh()
        return True

    async def _may_replace(self, title: str, text: str, yes: str) -> bool:
        """Whether nothing would be lost, or the person says so."""
        if not self.app.study.has_voxels():
            return True
        if await self.app.questions.ask(title, f"{text} Download the segments first if you still need them.", yes):
            return True
        with self.app.state:
            self.app.notes.say("Nothing was opened; your work is as it was.")
        return False

    def _show(self, scan: Scan) -> None:
        """Bring the page to a scan that was opened."""
        app, volume = self.app, scan.volume
        with app.state:
            i, j, k = volume.shape_ijk
            spacing = " × ".join(f"{s:.3g}" for s in volume.spacing_ijk)
            app.state.scan_name = scan.source.name
            app.state.scan_detail = f"{i} × {j} × {k}, {spacing} mm"
            app.state.overlay = app.state.slice_mode = False
            app.state.click_ms = 0
            app.display.show()
            app.segments.set_opacity(app.state.opacity)
            app.prompting.choose("positive")
            if scan.warnings:
                app.notes.say(" ".join(scan.warnings), "warning")
        app.refresh()
        app.prompting.prefetch.warm_up()
