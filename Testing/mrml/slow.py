"""A session that answers when it is told to, and waiting for a runner."""

from __future__ import annotations

import threading
import time

from FastSAM3DCore.errors import CancelledError
from Testing.core.fakes import FakeSession


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
