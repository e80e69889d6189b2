"""One worker thread for the engine; prompts wait their turn, the scene is only touched by `pump`.

A front end calls `pump` from a timer of its own (Qt, asyncio), in Slicer after `wait`. A new thread per prompt would
cost more than a second with CUDA; this one lives as long as the runner.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as waitFor
from dataclasses import dataclass
from typing import Any

from FastSAM3DCore.errors import CancelledError, FastSAM3DError
from FastSAM3DCore.types import MaskUpdate

from .Job import Job

logger = logging.getLogger(__name__)

# A user who clicks faster than the engine answers is heard; one who leans on a key is not.
MAXIMUM_WAITING = 20
BUSY_TEXT_AFTER_S = 1.0


@dataclass(eq=False)
class Request:
    """A prompt that waits: prepared from the scene as it is when its turn comes."""

    prepare: Callable[[], Job]
    done: Callable[[MaskUpdate | None], None]


class SessionRunner:
    """Runs jobs one after the other.

    Args:
        onError: called on the main thread with an error and the request it belongs to.

    Attributes:
        cancelRunning: asks the engine to stop early (any thread); the answer is dropped either way.
    """

    def __init__(self, onError: Callable[[BaseException, Request], None]):
        self._onError = onError
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="FastSAM3D")
        self._waiting: deque[Request] = deque()
        self._idle: Request | None = None
        self._running: tuple[Request, Job, Future[Any]] | None = None
        self._afterwards: Future[Any] | None = None
        self._started = 0.0
        self._cancelled = False
        self.cancelRunning: Callable[[], None] = lambda: None

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits."""
        return self._running is not None or bool(self._waiting) or self._idle is not None

    @property
    def working(self) -> bool:
        """Whether the worker has something to do; other than `busy`, that includes what runs `afterwards`."""
        return self._task is not None and not self._task.done()

    @property
    def busyText(self) -> str:
        """What to show beside a progress bar; empty during the first second."""
        if self._running is None or self._cancelled:
            return ""
        seconds = time.monotonic() - self._started
        if seconds < BUSY_TEXT_AFTER_S:
            return ""
        waiting = f", {len(self._waiting)} waiting" if self._waiting else ""
        return f"{self._running[1].title}: {seconds:.0f} s{waiting}"

    def submit(self, prepare: Callable[[], Job], done: Callable[[MaskUpdate | None], None]) -> None:
        """Add a prompt to the queue; `done` gets its update, or None if it was refused or cancelled.

        Raises:
            FastSAM3DError: too many are waiting; this one was not taken.
        """
        if len(self._waiting) >= MAXIMUM_WAITING:
            raise FastSAM3DError("Still working on earlier prompts; wait a moment, or press Cancel.")
        self._waiting.append(Request(prepare, done))
        self.pump()

    def whenIdle(self, prepare: Callable[[], Job], done: Callable[[MaskUpdate | None], None]) -> None:
        """Run something as soon as no prompt waits; takes the place of an earlier one that has not started."""
        replaced, self._idle = self._idle, Request(prepare, done)
        if replaced is not None:
            replaced.done(None)

    def again(self, request: Request) -> None:
        """Put a request back at the front of the queue."""
        self._waiting.appendleft(request)

    def afterwards(self, call: Callable[[], None]) -> None:
        """Run something on the worker when its current call has ended."""
        self._afterwards = self._executor.submit(call)

    def cancel(self) -> None:
        """Forget what waits, and the answer of what runs."""
        waiting, self._waiting = list(self._waiting), deque()
        if self._idle is not None:
            waiting.append(self._idle)
            self._idle = None
        for request in waiting:
            request.done(None)
        if self._running is not None and not self._cancelled:
            self._cancelled = True
            self.cancelRunning()

    def wait(self, seconds: float) -> None:
        """Let the worker run for so long, or until it is done; returns at once if it has nothing to do.

        Slicer's main thread keeps Python's lock while it idles in Qt's event loop: other threads run only while a
        Python function waits for something. Without this, every small step of the engine takes one timer tick.
        """
        if self._task is not None:
            waitFor([self._task], seconds)

    def pump(self) -> bool:
        """Apply what is ready and start what waits; main thread only.

        Returns:
            Whether it has to be called again.
        """
        if self._running is not None and self._running[2].done():
            request, job, future = self._running
            self._running = None
            self._finish(request, job, future)
        while self._running is None and self._waiting:
            self._start(self._waiting.popleft())
        if self._running is None and self._idle is not None:
            request, self._idle = self._idle, None
            self._start(request)
        return self.busy

    def close(self) -> None:
        """Stop; waits for the engine's current call, which is told to stop."""
        self.cancel()
        self._executor.shutdown(wait=True, cancel_futures=True)
        if self._running is not None:
            self._running[1].drop()
            self._running = None

    @property
    def _task(self) -> Future[Any] | None:
        """What the worker is at: the running job, or what follows the last one."""
        return self._running[2] if self._running is not None else self._afterwards

    def _start(self, request: Request) -> None:
        try:
            job = request.prepare()
        except FastSAM3DError as error:
            self._fail(error, request)
            return
        self._started, self._cancelled = time.monotonic(), False
        self._running = (request, job, self._executor.submit(job.call))

    def _finish(self, request: Request, job: Job, future: Future[Any]) -> None:
        error = future.exception()
        if self._cancelled:
            if error is None:
                job.drop()
            request.done(None)
        elif error is not None:
            self._fail(error, request)
        else:
            try:
                update = job.applied(future.result())
            except FastSAM3DError as refused:
                self._fail(refused, request)
                return
            request.done(update)

    def _fail(self, error: BaseException, request: Request) -> None:
        if not isinstance(error, FastSAM3DError | CancelledError):
            logger.error("Unexpected error in the engine", exc_info=error)
        self._onError(error, request)
