"""Reads scans for the page: what the reader warns of is kept, and its advice is put into the page's terms."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from FastSAM3DCore.errors import ImageError
from FastSAM3DCore.io import load_volume
from FastSAM3DCore.types import Volume

from .loading import default_name
from .sample import load_sample

__all__ = ["Scan", "ScanSource", "read_scan"]

# The core speaks to somebody at a command line; a page has no options to choose with.
ADVICE = (
    (
        re.compile(r"choose (?:one with )?--frame (\d+) to (\d+)"),
        r"upload one of them as a file of its own, or start 'fastsam3d web' with --frame \1 to \2",
    ),
    (
        re.compile(r"Choose with --series\."),
        "To open another, upload only its files, or start 'fastsam3d web' with --series.",
    ),
)


@dataclass(frozen=True, slots=True)
class ScanSource:
    """What it takes to read a scan, now and after a restart.

    Attributes:
        path: file or DICOM folder; None for the sample.
        name: what the page calls it; empty for a name after the path.
        frame, series: as in `load_volume`.
    """

    path: Path | None = None
    name: str = ""
    frame: int | None = None
    series: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """A scan that was read.

    Attributes:
        source: with its name filled in.
        warnings: what the person should know about the reading.
    """

    volume: Volume
    source: ScanSource
    warnings: tuple[str, ...] = ()


def read_scan(source: ScanSource) -> Scan:
    """Read a scan. Runs on any thread.

    Raises:
        ImageError: it cannot be used, or there is no sample.
    """
    path = source.path
    if path is None:
        volume, name = load_sample()
        return Scan(volume, replace(source, name=name))
    name = source.name or default_name(path)
    try:
        with _warnings() as heard:
            volume = load_volume(path, frame=source.frame, series=source.series)
    except ImageError as error:
        raise ImageError(_for_page(str(error), path)) from error
    return Scan(volume, replace(source, name=name), tuple(_for_page(text, path) for text in heard))


def _for_page(text: str, path: Path) -> str:
    """A message of the core in the page's terms; where the server keeps the file is nobody's business."""
    text = text.replace(str(path), path.name)
    for pattern, advice in ADVICE:
        text = pattern.sub(advice, text)
    return text


class _Listener(logging.Handler):
    """Collects the warnings of the thread that it was made on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.heard.append(record.getMessage())


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What the core warns of meanwhile, on this thread."""
    logger, listener = logging.getLogger("FastSAM3DCore"), _Listener()
    logger.addHandler(listener)
    try:
        yield listener.heard
    finally:
        logger.removeHandler(listener)
