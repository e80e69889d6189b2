"""Keeps the work on disk while it is done, and brings it back after a reload or a crash."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .reading import ScanSource
from .study import Study

__all__ = ["Autosave", "Saved", "read_saved"]

log = logging.getLogger(__name__)

STATE_FILE = "state.json"
SEGMENTS_FILE = "segments.seg.nrrd"
FORMAT = "fastsam3d-web/1"
# Saved when nothing has changed for this long, but at the latest after the second number.
REST, AT_MOST = 1.2, 8.0


@dataclass(slots=True)
class Saved:
    """What `state.json` holds."""

    scan: str | None
    name: str
    active: int = 0
    window: list[float] = field(default_factory=list)
    slices: dict[str, float] = field(default_factory=dict)
    frame: int | None = None
    series: str | None = None
    format: str = FORMAT

    @property
    def source(self) -> ScanSource:
        """What to read again."""
        path = Path(self.scan) if self.scan is not None else None
        return ScanSource(path, self.name, self.frame, self.series)


def read_saved(folder: Path) -> Saved | None:
    """The last save of this folder; None if there is none that can be used."""
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        saved = Saved(**data)
    except (OSError, ValueError, TypeError) as error:
        log.warning("the autosave %s cannot be read: %s", path, error)
        return None
    if saved.format != FORMAT or (saved.scan is not None and not Path(saved.scan).exists()):
        return None
    return saved


class Autosave:
    """Writes the segments (with their prompt logs) and how they were looked at.

    Args:
        folder: private to this browser.
        describe: adds views and window to the saved state.
        told: called with a short text after each save.
    """

    def __init__(
        self, folder: Path, study: Study, describe: Callable[[Saved], None], told: Callable[[str], None]
    ) -> None:
        self.folder, self.study, self._describe, self._told = folder, study, describe, told
        self._timer: asyncio.TimerHandle | None = None
        self._since: float | None = None
        self._writing: asyncio.Task[None] | None = None

    @property
    def segments_path(self) -> Path:
        return self.folder / SEGMENTS_FILE

    def later(self) -> None:
        """Something changed."""
        loop = asyncio.get_running_loop()
        if self._since is None:
            self._since = loop.time()
        wait = min(REST, max(0.0, self._since + AT_MOST - loop.time()))
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(wait, self.now)

    @property
    def pending(self) -> bool:
        return self._since is not None

    def now(self) -> None:
        """Save at once. The segments are handed to MRML's own writer, only where they are: the page waits for it."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._since = None, None
        if not self.study.is_open:
            return
        source = self.study.source
        scan = str(source.path) if source.path is not None else None
        saved = Saved(scan, source.name, frame=source.frame, series=source.series)
        ids = self.study.segment_ids()
        saved.active = ids.index(self.study.active_id) if self.study.active_id in ids else 0
        self._describe(saved)
        try:
            self.study.write_segmentation(self.segments_path, quick=True)
            temporary = self.folder / f"{STATE_FILE}.new"
            temporary.write_text(json.dumps(asdict(saved)), encoding="utf-8")
            os.replace(temporary, self.folder / STATE_FILE)
            os.utime(self.folder)
        except OSError as error:
            log.error("autosave failed: %s", error)
            self._told(f"Not saved: {error.strerror or error}")
            return
        self._told("Saved")
