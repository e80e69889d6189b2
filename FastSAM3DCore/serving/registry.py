"""The server's sessions: how many, how large, how long idle, and whose turn it is."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..errors import CancelledError, RemoteError
from ..prompts import prompt_to_dict
from ..protocol import SegmentationSession

__all__ = ["Answer", "Lease", "Limits", "Registry", "SessionFactory"]

SessionFactory = Callable[[], SegmentationSession]
# More calls of one session than this do not wait: its client is broken, or means harm.
MAXIMUM_WAITING = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server gives away.

    Attributes:
        sessions: open at the same time.
        volume_bytes: voxels of one scan, unpacked.
        total_bytes: voxels of all scans, with those on their way.
        call_bytes: body of a call; a hand-edited mask of a 512x512x600 scan takes 2 MB.
        idle_seconds: a session that was not used for this long is closed.
        stalled_seconds: a request of which nothing came for this long is given up.
    """

    sessions: int = 8
    volume_bytes: int = 2 * 2**30
    total_bytes: int = 8 * 2**30
    call_bytes: int = 64 * 2**20
    idle_seconds: float = 1800.0
    stalled_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What was sent back for a call, kept so that a repeated call is not carried out twice."""

    number: int
    request: bytes
    status: int
    body: bytes


@dataclass(eq=False)
class Lease:
    """One client's session.

    Attributes:
        nbytes: memory of its scan.
        voxels: of its scan.
        answer: the last answer, for a client whose connection broke before it arrived.
    """

    id: str
    session: SegmentationSession
    nbytes: int = 0
    voxels: int = 0
    answer: Answer = field(default_factory=lambda: Answer(0, b"", 0, b""))
    used: float = field(default_factory=time.monotonic)
    waiting: int = 0
    running: bool = False
    cancelled: bool = False
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _keys: dict[int, tuple[Any, int]] = field(default_factory=dict)
    _next_key: int = 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One call of a session at a time; so no session has more than one place in the worker's queue."""
        if self.waiting >= MAXIMUM_WAITING:
            raise RemoteError("Too many calls of this session are waiting; send one at a time.")
        self.waiting += 1
        try:
            async with self._turn:
                self.used = time.monotonic()
                yield
        finally:
            self.waiting -= 1
            self.cancelled = self.cancelled and self.waiting > 0
            self.used = time.monotonic()

    def cancel(self) -> None:
        """Stop the call that runs, or that waits for the worker."""
        self.cancelled = self.waiting > 0
        stop = getattr(self.session, "cancel", None)
        if self.running and stop is not None:
            stop()

    def run(self, call: Callable[[], Any]) -> Any:
        """Carry out a call; on the worker."""
        if self.cancelled:
            self.cancelled = False
            raise CancelledError("Cancelled; nothing was changed.")
        self.running = True
        try:
            return call()
        finally:
            self.running = self.cancelled = False

    def state(self) -> dict[str, Any]:
        """What the client should know after a call; of the log, only prompts that the last answer did not hold."""
        known, self._keys, fresh = self._keys, {}, {}
        keys = []
        for prompt in self.session.prompts:
            entry = known.get(id(prompt))
            if entry is None:
                entry = (prompt, self._next_key)
                self._next_key += 1
                fresh[entry[1]] = prompt_to_dict(prompt)
            self._keys[id(prompt)] = entry
            keys.append(entry[1])
        return {
            "can_undo": self.session.can_undo,
            "can_redo": self.session.can_redo,
            "log": keys,
            "new": [[key, data] for key, data in fresh.items()],
        }


class Registry:
    """Hands out sessions; used on the event loop only.

    Args:
        factory: makes a session around the shared network; cheap.
        limits: see `Limits`.
    """

    def __init__(self, factory: SessionFactory, limits: Limits) -> None:
        self._factory, self._limits = factory, limits
        self.leases: dict[str, Lease] = {}
        self._arriving = 0

    def open(self) -> Lease:
        """A new session.

        Raises:
            RemoteError: the server is full.
        """
        if len(self.leases) >= self._limits.sessions:
            raise RemoteError(
                f"All {self._limits.sessions} sessions of this server are in use; try again later, or compute locally."
            )
        lease = Lease(secrets.token_urlsafe(24), self._factory())
        self.leases[lease.id] = lease
        return lease

    def get(self, lease_id: str) -> Lease | None:
        """A session by its id; None if it was closed or expired."""
        return self.leases.get(lease_id)

    def check_room(self, nbytes: int) -> None:
        """Refuse a scan for which there is no room beside those that are loaded and those on their way.

        Raises:
            RemoteError: all scans together would take too much memory.
        """
        held = sum(lease.nbytes for lease in self.leases.values()) + self._arriving
        if held + nbytes > self._limits.total_bytes:
            raise RemoteError(
                "The server's memory is full of scans; close one of yours, try again later, or compute locally."
            )

    @contextmanager
    def room(self, lease: Lease, nbytes: int, voxels: int) -> Iterator[None]:
        """Room for a scan on its way, beside the session's old one; the session's own if the block ends well.

        Raises:
            RemoteError: as `check_room`.
        """
        self.check_room(nbytes)
        self._arriving += nbytes  # not with the lease: a session that is closed meanwhile does not free it
        try:
            yield
            lease.nbytes, lease.voxels = nbytes, voxels
        finally:
            self._arriving -= nbytes

    def expire(self) -> list[Lease]:
        """Drop sessions that nobody used for long; returns them, to be closed on the worker."""
        limit = time.monotonic() - self._limits.idle_seconds
        old = [lease for lease in self.leases.values() if lease.used < limit and not lease.waiting]
        for lease in old:
            del self.leases[lease.id]
        return old

    def drop(self, lease: Lease) -> None:
        """Forget a session."""
        self.leases.pop(lease.id, None)
