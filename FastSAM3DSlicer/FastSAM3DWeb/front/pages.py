"""Small pages that the front answers itself, before there is a worker."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

__all__ = ["STATIC", "asset", "busy_page", "starting_page", "token_page"]

STATIC = Path(__file__).parents[1] / "static"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>FastSAM3D</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<link rel="icon" type="image/svg+xml" href="/f3d/front/favicon.svg">
<link rel="stylesheet" href="/f3d/front/pages.css">
</head><body><main>{body}</main></body></html>"""


def _html(body: str, status: int = 200) -> web.Response:
    return web.Response(
        text=PAGE.format(body=body), content_type="text/html", status=status, headers={"Cache-Control": "no-store"}
    )


def starting_page() -> web.Response:
    """Shown while the worker starts; turns into the app by itself."""
    return _html(
        '<img src="/f3d/front/favicon.svg" alt="" width="56" height="56"><h1>FastSAM3D</h1>'
        '<p id="message" role="status">Starting your session…</p><div class="bar"><i></i></div>'
        '<script src="/f3d/front/starting.js"></script>'
    )


def busy_page(places: int) -> web.Response:
    """All places are taken."""
    word = "person works" if places == 1 else "people work"
    return _html(
        f"<h1>All places are taken</h1><p>{places} {word} here at the moment, each with a process of their own. "
        'Try again in a few minutes.</p><p><a class="button" href="/">Try again</a></p>',
        status=503,
    )


def token_page(*, wrong: bool, status: int) -> web.Response:
    """Asks for the token."""
    note = '<p class="wrong" role="alert">That token is not right.</p>' if wrong else ""
    return _html(
        "<h1>FastSAM3D</h1><p>This server asks for a token. The person who started it has it.</p>"
        f'<form method="post" action="/f3d/token">{note}'
        '<input type="password" name="token" aria-label="Token" placeholder="Token" autofocus required>'
        "<button>Open</button></form>",
        status=status,
    )


def asset(name: str) -> web.StreamResponse:
    """One of our own static files, by plain name."""
    path = STATIC / Path(name).name
    if path.suffix not in TYPES or not path.is_file():
        return web.Response(status=404, text="Not found.\n")
    return web.Response(body=path.read_bytes(), content_type=TYPES[path.suffix], headers={"Cache-Control": "no-cache"})
