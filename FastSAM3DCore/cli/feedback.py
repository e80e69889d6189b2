"""What a person sees while a command works: progress on a terminal, log messages as plain lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["progress", "show_messages", "working"]


def _console() -> Console:
    return Console(stderr=True)  # made on use: standard error may have been redirected since the import


class _Lines(logging.Handler):
    """Log records as `fastsam3d: warning: ...` lines."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = "note" if record.levelno < logging.WARNING else record.levelname.lower()
        _console().print(f"fastsam3d: {kind}: {record.getMessage()}", highlight=False, markup=False, soft_wrap=True)


@contextmanager
def show_messages() -> Iterator[None]:
    """Show the library's warnings to the user while a command runs."""
    logger = logging.getLogger("FastSAM3DCore")
    handler = _Lines(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner with a line of text on a terminal; nothing elsewhere."""
    console = _console()
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress bar on a terminal; silent elsewhere. Add tasks to what it yields."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = _console()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar
