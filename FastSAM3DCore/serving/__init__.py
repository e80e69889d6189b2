"""Sessions over HTTP: a server that many front ends share, and the client that speaks the session protocol.

The client (`RemoteSession`) needs numpy and requests only; the server needs the extra `[server]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .remote import RemoteSession

__all__ = ["RemoteSession"]


def __getattr__(name: str) -> Any:
    if name != "RemoteSession":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .remote import RemoteSession

    return RemoteSession
