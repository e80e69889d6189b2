"""One browser's process: `python -m FastSAM3DWeb.worker`, started by the front.

Reads its settings as one line of JSON from standard input, prints `{"port": N}` when it listens, and ends
when standard input closes: so it never outlives the front, however that ends.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable

from .config import WorkerConfig

__all__ = ["main"]

log = logging.getLogger("FastSAM3DWeb")


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    config = WorkerConfig.from_json(sys.stdin.readline())
    # JPEG frames don't get smaller by deflate, only later.
    os.environ["WSLINK_WS_COMPRESS"] = "0"
    parent = Parent()
    asyncio.run(_serve(config, parent))
    # Native libraries (VTK, torch) may hang in their destructors; everything is saved by now.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


async def _serve(config: WorkerConfig, parent: Parent) -> None:
    from trame.app import get_server

    from .app import WebApp

    server = get_server("fastsam3d", client_type="vue3")
    app = WebApp(server, config)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    parent.call_when_gone(lambda: loop.call_soon_threadsafe(stopped.set))
    if sys.platform != "win32":
        loop.add_signal_handler(signal.SIGTERM, stopped.set)
        # Ctrl-C in a terminal reaches the whole process group; the front ends us in order.
        loop.add_signal_handler(signal.SIGINT, lambda: None)

    @server.controller.add("on_server_bind")
    def add_routes(wslink_server) -> None:
        _demand_secret(wslink_server.app, config.secret)
        app.add_routes(wslink_server.app)

    @server.controller.add("on_server_ready")
    def announce(**_) -> None:
        print(json.dumps({"port": server.port}), flush=True)  # noqa: T201  (the protocol with the front)

    serving = server.start(
        port=0,
        host="127.0.0.1",
        exec_mode="coroutine",
        open_browser=False,
        show_connection_info=False,
        timeout=0,
        thread=True,  # no signal handlers of its own
        disable_logging=True,
    )
    task = asyncio.create_task(serving)
    await app.start()
    waiter = asyncio.create_task(stopped.wait())
    await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
    await app.stop()


class Parent:
    """Notices that the front has closed our standard input, or is gone."""

    def __init__(self) -> None:
        # Before there is anything to save, leave at once.
        self._then: Callable[[], None] = lambda: os._exit(0)
        threading.Thread(target=self._wait, name="stdin", daemon=True).start()

    def call_when_gone(self, then: Callable[[], None]) -> None:
        self._then = then

    def _wait(self) -> None:
        while sys.stdin.readline():
            continue
        self._then()


def _demand_secret(aiohttp_app, secret: str) -> None:
    """Refuse whoever is not the front: other users of this machine can reach loopback ports too."""
    from aiohttp import web

    from .front.proxy import SECRET_HEADER

    @web.middleware
    async def check(request: web.Request, handler) -> web.StreamResponse:
        if not hmac.compare_digest(request.headers.get(SECRET_HEADER, ""), secret):
            return web.Response(status=403, text="Refused.\n")
        return await handler(request)

    aiohttp_app.middlewares.append(check)


if __name__ == "__main__":
    main()
