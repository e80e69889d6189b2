"""The HTTP server: who may come in, what is taken from the network, and one worker that runs the network.

    GET    /health                        is it alive; says nothing else
    POST   /v1/sessions                   a session: {"id", "model"}
    POST   /v1/sessions/ID/volume         would this scan be taken; see `uploads`
    PUT    /v1/sessions/ID/volume         the scan, streamed
    POST   /v1/sessions/ID/calls          one call; see `wire` and `messages`
    POST   /v1/sessions/ID/cancel         stop the call that runs or waits
    DELETE /v1/sessions/ID                end the session

Computations run one after the other on one thread, never on the event loop: health checks, uploads and cancels of
the others go on meanwhile. A session has at most one call in that queue, so the sessions take turns.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from ..errors import FastSAM3DError, ImageError, RemoteError
from ..types import ModelIdentity
from .messages import LOST, call_from, error_fields, pack_update
from .registry import Answer, Lease, Limits, Registry, SessionFactory
from .uploads import GEOMETRY_HEADER, VolumeUpload
from .wire import pack, unpack

__all__ = ["create_app"]

logger = logging.getLogger(__name__)

FRAME = "application/octet-stream"


def create_app(
    factory: SessionFactory, model: ModelIdentity, *, token: str = "", limits: Limits | None = None
) -> FastAPI:
    """The application.

    Args:
        factory: makes a session around the shared network; cheap, called once per client.
        model: which weights the sessions answer with.
        token: what clients must know; empty: anybody who can connect may come in.
        limits: see `Limits`.
    """
    service = _Service(factory, model, limits or Limits())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        janitor = asyncio.create_task(service.clean_up())
        yield
        janitor.cancel()
        await service.close()

    app = FastAPI(title="FastSAM3D", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.registry = service.registry

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        if "origin" in request.headers:  # a page in somebody's browser; our client sends none
            return _refusal(403, "Web pages may not use this server.")
        if request.url.path != "/health" and not _admitted(request, token):
            return _refusal(401, "The server asks for a key, and this one is not right; ask whoever runs it.")
        return await go_on(request)

    @app.exception_handler(FastSAM3DError)
    async def on_error(_: Request, error: Exception) -> Response:
        status = error.http_status if isinstance(error, FastSAM3DError) else 500
        return JSONResponse(error_fields(error), status)  # type: ignore[arg-type]

    @app.exception_handler(Exception)  # starlette logs it as well, with its traceback
    async def on_bug(_: Request, __: Exception) -> Response:
        return _refusal(500, "Something unexpected went wrong on the server; its log says what. Try another prompt.")

    _add_routes(app, service)
    return app


def _add_routes(app: FastAPI, service: _Service) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/sessions", status_code=201)
    async def open_session() -> dict[str, Any]:
        lease = await service.open()
        return {"id": lease.id, "model": {"name": service.model.name, "sha256": service.model.sha256}}

    @app.post("/v1/sessions/{lease_id}/volume")
    async def announce_volume(lease_id: str, request: Request) -> Response:
        lease = service.registry.get(lease_id)
        if lease is None:
            return _lost()
        service.registry.check_room(service.announced(request).nbytes)
        return Response(status_code=204)

    @app.put("/v1/sessions/{lease_id}/volume")
    async def put_volume(lease_id: str, request: Request) -> Response:
        lease = service.registry.get(lease_id)
        return _lost() if lease is None else await service.take_volume(lease, request)

    @app.post("/v1/sessions/{lease_id}/calls")
    async def call(lease_id: str, request: Request) -> Response:
        lease = service.registry.get(lease_id)
        return _lost() if lease is None else await service.call(lease, request)

    @app.post("/v1/sessions/{lease_id}/cancel", status_code=204)
    async def cancel(lease_id: str) -> None:
        lease = service.registry.get(lease_id)
        if lease is not None:
            lease.cancel()

    @app.delete("/v1/sessions/{lease_id}", status_code=204)
    async def close(lease_id: str) -> None:
        lease = service.registry.get(lease_id)
        if lease is not None:
            service.registry.drop(lease)
            await service.on_worker(lease.session.close)


def _admitted(request: Request, token: str) -> bool:
    given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    return not token or hmac.compare_digest(given.encode(), token.encode())


def _refusal(status: int, message: str) -> Response:
    return JSONResponse(error_fields(RemoteError(message)), status)


def _lost() -> Response:
    return _refusal(LOST, "The session is gone; it was idle for too long, or the server was started again.")


class _Service:
    """What the routes do."""

    def __init__(self, factory: SessionFactory, model: ModelIdentity, limits: Limits) -> None:
        self.model, self._limits = model, limits
        self.registry = Registry(factory, limits)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="FastSAM3D")

    async def on_worker(self, call: Callable[[], Any]) -> Any:
        """Run something on the one thread that uses the network."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, call)

    async def open(self) -> Lease:
        await self._close_idle()
        return self.registry.open()

    def announced(self, request: Request) -> VolumeUpload:
        """The scan that a request describes; refuses one that is too large or unusable."""
        return VolumeUpload(request.headers.get(GEOMETRY_HEADER, ""), self._limits.volume_bytes)

    async def take_volume(self, lease: Lease, request: Request) -> Response:
        """A scan for a session; the session forgets what it had, unless the scan is refused."""
        async with lease.turn():
            upload = self.announced(request)
            with self.registry.room(lease, upload.nbytes, upload.voxels):
                async for piece in self._pieces(request):
                    await run_in_threadpool(upload.feed, piece)
                volume = upload.volume()

                def start() -> dict[str, Any]:
                    lease.session.set_image(volume)
                    return lease.state()

                state = await self.on_worker(lambda: lease.run(start))
            return Response(pack({"state": state}), media_type=FRAME)

    async def call(self, lease: Lease, request: Request) -> Response:
        """One call; a repeated one gets the answer of the first time."""
        body = await self._body(request)
        digest = hashlib.sha256(body).digest()
        async with lease.turn():
            message = await run_in_threadpool(unpack, body, maximum_voxels=lease.voxels)
            number, call = call_from(message)
            last = lease.answer
            if number == last.number and digest == last.request:
                return Response(last.body, last.status, media_type=FRAME if last.status == 200 else "application/json")
            if number <= last.number:
                raise RemoteError("The calls of this session are out of step; open it again.")
            status, content = await self._answer(lease, call)
            lease.answer = Answer(number, digest, status, content)
            return Response(content, status, media_type=FRAME if status == 200 else "application/json")

    async def _answer(self, lease: Lease, call: Callable[[Any], Any]) -> tuple[int, bytes]:
        def run() -> tuple[Any, dict[str, Any]]:
            result = call(lease.session)
            return result, lease.state()

        try:
            result, state = await self.on_worker(lambda: lease.run(run))
        except FastSAM3DError as error:
            return error.http_status, bytes(JSONResponse(error_fields(error)).body)
        return 200, await run_in_threadpool(pack_update, result, state)

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for piece in self._pieces(request):
            body += piece
            if len(body) > self._limits.call_bytes:
                raise ImageError(f"The call takes more than {self._limits.call_bytes / 1e6:.0f} MB; it was not read.")
        return bytes(body)

    async def _pieces(self, request: Request) -> AsyncIterator[bytes]:
        """A request's body as it comes in.

        Raises:
            RemoteError: nothing came for too long.
        """
        stream, patience = request.stream(), self._limits.stalled_seconds
        while True:
            try:
                async with asyncio.timeout(patience):
                    piece = await anext(stream, None)
            except TimeoutError as error:
                raise RemoteError(f"Nothing came for {patience:g} s; check the network and send it again.") from error
            if piece is None:
                return
            yield piece

    async def clean_up(self) -> None:
        """Close idle sessions, for as long as the server runs."""
        while True:
            await asyncio.sleep(min(30.0, self._limits.idle_seconds))
            await self._close_idle()

    async def _close_idle(self) -> None:
        for lease in self.registry.expire():
            logger.info("Session closed after %.0f s without a call.", self._limits.idle_seconds)
            await self.on_worker(lease.session.close)

    async def close(self) -> None:
        """Stop what runs and free all sessions."""
        for lease in list(self.registry.leases.values()):
            lease.cancel()
            self.registry.drop(lease)
            await self.on_worker(lease.session.close)
        self._worker.shutdown()
