"""The HTML shell that loads the page's script: trame's own, with our title, icon and start picture."""

from __future__ import annotations

import re
from pathlib import Path

from aiohttp import web
from trame_client.module.vue3 import www

__all__ = ["add_shell_routes"]

LOADING = """<div class="f3d-load"><img src="f3d/static/favicon.svg" alt="" width="56" height="56"><p>Opening…</p></div>
<style>html,body{margin:0;height:100%;background:#0d1115}
.f3d-load{height:100vh;display:grid;place-content:center;justify-items:center;
color:#93a0ac;font:15px system-ui,sans-serif}
</style>"""


def shell_html() -> str:
    """trame's index page with our words in it."""
    html = (Path(www) / "index.html").read_text(encoding="utf-8")
    scripts = "\n".join(re.findall(r'<script[^>]*src="[^"]*"[^>]*></script>', html))
    styles = "\n".join(re.findall(r'<link rel="stylesheet"[^>]*>', html))
    return f"""<!doctype html>
<html lang="en" data-app-name="fastsam3d" data-launcher-retry="[]" data-session-manager-url="f3d/session">
<head><base href="."><meta charset="utf-8"><title>FastSAM3D</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<link rel="icon" type="image/svg+xml" href="f3d/static/favicon.svg">
{scripts}
{styles}</head>
<body><div id="app">{LOADING}</div></body></html>"""


def add_shell_routes(app: web.Application) -> None:
    html = shell_html()

    async def index(_: web.Request) -> web.Response:
        return web.Response(text=html, content_type="text/html", headers={"Cache-Control": "no-store"})

    app.router.add_get("/index.html", index)
