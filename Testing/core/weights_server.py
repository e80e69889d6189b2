"""A real HTTP server that can drop, truncate, corrupt, redirect and forget how to resume; and a real proxy."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import requests


@dataclass
class Behaviour:
    """How the server answers one request.

    Attributes:
        status: 200 or 206 by the request's Range unless an error is wanted.
        drop_after: close the connection after so many bytes of the body.
        claim: Content-Length to state instead of the true one.
        corrupt: flip one byte of the body.
        ranges: whether Range is understood.
        if_range: whether If-Range is.
        shift: continue so many bytes too late.
        redirect: answer with a redirect to this path.
        html: answer with a login page.
        headers: further headers.
    """

    status: int = 200
    drop_after: int | None = None
    claim: int | None = None
    corrupt: bool = False
    ranges: bool = True
    if_range: bool = True
    shift: int = 0
    redirect: str | None = None
    html: bool = False
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class WeightsServer:
    """What is served, how the next requests are answered, and what was asked."""

    content: bytes
    behaviours: list[Behaviour] = field(default_factory=list)
    etag: str = '"version-1"'
    asked: list[dict[str, str]] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    base: str = ""

    def url(self, path: str = "/repo/FastSAM3D.pth") -> str:
        return self.base + path

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: WeightsServer

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        state = self.state
        state.asked.append({"path": self.path, **dict(self.headers.items())})
        behaviour = state.behaviours.pop(0) if state.behaviours else Behaviour()
        self.close_connection = True
        if behaviour.redirect is not None:
            self.answer(302, b"", {"Location": behaviour.redirect, **behaviour.headers})
        elif behaviour.status >= 400:
            self.answer(behaviour.status, b"no", behaviour.headers)
        elif behaviour.html:
            self.answer(200, b"<html>log in</html>", {"Content-Type": "text/html; charset=utf-8"})
        else:
            self.serve_file(behaviour)

    def serve_file(self, behaviour: Behaviour) -> None:
        state, headers = self.state, {"ETag": self.state.etag, **behaviour.headers}
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        current = not behaviour.if_range or self.headers.get("If-Range", state.etag) == state.etag
        start = int(wanted[1]) + behaviour.shift if wanted and current and behaviour.ranges else 0
        if start and start >= len(state.content):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(state.content)}"})
            return
        body = bytearray(state.content[start:])
        if behaviour.corrupt:
            body[len(body) // 2] ^= 0x55
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(state.content) - 1}/{len(state.content)}"
        self.answer(206 if start else 200, bytes(body), headers, behaviour)

    def answer(self, status: int, body: bytes, headers: dict[str, str], behaviour: Behaviour | None = None) -> None:
        behaviour = behaviour or Behaviour()
        self.state.answered.append(status)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        length = len(body) if behaviour.claim is None else behaviour.claim
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body[: min(length, len(body) if behaviour.drop_after is None else behaviour.drop_after)])


@contextmanager
def serving(content: bytes, *behaviours: Behaviour) -> Iterator[WeightsServer]:
    """Serve `content` on the loopback interface; each behaviour answers one request, then all goes well."""
    state = WeightsServer(content, list(behaviours))
    handler = type("BoundHandler", (Handler,), {"state": state})
    with running(handler) as base:
        state.base = base
        yield state


@contextmanager
def running(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def proxying(host: str, target: str, seen: list[str]) -> Iterator[str]:
    """A forward proxy that knows one host, which is really at `target`; notes the addresses it was asked for."""

    class Proxy(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Keep the test's output clean."""

        def do_GET(self) -> None:
            seen.append(self.path)
            parts = urlsplit(self.path)
            if parts.hostname != host:
                self.send_error(502)
                return
            with requests.Session() as session:
                session.trust_env = False
                reply = session.get(target + parts.path, timeout=10)
            self.send_response(reply.status_code)
            self.send_header("Content-Length", str(len(reply.content)))
            self.end_headers()
            self.wfile.write(reply.content)

    with running(Proxy) as base:
        yield base
