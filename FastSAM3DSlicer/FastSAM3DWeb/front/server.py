"""The front's routes: token page, start page, launcher, and everything else to the browser's own worker."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
import shutil
import time
from pathlib import Path

import aiohttp
from aiohttp import web

from ..config import FrontConfig, WorkerConfig
from .guard import is_loopback, same_host, token_matches
from .pages import asset, busy_page, starting_page, token_page
from .proxy import forward_http, forward_websocket
from .workers import Worker, WorkerPool

__all__ = ["Front"]

log = logging.getLogger(__name__)

SESSION_NAME = re.compile(r"[0-9a-f]{32}")
COOKIE_DAYS = 30
# Slows guessing down to two tries a second.
REFUSAL_DELAY = 0.5
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": with it, browsers send forms with "Origin: null", which is refused as foreign.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Front:
    """Owns the port, the cookies and the pool of workers."""

    def __init__(self, config: FrontConfig, worker: WorkerConfig) -> None:
        self.config = config
        self._loopback = is_loopback(config.host)
        self._work = work_id(worker)
        self.pool = WorkerPool(worker, config.state_dir, config.max_sessions, config.idle_seconds)
        self.port = config.port
        self._client: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or not ours.
        """
        self.config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        await asyncio.to_thread(delete_old_work, self.config.state_dir, self.config.keep_days)
        self._client = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10), auto_decompress=True
        )
        app = web.Application(middlewares=[self._secure, self._check], client_max_size=0)
        app.router.add_get("/", self._page)
        app.router.add_post("/f3d/token", self._take_token)
        app.router.add_get("/f3d/ready", self._ready)
        app.router.add_post("/f3d/session", self._launch)
        app.router.add_get("/f3d/front/{name}", self._asset)
        app.router.add_get("/ws", self._websocket)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.config.host, self.config.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        self._watcher = asyncio.create_task(self.pool.watch())

    async def stop(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        await self.pool.end_all()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._client is not None:
            await self._client.close()

    # Cookies carry the port: cookies of one host are shared by all its ports.
    @property
    def _token_cookie(self) -> str:
        return f"f3d_token_{self.port}"

    @property
    def _session_cookie(self) -> str:
        return f"f3d_session_{self.port}"

    @web.middleware
    async def _secure(self, request: web.Request, handler) -> web.StreamResponse:
        """Security headers on everything the front answers itself."""
        response = await handler(request)
        if not response.prepared:
            response.headers.update(SECURITY_HEADERS)
        return response

    @web.middleware
    async def _check(self, request: web.Request, handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if not same_host(request.headers.get("Host", ""), origin, loopback_only=self._loopback):
            await asyncio.sleep(REFUSAL_DELAY)
            return web.Response(status=403, text="Refused: this request does not come from the app's own page.\n")
        public = request.path == "/f3d/token" or request.path.startswith("/f3d/front/")
        if self.config.token and not public:
            given = request.query.get("token")
            if given is not None and token_matches(self.config.token, given):
                answer = web.HTTPFound(request.rel_url.with_query({}).path)
                self._set_cookie(request, answer, self._token_cookie, self.config.token)
                raise answer
            if not token_matches(self.config.token, request.cookies.get(self._token_cookie, "")):
                await asyncio.sleep(REFUSAL_DELAY)
                if request.path == "/":
                    return token_page(wrong=given is not None, status=401)
                return web.Response(status=401, text="A token is needed; open the page first.\n")
        return await handler(request)

    def _set_cookie(self, request: web.Request, response: web.StreamResponse, name: str, value: str) -> None:
        response.set_cookie(
            name, value, max_age=COOKIE_DAYS * 86400, httponly=True, samesite="Strict", secure=request.secure
        )

    async def _take_token(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        if not token_matches(self.config.token, str(form.get("token", ""))):
            await asyncio.sleep(REFUSAL_DELAY)
            return token_page(wrong=True, status=401)
        answer = web.HTTPSeeOther("/")
        self._set_cookie(request, answer, self._token_cookie, self.config.token)
        raise answer

    def _session_of(self, request: web.Request) -> str | None:
        name = request.cookies.get(self._session_cookie, "")
        return f"{name}-{self._work}" if SESSION_NAME.fullmatch(name) else None

    async def _page(self, request: web.Request) -> web.StreamResponse:
        session = self._session_of(request)
        fresh = None
        if session is None:
            fresh = secrets.token_hex(16)
            session = f"{fresh}-{self._work}"
        worker = await self.pool.obtain(session)
        if worker is None:
            response = busy_page(self.config.max_sessions)
        elif worker.ready:
            return await forward_http(request.clone(rel_url="/index.html"), worker, self._client)
        else:
            response = starting_page()
        if fresh:
            self._set_cookie(request, response, self._session_cookie, fresh)
        return response

    async def _ready(self, request: web.Request) -> web.Response:
        session = self._session_of(request)
        worker = self.pool.get(session) if session else None
        if worker is None:
            return web.json_response({"ready": False, "error": "This session is gone; reload the page."})
        return web.json_response({"ready": worker.ready, "error": worker.error})

    async def _launch(self, request: web.Request) -> web.Response:
        """Trame's launcher protocol: the page asks here which websocket is its own."""
        worker = self._own(request)
        if worker is None:
            return web.json_response({"error": "This session is gone; reload the page."}, status=410)
        scheme = "wss" if request.secure or request.headers.get("X-Forwarded-Proto") == "https" else "ws"
        return web.json_response({"sessionURL": f"{scheme}://USE_HOST/ws", "secret": "wslink-secret"})

    def _own(self, request: web.Request) -> Worker | None:
        session = self._session_of(request)
        worker = self.pool.get(session) if session else None
        return worker if worker is not None and worker.ready else None

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        return asset(request.match_info["name"])

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        worker = self._own(request)
        if worker is None:
            return web.Response(status=410, text="This session is gone; reload the page.\n")
        return await forward_websocket(request, worker, self._client)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        worker = self._own(request)
        if worker is None:
            return web.Response(status=410, text="This session is gone; reload the page.\n")
        try:
            return await forward_http(request, worker, self._client)
        except aiohttp.ClientConnectionError:
            return web.Response(status=502, text="The session's process does not answer; reload the page.\n")


def work_id(worker: WorkerConfig) -> str:
    """Another scan on the command line, or another volume of it, is another piece of work: with its own autosave."""
    what = [worker.scan, worker.segmentation]
    if worker.frame is not None or worker.series is not None:
        what += [worker.frame, worker.series]
    return hashlib.sha256("|".join(map(str, what)).encode()).hexdigest()[:12]


def delete_old_work(folder: Path, keep_days: float) -> int:
    """Delete autosaves that nobody touched for `keep_days`; returns how many."""
    oldest = time.time() - keep_days * 86400
    deleted = 0
    for entry in folder.iterdir():
        if re.fullmatch(r"[0-9a-f]{32}-[0-9a-f]{12}", entry.name) and entry.stat().st_mtime < oldest:
            shutil.rmtree(entry, ignore_errors=True)
            deleted += 1
    return deleted
