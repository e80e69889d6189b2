"""A real server on a real socket, in a thread of the test process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from FastSAM3DCore.cli.serve import listen
from FastSAM3DCore.serving.app import create_app
from FastSAM3DCore.serving.registry import Limits
from FastSAM3DCore.types import ModelIdentity
from Testing.core.fakes import FakeSession

IDENTITY = ModelIdentity("fake", "fa" * 32)


class Running:
    """What a test sees of the server."""

    def __init__(self, app: Any, url: str) -> None:
        self.app, self.url = app, url

    @property
    def leases(self) -> dict[str, Any]:
        """Its sessions, by id."""
        return self.app.state.registry.leases

    def only(self) -> Any:
        """Its one session's lease."""
        (lease,) = self.leases.values()
        return lease


@contextmanager
def running(
    factory: Callable[[], Any] = FakeSession, *, token: str = "", limits: Limits | None = None, port: int = 0
) -> Iterator[Running]:
    """Serve sessions of a factory on loopback until the block ends."""
    app = create_app(factory, IDENTITY, token=token, limits=limits)
    listener = listen("127.0.0.1", port)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield Running(app, f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        server.should_exit = True
        server.force_exit = False
        thread.join(10)
        assert not thread.is_alive(), "the server did not stop"
