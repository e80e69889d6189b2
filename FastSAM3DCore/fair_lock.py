"""A lock that serves waiting threads in the order they came, so that sessions share a device fairly.

`threading.Lock` makes no such promise: a thread that calls in a loop can take it again and again while others wait.
"""

from __future__ import annotations

import threading
from collections import deque
from functools import lru_cache
from types import TracebackType

__all__ = ["FairLock", "device_lock"]


class FairLock:
    """First come, first served; used with `with`, not reentrant."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held = False
        self._waiting: deque[threading.Lock] = deque()

    @property
    def waiting(self) -> int:
        """How many threads wait for the lock now."""
        return len(self._waiting)

    def __enter__(self) -> None:
        with self._guard:
            if not self._held:
                self._held = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()  # released by the thread that hands the lock on

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False


@lru_cache(maxsize=64)
def device_lock(name: str) -> FairLock:
    """The lock of everyone in this process who computes on a device, by its name ("cuda:0")."""
    return FairLock()
