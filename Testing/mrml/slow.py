"""A session that answers when it is told to, waiting for a runner, and an event loop that starves it."""

from __future__ import annotations

import ctypes
import os
import threading
import time

import pytest

from FastSAM3DCore.errors import CancelledError
from Testing.core.fakes import FakeSession

SMALL_STEPS = 60
NEEDS_USLEEP = pytest.mark.skipif(os.name == "nt", reason="needs usleep of the C library")


class SlowSession(FakeSession):
    """Answers when told to; remembers the thread; can be cancelled like the real one."""

    def __init__(self, **options):
        super().__init__(**options)
        self.gate = threading.Event()
        self.gate.set()
        self.threads = set()
        self.failure = None
        self._cancelled = False

    def add_point(self, point_ijk, positive=True):
        self.threads.add(threading.current_thread().name)
        self.gate.wait(10)
        if self._cancelled:
            self._cancelled = False
            raise CancelledError("The prompt was cancelled; nothing was changed.")
        if self.failure is not None:
            raise self.failure
        return super().add_point(point_ijk, positive)

    def cancel(self):
        self._cancelled = True
        self.gate.set()


def pumpUntil(condition, runner, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the runner did not get there"
        runner.pump()
        time.sleep(0.002)


def finish(controller):
    pumpUntil(lambda: not controller.runner.busy, controller.runner)


def smallSteps() -> None:
    """Work that gives Python's lock back for a moment again and again, as every operation of the engine does."""
    for _ in range(SMALL_STEPS):
        time.sleep(0)


def idle() -> None:
    """What Slicer's main thread does between two ticks of a 20 ms timer: wait in C++, with Python's lock held."""
    ctypes.PyDLL(None).usleep(20_000)  # time.sleep and ctypes.CDLL give the lock back


def ticksOf(runner, tick) -> int:
    """How many ticks of such a timer it takes until the worker is done."""
    ticks = 0
    while runner.busy or runner.working:
        idle()
        tick()
        ticks += 1
        assert ticks < 5 * SMALL_STEPS, "the worker does not get on"
    return ticks
