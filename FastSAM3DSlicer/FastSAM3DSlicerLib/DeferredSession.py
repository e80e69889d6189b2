"""A session that is opened at its first use, on the worker: importing torch and loading weights takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from FastSAM3DCore.errors import FastSAM3DError
from FastSAM3DCore.protocol import SegmentationSession


def noEngine() -> SegmentationSession:
    """Before an engine was chosen."""
    raise FastSAM3DError("No engine is chosen yet; choose a model first.")


class DeferredSession:
    """Stands for a session until somebody asks something of it.

    Args:
        opener: makes the session; called once, on the thread of the first call.
    """

    def __init__(self, opener: Callable[[], SegmentationSession] = noEngine):
        self._opener = opener
        self._session: SegmentationSession | None = None
        self._noticesTaken = 0

    @property
    def isOpen(self) -> bool:
        return self._session is not None

    def open(self) -> SegmentationSession:
        """The real session."""
        if self._session is None:
            self._session = self._opener()
        return self._session

    def close(self) -> None:
        """Free the session, if it was ever opened."""
        if self._session is not None:
            self._session.close()

    def cancel(self) -> None:
        """Ask a session that can be interrupted to stop; any thread."""
        cancel = getattr(self._session, "cancel", None)
        if cancel is not None:
            cancel()

    def takeNotices(self) -> list[str]:
        """What the engine had to give up (a graphics card ran out of memory) and has not been told yet."""
        notices = getattr(getattr(self._session, "engine", None), "notices", [])[self._noticesTaken :]
        self._noticesTaken += len(notices)
        return notices

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.open(), name)
