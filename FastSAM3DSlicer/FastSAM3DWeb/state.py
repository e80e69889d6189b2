"""Every name that the page's templates read, with the value it has before anything happened."""

from __future__ import annotations

from typing import Any

from .tools import hint_for
from .views import SLICE_VIEWS

__all__ = ["set_defaults"]


def set_defaults(state: Any, max_upload: int) -> None:
    """Fill the state; the page's templates can't use names that are missing."""
    state.update(
        {
            "tool": "navigate",
            "hint": hint_for("navigate"),
            "status": "",
            "status_kind": "info",
            "busy": "",
            "can_cancel": False,
            "scan_name": "",
            "scan_detail": "",
            "can_undo": False,
            "can_redo": False,
            "can_reset": False,
            "layout": "quad",
            "has_surface": False,
            "segments": [],
            "active_segment": "",
            "opacity": 0.45,
            "overlap": "overwrite",
            "threshold": 0.5,
            "brush_mm": 8,
            "overlay": False,
            "slice_mode": False,
            "preset": "Auto",
            "window_width": 100,
            "level": 50,
            "wl_low": 0,
            "wl_range": 100,
            "wl_step": 1,
            "crosshair": True,
            "target": "",
            "saved": "",
            "click_ms": 0,
            "click_split": "",
            "server_ms": [0, 0, 0],
            "device": "",
            "ready": False,
            "model_detail": "",
            "help_open": False,
            "question": None,
            "dropping": False,
            "uploading": False,
            "upload_progress": 0,
            "max_upload": max_upload,
            # Answers of the engine so far, and those after which lists and markers are up to date too.
            "answers": 0,
            "settled": 0,
            "mm_across": {},
            "box": None,
            "box_views": {},
        }
    )
    for view in SLICE_VIEWS:
        state[f"slice_{view.tag}"] = {"min": 0, "max": 1, "step": 1, "value": 0, "text": "", "normal": [0, 0, 1]}
