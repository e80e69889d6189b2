"""fastsam3d serve: sessions for front ends on other machines."""

from __future__ import annotations

import ipaddress
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import RemoteError
from .feedback import show_messages, working

__all__ = ["serve"]

MINIMUM_TOKEN = 16
# Embeddings of one session; a laptop has 512 MB for its only one.
CACHE_BYTES = 256 * 2**20


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 1527,
    token_file: Annotated[Path | None, typer.Option(help="File with the key that clients must send.")] = None,
    model: Annotated[str, typer.Option(help="Model name or weights file.")] = "default",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    max_sessions: Annotated[int, typer.Option(min=1, help="Sessions at the same time.")] = 8,
    max_volume_mb: Annotated[int, typer.Option(min=1, help="Largest scan, unpacked.")] = 2048,
    max_total_mb: Annotated[int, typer.Option(min=1, help="All scans together, with those on their way.")] = 8192,
    idle_minutes: Annotated[float, typer.Option(min=0.1, help="Close sessions unused for this long.")] = 30.0,
    ssl_certfile: Annotated[Path | None, typer.Option(help="Certificate, for https.")] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
) -> None:
    """Serve sessions to other machines over HTTP. Scans stay in memory and are never written to disk."""
    token = read_token(token_file)
    if not token and not is_loopback(host):
        raise RemoteError(f"Listening on {host} needs a key: put one into a file and name it with --token-file.")
    for path in (ssl_certfile, ssl_keyfile):
        if path is not None and not path.is_file():
            raise RemoteError(f"There is no file {path}; give certificate and key in PEM format.")
    if ssl_keyfile and not ssl_certfile:
        raise RemoteError("A key alone makes no https; name its certificate with --ssl-certfile.")
    import fastapi  # noqa: F401 - missing, it is named before the model is loaded
    import uvicorn

    with show_messages(), listen(host, port) as listener:
        with working("Loading the model"):
            app, what = _application(model, device, token, max_sessions, max_volume_mb, max_total_mb, idle_minutes)
        config = uvicorn.Config(app, log_level="warning", ssl_certfile=ssl_certfile, ssl_keyfile=ssl_keyfile)
        _load(config)
        scheme = "https" if ssl_certfile else "http"
        shown = f"[{host}]" if ":" in host else host
        typer.echo(f"{what} at {scheme}://{shown}:{listener.getsockname()[1]}{', key needed' if token else ''}")
        with suppress(KeyboardInterrupt):  # how a server is stopped; it has closed its sessions by now
            uvicorn.Server(config).run(sockets=[listener])


def _application(
    model: str, device: str, token: str, sessions: int, volume_mb: int, total_mb: int, idle_minutes: float
) -> tuple[Any, str]:
    from ..devices import choose_device
    from ..engine import Engine
    from ..serving.app import create_app
    from ..serving.registry import Limits
    from ..session import LocalSession
    from ..weights import load_model
    from ..weights.identity import identify

    chosen = choose_device(device)
    network, identity = load_model(model, str(chosen.device)), identify(model)

    def session() -> LocalSession:
        return LocalSession(Engine(network, chosen.device, cache_bytes=CACHE_BYTES), model=identity)

    limits = Limits(sessions, volume_mb * 10**6, total_mb * 10**6, idle_seconds=idle_minutes * 60)
    return create_app(session, identity, token=token, limits=limits), f"{identity} on {chosen.description}"


def _load(config: Any) -> None:
    """Prepare what is served, its certificate included, before anybody is told where.

    Raises:
        RemoteError: the certificate or its key cannot be used.
    """
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or error
        raise RemoteError(
            f"The certificate {config.ssl_certfile} cannot be used ({reason}); give it and the key that belongs to it "
            "in PEM format."
        ) from error


def read_token(path: Path | None) -> str:
    """The key in a file, without the white space around it; empty for no file.

    Raises:
        RemoteError: unreadable, too short to withstand guessing, or with characters that no header can carry.
    """
    if path is None:
        return ""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise RemoteError(f"The key file {path} cannot be read ({reason}).") from error
    if len(token) < MINIMUM_TOKEN or not token.isascii() or any(ch.isspace() for ch in token):
        raise RemoteError(
            f"The key in {path} must be one word of at least {MINIMUM_TOKEN} letters and digits; make one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe(24))'"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        RemoteError: the address is not this machine's, or the port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With the protocol named, asyncio turns off Nagle's algorithm on it: 5 instead of 48 ms per small answer.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise _cannot_listen(host, port, error) from error
    try:
        if sys.platform != "win32":  # there it would let two programs share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise _cannot_listen(host, port, error) from error
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> RemoteError:
    reason = error.strerror or error
    return RemoteError(f"Cannot listen on {host}:{port} ({reason}); choose another --port or --host.")
