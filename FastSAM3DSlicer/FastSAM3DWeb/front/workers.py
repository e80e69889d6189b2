"""Worker processes: start, wait until ready, watch, end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import sys
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

from ..config import WorkerConfig

__all__ = ["Worker", "WorkerPool"]

log = logging.getLogger(__name__)

START_TIMEOUT = 120.0
END_TIMEOUT = 5.0


class Worker:
    """One process with one scene. Ends by itself when this side closes its standard input."""

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self.port = 0
        self.error = ""
        self.pages = 0
        self.left_at = time.monotonic()
        self._process: asyncio.subprocess.Process | None = None
        self._tail: deque[str] = deque(maxlen=30)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        return self.port > 0 and self.alive

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def failed(self) -> bool:
        return bool(self.error) or (self._process is not None and self._process.returncode is not None)

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def idle_for(self) -> float:
        """Seconds without an open page."""
        return 0.0 if self.pages else time.monotonic() - self.left_at

    def page_opened(self) -> None:
        self.pages += 1

    def page_closed(self) -> None:
        self.pages -= 1
        self.left_at = time.monotonic()

    async def start(self) -> None:
        """Start the process; returns at once, `ready` turns true when it listens."""
        env = dict(os.environ)
        paths = [str(Path(__file__).parents[2]), *sys.path]
        env["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(p for p in paths if p))
        # Rendering needs no display: EGL works with a GPU and, through Mesa, without one.
        if sys.platform.startswith("linux"):
            env.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
        # torch's threads share the cores with the browser and the renderer: waiting by spinning starves both.
        # On two busy cores a first click took 44 s with spinning, 9 s without.
        env.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "FastSAM3DWeb.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
        )
        self._process.stdin.write(self.config.to_json().encode() + b"\n")
        await self._process.stdin.drain()
        self._tasks = [asyncio.create_task(self._read_output()), asyncio.create_task(self._read_errors())]

    async def _read_output(self) -> None:
        async for raw in self._process.stdout:
            line = raw.decode(errors="replace").strip()
            if line.startswith("{") and '"port"' in line:
                with contextlib.suppress(ValueError, KeyError):
                    self.port = int(json.loads(line)["port"])
                    self.left_at = time.monotonic()
                    log.info("worker %d listens", self.pid)
        code = await self._process.wait()
        if not self.error and code:
            last = self._tail[-1] if self._tail else "no message"
            self.error = f"The session's process ended unexpectedly (code {code}): {last}"
            log.error("worker %d ended with %d:\n%s", self.pid, code, "\n".join(self._tail))

    async def _read_errors(self) -> None:
        async for raw in self._process.stderr:
            line = raw.decode(errors="replace").rstrip()
            self._tail.append(line)
            log.debug("worker %d: %s", self.pid, line)

    async def end(self) -> None:
        """Ask it to save and leave; kill it if it does not."""
        if self._process is None:
            return
        if self.alive:
            self._process.stdin.close()
            try:
                await asyncio.wait_for(self._process.wait(), END_TIMEOUT)
            except TimeoutError:
                log.warning("worker %d did not leave in %g s; ending it", self.pid, END_TIMEOUT)
                self._process.kill()
                await self._process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class WorkerPool:
    """The workers by session id."""

    def __init__(self, template: WorkerConfig, state_dir: Path, max_sessions: int, idle_seconds: float) -> None:
        self._template = template
        self._state_dir = state_dir
        self._max = max_sessions
        self._idle_seconds = idle_seconds
        self._workers: dict[str, Worker] = {}
        self._lock = asyncio.Lock()

    def get(self, session: str) -> Worker | None:
        return self._workers.get(session)

    def all(self) -> list[Worker]:
        return list(self._workers.values())

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def is_full(self) -> bool:
        return len(self._workers) >= self._max

    async def obtain(self, session: str) -> Worker | None:
        """The session's worker, started if need be; None when all places are taken."""
        async with self._lock:
            worker = self._workers.get(session)
            if worker is not None and not worker.failed:
                return worker
            if worker is not None:
                await self._drop(session)
            if self.is_full and not await self._end_longest_idle():
                return None
            folder = self._state_dir / session
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            worker = Worker(replace(self._template, secret=secrets.token_urlsafe(24), state_dir=str(folder)))
            self._workers[session] = worker
            await worker.start()
            return worker

    async def _end_longest_idle(self) -> bool:
        """Make room by ending a worker that no page looks at."""
        idle = [(w.idle_for(), s) for s, w in self._workers.items() if not w.pages and w.ready]
        if not idle:
            return False
        await self._drop(max(idle)[1])
        return True

    async def _drop(self, session: str) -> None:
        worker = self._workers.pop(session, None)
        if worker is not None:
            await worker.end()

    async def watch(self) -> None:
        """End workers whose page is gone for too long. Runs until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._idle_seconds / 2))
            for session, worker in list(self._workers.items()):
                if worker.ready and worker.idle_for() > self._idle_seconds:
                    log.info("worker %d: no page for %g s, ending it", worker.pid, self._idle_seconds)
                    await self._drop(session)

    async def end_all(self) -> None:
        workers, self._workers = list(self._workers.values()), {}
        await asyncio.gather(*(worker.end() for worker in workers))
