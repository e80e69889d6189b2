"""Passes requests and websockets on to a worker, unchanged."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web

from .workers import Worker

__all__ = ["SECRET_HEADER", "forward_http", "forward_websocket"]

SECRET_HEADER = "X-FastSAM3D-Worker"

# Headers that belong to one connection, not to the message (RFC 9110, section 7.6.1); the cookies carry the
# page's token and stay here.
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"}
    | {"transfer-encoding", "upgrade", "host", "cookie"}
)
CHUNK = 1 << 16


def _headers(request: web.Request, worker: Worker) -> dict[str, str]:
    kept = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
    kept[SECRET_HEADER] = worker.config.secret
    return kept


async def forward_http(request: web.Request, worker: Worker, client: aiohttp.ClientSession) -> web.StreamResponse:
    """Send the request to the worker and stream the answer back."""
    url = f"http://127.0.0.1:{worker.port}{request.rel_url}"
    body = request.content.iter_chunked(CHUNK) if request.can_read_body else None
    async with client.request(
        request.method, url, headers=_headers(request, worker), data=body, allow_redirects=False
    ) as answer:
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        for key, value in answer.headers.items():
            if key.lower() not in HOP_BY_HOP | {"content-encoding", "content-length"}:
                response.headers[key] = value
        await response.prepare(request)
        async for chunk in answer.content.iter_chunked(CHUNK):
            await response.write(chunk)
        await response.write_eof()
        return response


async def forward_websocket(
    request: web.Request, worker: Worker, client: aiohttp.ClientSession
) -> web.WebSocketResponse:
    """Join the page's websocket to the worker's until either side closes."""
    # No compression: the traffic is JPEG images, which deflate only delays.
    page = web.WebSocketResponse(max_msg_size=0, heartbeat=20.0, compress=False)
    await page.prepare(request)
    url = f"ws://127.0.0.1:{worker.port}/ws"
    worker.page_opened()
    try:
        async with client.ws_connect(
            url, headers={SECRET_HEADER: worker.config.secret}, max_msg_size=0, compress=0
        ) as inner:
            both = [asyncio.create_task(_pump(page, inner)), asyncio.create_task(_pump(inner, page))]
            _, pending = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
    except aiohttp.ClientError:
        await page.close(code=aiohttp.WSCloseCode.TRY_AGAIN_LATER, message=b"session ended")
    finally:
        worker.page_closed()
        await page.close()
    return page


async def _pump(source, target) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.BINARY:
            await target.send_bytes(message.data)
        elif message.type is aiohttp.WSMsgType.TEXT:
            await target.send_str(message.data)
        else:
            return
