"""Who may come in: token, host and origin checks. Pure functions, no I/O."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

__all__ = ["MIN_TOKEN_LENGTH", "is_loopback", "same_host", "token_matches"]

# Short enough to type, long enough (96 bits in hex, 48 in the worst ASCII case) to withstand guessing
# at the one attempt per half second that the front allows.
MIN_TOKEN_LENGTH = 12

LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})


def is_loopback(host: str) -> bool:
    """Whether an address or name reaches this machine only."""
    name = host.strip("[]").lower()
    if name in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_name(netloc: str) -> str:
    """The name in a Host header, without port."""
    return (urlsplit(f"//{netloc}").hostname or "").lower()


def same_host(host_header: str, origin: str | None, *, loopback_only: bool) -> bool:
    """Whether a request comes from our own page.

    Args:
        host_header: the Host header. On loopback it must itself be a loopback name: a foreign name that
            resolves to 127.0.0.1 is DNS rebinding.
        origin: the Origin header; browsers send it with websockets and uploads. None: not from a page.
    """
    try:
        host = host_name(host_header)
        if not host or (loopback_only and not is_loopback(host)):
            return False
        return origin is None or urlsplit(origin).netloc.lower() == host_header.lower()
    except ValueError:
        return False


def token_matches(expected: str, given: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(expected.encode(), given.encode())
