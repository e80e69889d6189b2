"""A real front with real worker processes, on a thread of the test's own process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from FastSAM3DWeb.config import FrontConfig, WorkerConfig
from FastSAM3DWeb.front.server import Front

__all__ = ["FAKE", "Running", "run_async", "running_front"]

T = TypeVar("T")

FAKE = "Testing.web.fake_engine:open_session"
START_SECONDS = 20


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on a thread of its own: an open browser keeps the main thread's event loop running."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


@dataclass
class Running:
    """A front that listens, and the loop it runs on."""

    front: Front
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return self.front.url

    def workers(self) -> list[int]:
        """Process ids of the live workers."""
        return [worker.pid for worker in self.front.pool.all() if worker.alive]


@contextmanager
def running_front(state_dir: Path, worker: WorkerConfig | None = None, **options: object) -> Iterator[Running]:
    """Start a front on a free port and end it, with its workers, afterwards."""
    config = replace(FrontConfig(port=0, state_dir=state_dir, idle_seconds=120), **options)
    template = worker or WorkerConfig(secret="", state_dir="", session=FAKE)
    loop = asyncio.new_event_loop()
    front = Front(config, template)
    thread = threading.Thread(target=loop.run_forever, name="front", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(front.start(), loop).result(START_SECONDS)
        yield Running(front, loop)
    finally:
        asyncio.run_coroutine_threadsafe(front.stop(), loop).result(START_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_SECONDS)
        loop.close()
