"""Puts the templates together into one page."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from string import Template

from trame_server import Server
from trame_vuetify.ui.vuetify3 import VAppLayout

from ..tools import ACTIONS, TOOLS, shortcuts
from ..views import VIEWS, ViewInfo, Views
from .theme import VUETIFY, enable_static

__all__ = ["build_page"]

TEMPLATES = Path(__file__).with_name("templates")

# name shown -> (window, level) in the scan's own numbers (Hounsfield units); "" takes it from the scan
WINDOW_PRESETS = {
    "Auto": None,
    "Soft tissue": (400, 40),
    "Brain": (80, 40),
    "Lung": (1500, -600),
    "Bone": (1800, 400),
    "Liver": (150, 60),
}


def key_label(key: str) -> str:
    """How a key is printed: "ctrl+z" -> "Ctrl Z"."""
    names = {"arrowup": "↑", "arrowdown": "↓", "escape": "Esc", "enter": "Enter", "ctrl": "Ctrl", "shift": "Shift"}
    parts = key.split("+") if len(key) > 1 else [key]
    return " ".join(names.get(part, part.upper()) for part in parts)


def build_page(server: Server, views: Views) -> None:
    """Fill the static part of the state and create the layout."""
    enable_static(server)
    state = server.state
    state.trame__title = "FastSAM3D"
    state.trame__favicon = "f3d/static/favicon.svg"
    state.tools = [asdict(tool) | {"label": key_label(tool.key)} for tool in TOOLS]
    state.actions = [asdict(action) | {"label": key_label(action.key)} for action in ACTIONS]
    state.shortcuts = shortcuts()
    state.presets = list(WINDOW_PRESETS)
    cells = "".join(_cell(view, views) for view in VIEWS)
    page = _read("page").substitute(
        topbar=_text("topbar"),
        rail=_text("rail"),
        cells=cells,
        panel=_text("panel"),
        status=_text("status"),
        dialogs=_text("dialogs"),
    )
    with VAppLayout(server, vuetify_config=VUETIFY) as layout:
        layout.root.add_child(page)


def _text(name: str) -> str:
    return (TEMPLATES / f"{name}.html").read_text(encoding="utf-8")


def _read(name: str) -> Template:
    return Template(_text(name))


def _cell(view: ViewInfo, views: Views) -> str:
    name = "slice_view" if view.left else "threed_view"
    return _read(name).substitute(asdict(view), template=views.template_name(view.tag))
