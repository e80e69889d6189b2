"""What the page tells the person: messages and the busy state."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

from FastSAM3DCore.errors import CancelledError, FastSAM3DError

__all__ = ["Busy", "Notes"]

log = logging.getLogger(__name__)

# Anything quicker needs no wait text; it would only flicker.
BUSY_AFTER = 0.35


class Busy:
    """One reason to wait; shown only if it lasts."""

    def __init__(self, notes: Notes, text: str, can_cancel: bool) -> None:
        self._notes, self.text, self.can_cancel = notes, text, can_cancel
        self._timer = asyncio.get_running_loop().call_later(BUSY_AFTER, notes.show_busy, self)

    def end(self) -> None:
        self._timer.cancel()
        self._notes.hide_busy(self)


class Notes:
    """Writes the status line."""

    def __init__(self, state: Any) -> None:
        self._state = state
        self._shown: list[Busy] = []

    def say(self, text: str, kind: str = "info") -> None:
        """Show one line; an empty one gives way to the tool's hint."""
        self._state.status = text
        self._state.status_kind = kind

    def busy(self, text: str, can_cancel: bool = False) -> Busy:
        return Busy(self, text, can_cancel)

    @contextmanager
    def waiting(self, text: str, can_cancel: bool = False) -> Iterator[None]:
        """Be busy for as long as the block takes."""
        busy = self.busy(text, can_cancel)
        try:
            yield
        finally:
            busy.end()

    def show_busy(self, busy: Busy) -> None:
        self._shown.append(busy)
        self._update()

    def hide_busy(self, busy: Busy) -> None:
        if busy in self._shown:
            self._shown.remove(busy)
            self._update()

    def _update(self) -> None:
        with self._state:
            last = self._shown[-1] if self._shown else None
            self._state.busy = last.text if last else ""
            self._state.can_cancel = bool(last and last.can_cancel)

    async def report(self, work: Awaitable[Any]) -> None:
        """Await work; what it raises becomes a message."""
        try:
            await work
        except CancelledError as error:
            with self._state:
                self.say(str(error))
        except FastSAM3DError as error:
            with self._state:
                self.say(str(error), "warning")
        except Exception as error:
            log.error("unexpected failure", exc_info=error)
            with self._state:
                self.say(f"That did not work ({type(error).__name__}: {error}). Nothing was changed.", "error")
