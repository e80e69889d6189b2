"""Colours for a reading room: dark, low contrast in the frame, full contrast in the pictures."""

from __future__ import annotations

from pathlib import Path

from trame_server import Server

__all__ = ["STATIC", "VUETIFY", "enable_static"]

STATIC = Path(__file__).parents[1] / "static"
STATIC_URL = "f3d/static"

VUETIFY = {
    "theme": {
        "defaultTheme": "reading",
        "themes": {
            "reading": {
                "dark": True,
                "colors": {
                    "background": "#0d1115",
                    "surface": "#151b21",
                    "surface-bright": "#232c34",
                    "surface-light": "#1d242b",
                    "primary": "#4fb3a5",
                    "secondary": "#7d8fa0",
                    "error": "#d9746a",
                    "warning": "#e0a35c",
                    "info": "#6fa8dc",
                    "success": "#7fb069",
                },
                "variables": {"border-color": "#9fb3c8", "border-opacity": 0.1},
            }
        },
    },
    "defaults": {
        "VBtn": {"style": "text-transform:none;letter-spacing:0"},
        "VTooltip": {"openDelay": 350},
    },
}


def enable_static(server: Server) -> None:
    """Serve our own script and style sheet with the page."""
    server.enable_module(
        {
            "serve": {STATIC_URL: str(STATIC)},
            "scripts": [f"{STATIC_URL}/{name}.js" for name in ("boxes", "gestures", "app")],
            "styles": [f"{STATIC_URL}/app.css"],
        }
    )
