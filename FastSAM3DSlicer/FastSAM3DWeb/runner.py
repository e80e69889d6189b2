"""Runs the engine's part of a prompt on one persistent thread, so that the page stays live.

The scene is touched only on the event loop's thread: a job is prepared there, its call runs on the worker
thread, and its answer is written there again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

from FastSAM3DCore.errors import CancelledError

__all__ = ["Runner", "Timing"]

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class Timing:
    """Milliseconds of one job: waiting for its turn, engine, writing into the scene."""

    wait: float
    engine: float
    write: float

    @property
    def total(self) -> float:
        return self.wait + self.engine + self.write


class Runner:
    """One job at a time, in the order they came; quiet work only when nothing else is to do."""

    def __init__(self) -> None:
        # One thread for good: CUDA contexts and torch's thread pool belong to it.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._turn = asyncio.Lock()
        self._cancel: Callable[[], None] | None = None
        self._generation = 0
        self._waiting = 0
        self._quiet: asyncio.Future[Any] | None = None
        self._hush: Callable[[], None] | None = None

    @property
    def has_jobs(self) -> bool:
        """Whether a job runs or waits."""
        return self._turn.locked() or self._waiting > 0

    @property
    def is_idle(self) -> bool:
        return not self.has_jobs and self._quiet is None

    async def call(self, function: Callable[[], T]) -> T:
        """Run a function on the engine's thread, after what is already there."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    async def job(
        self,
        prepare: Callable[[], Any],
        *,
        cancel: Callable[[], None] | None = None,
        before_write: Callable[[], None] | None = None,
        keep_quiet: bool = False,
    ) -> tuple[Any, Timing]:
        """Prepare, run and apply one job.

        Args:
            prepare: makes the job, called on this thread when its turn has come.
            cancel: tells the engine to stop early; without it, the answer of a cancelled job is dropped.
            before_write: called on this thread right before the scene changes.
            keep_quiet: the quiet work that may be running is of use to this job; otherwise it is told to stop.

        Raises:
            CancelledError: `cancel` was called; nothing was changed.
            FastSAM3DError: what preparing, running or applying raised.
        """
        start = perf_counter()
        self._waiting += 1
        generation = self._generation
        if not keep_quiet:
            self.hush()
        try:
            async with self._turn:
                if generation != self._generation:
                    raise CancelledError("Cancelled; nothing was changed.")
                job = prepare()
                begun = perf_counter()
                self._cancel = cancel
                try:
                    answer = await self.call(lambda: self._unless_cancelled(generation, job))
                finally:
                    self._cancel = None
                answered = perf_counter()
                if generation != self._generation:
                    job.drop()
                    raise CancelledError("Cancelled; nothing was changed.")
                if before_write is not None:
                    before_write()
                update = job.apply(answer)
                written = perf_counter()
        finally:
            self._waiting -= 1
        timing = Timing((begun - start) * 1e3, (answered - begun) * 1e3, (written - answered) * 1e3)
        return update, timing

    def _unless_cancelled(self, generation: int, job: Any) -> Any:
        """On the engine's thread: a job that was cancelled while quiet work held it up does not begin."""
        if generation != self._generation:
            raise CancelledError("Cancelled; nothing was changed.")
        return job.call()

    @asynccontextmanager
    async def pause(self) -> AsyncIterator[None]:
        """Wait for the running job and hold back the next one while the scene is changed by hand."""
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1

    def cancel(self) -> None:
        """Stop the running job as soon as it can and forget those that wait."""
        self._generation += 1
        if self._cancel is not None:
            self._cancel()

    def quietly(
        self,
        function: Callable[[], Any],
        cancel: Callable[[], None] | None = None,
        then: Callable[[bool], None] | None = None,
    ) -> bool:
        """Run something useful if the engine has nothing else to do; returns whether it was taken.

        Args:
            cancel: tells the engine to stop early.
            then: called on this thread when it ended, with whether it was completed.
        """
        if not self.is_idle:
            return False
        self._quiet = asyncio.get_running_loop().run_in_executor(self._executor, function)
        self._hush = cancel

        def ended(future: asyncio.Future[Any]) -> None:
            self._quiet = self._hush = None
            completed = _completed(future)
            if then is not None:
                then(completed)

        self._quiet.add_done_callback(ended)
        return True

    def hush(self) -> None:
        """Tell quiet work, if any runs, to stop early."""
        if self._hush is not None and not self._turn.locked():
            self._hush()

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


def _completed(future: asyncio.Future[Any]) -> bool:
    if future.cancelled():
        return False
    error = future.exception()
    if error is not None and not isinstance(error, CancelledError):
        log.info("background work was given up: %s", error)
    return error is None
