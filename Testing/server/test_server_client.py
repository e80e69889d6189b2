"""The client on its own: what it needs, and wrong addresses."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from FastSAM3DCore.errors import RemoteError
from FastSAM3DCore.protocol import SegmentationSession
from FastSAM3DCore.serving import RemoteSession, connection
from Testing.server.running import running

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def somebody_else(status, headers=(), body=b"<html>hello</html>"):
    """Another program at the address; counts who comes."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append(dict(self.headers))
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()


def test_the_client_loads_neither_torch_nor_the_servers_packages():
    code = (
        "import sys; from FastSAM3DCore.serving import RemoteSession\n"
        "heavy = {'torch', 'fastapi', 'uvicorn', 'starlette', 'pydantic', 'SimpleITK', 'safetensors'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_it_speaks_the_protocol_and_names_the_servers_model():
    with running() as server:
        session = RemoteSession(server.url + "/ ")
        assert isinstance(session, SegmentationSession)
        assert str(session.model) == "fake (fafafafa)"


@pytest.mark.parametrize("url", ["", "gpu-server", "gpu-server:1527", "ftp://gpu-server", "http://", "http:///x"])
def test_what_is_no_address_is_refused_with_an_example(url):
    with pytest.raises(RemoteError, match="looks like http://"):
        RemoteSession(url)


def test_a_key_that_no_header_can_carry_is_refused_before_it_is_sent():
    for token in ("schlüssel", "two words", "line\nbreak"):
        with pytest.raises(RemoteError, match="copy it again"):
            RemoteSession("http://127.0.0.1:9", token)


def test_nobody_there_is_said_once_and_clearly(monkeypatch):
    monkeypatch.setattr(connection, "PAUSE_SECONDS", 0.0)
    with pytest.raises(RemoteError, match="whether the server runs"):
        RemoteSession("http://127.0.0.1:9")


def test_another_program_at_the_address_is_noticed():
    for status in (200, 201):
        with somebody_else(status) as (url, _), pytest.raises(RemoteError, match="not a FastSAM3D server"):
            RemoteSession(url)
    with somebody_else(200, body=b"{}") as (url, _), pytest.raises(RemoteError, match="not a FastSAM3D server"):
        RemoteSession(url)
    with somebody_else(404) as (url, _), pytest.raises(RemoteError, match="status 404"):
        RemoteSession(url)


def test_the_key_is_not_carried_along_to_another_address():
    with somebody_else(200) as (elsewhere, seen), somebody_else(307, [("Location", elsewhere)]) as (url, first):
        with pytest.raises(RemoteError, match="status 307"):
            RemoteSession(url, "a-long-enough-key")
        assert first[0]["Authorization"] == "Bearer a-long-enough-key"
        assert seen == []


def test_a_server_that_does_not_answer_is_given_up_on():
    class Silent(BaseHTTPRequestHandler):
        def do_POST(self):
            threading.Event().wait(1.0)

        def log_message(self, *_):
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(RemoteError, match="did not answer in time"):
            RemoteSession(f"http://127.0.0.1:{server.server_port}", timeout=0.2)
        server.shutdown()


def test_a_key_over_plain_http_to_another_machine_is_warned_of(caplog):
    connection.Connection("http://gpu-server.example:1527", "a-long-enough-key", 1.0)
    assert "unencrypted" in caplog.text
    caplog.clear()
    connection.Connection("https://gpu-server.example", "a-long-enough-key", 1.0)
    connection.Connection("http://127.0.0.1:1527", "a-long-enough-key", 1.0)
    assert caplog.text == ""
