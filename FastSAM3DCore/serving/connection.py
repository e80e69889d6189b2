"""HTTP as the client uses it: one place that sends, repeats what may be repeated, and turns every failure into ours."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from ..errors import RemoteError
from .messages import LOST, error_from

__all__ = ["Connection", "SessionLostError"]

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
PAUSE_SECONDS = 0.3
LOOPBACK = {"localhost", "127.0.0.1", "::1"}

Body = bytes | Callable[[], Iterator[bytes]]


class SessionLostError(RemoteError):
    """The server does not know the session (any more); the call was not carried out."""


class Connection:
    """Requests to one server.

    Args:
        url: http://HOST:PORT or https://...
        token: sent with every request; never to another address, redirects are not followed.
        timeout: seconds to wait for an answer.

    Raises:
        RemoteError: the address is not one.
    """

    def __init__(self, url: str, token: str, timeout: float) -> None:
        parts = urlsplit(url.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RemoteError(f"{url!r} is not a server's address; it looks like http://gpu-server:1527.")
        if not token.isascii() or any(ch.isspace() for ch in token):
            raise RemoteError("The server's key holds blanks or letters that keys never have; copy it again.")
        self.url, self._timeout = url.strip().rstrip("/"), timeout
        self._http = requests.Session()
        self._http.trust_env = parts.hostname not in LOOPBACK  # a proxy cannot reach this computer's own loopback
        if token:
            self._http.headers["Authorization"] = f"Bearer {token}"
            if parts.scheme == "http" and parts.hostname not in LOOPBACK:
                logger.warning(
                    "The key and the scan travel unencrypted to %s; use https beyond a trusted network.", url
                )

    def send(
        self,
        method: str,
        path: str,
        body: Body = b"",
        *,
        repeat: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """One request; the answer's body.

        Args:
            method: HTTP method.
            path: below the server's address.
            body: what to send, or a function that makes it piece by piece.
            repeat: sending it twice does no harm: do so once if the connection breaks.
            headers: in addition.

        Raises:
            SessionLostError: the server does not know the session.
            FastSAM3DError: what the server raised, as the same class.
            RemoteError: nobody answers, or the connection broke.
        """
        for attempt in range(2 if repeat else 1):
            if attempt:
                time.sleep(PAUSE_SECONDS)
            try:
                response = self._http.request(
                    method,
                    self.url + path,
                    data=body() if callable(body) else body,
                    headers=dict(headers or {}),
                    timeout=(CONNECT_SECONDS, self._timeout),
                    allow_redirects=False,
                )
            except requests.Timeout as error:
                raise RemoteError(f"{self.url} did not answer in time; is it very busy? Try again.") from error
            except requests.RequestException as error:
                failure = error
                continue
            return self._checked(response)
        logger.debug("Request to %s failed", self.url, exc_info=failure)
        raise RemoteError(
            f"The connection to {self.url} is broken; check the address, the network and whether the server runs."
        ) from failure

    def send_json(self, method: str, path: str, *, repeat: bool = False) -> Any:
        """One request whose answer is JSON; errors as `send`."""
        try:
            return json.loads(self.send(method, path, repeat=repeat))
        except ValueError as error:
            raise RemoteError(f"{self.url} is not a FastSAM3D server; check the address.") from error

    def notify(self, method: str, path: str) -> None:
        """Tell the server something that it may as well not hear; any thread."""
        try:
            headers = {k: str(v) for k, v in self._http.headers.items() if k == "Authorization"}
            requests.request(method, self.url + path, headers=headers, timeout=CONNECT_SECONDS, allow_redirects=False)
        except requests.RequestException as error:
            logger.debug("%s %s was not heard: %s", method, self.url, error)

    def _checked(self, response: requests.Response) -> bytes:
        if response.status_code in (200, 201, 204):
            return response.content
        try:
            fields = response.json()
        except ValueError:
            fields = None
        error = error_from(fields, response.status_code)
        raise SessionLostError(str(error)) if response.status_code == LOST else error
