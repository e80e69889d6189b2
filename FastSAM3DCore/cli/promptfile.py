"""Prompt logs as files: the session's own log, or one written by hand in world coordinates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PromptError
from ..io.atomic import write_text
from ..prompts import LOG_FORMAT, MaskPrompt, Prompt, prompts_from_json, prompts_to_json
from ..types import Volume
from .coordinates import LPS_RAS, Coordinates, check_inside, world_box

__all__ = ["place_log", "read_log", "save_log"]


def read_log(path: Path) -> dict[str, Any]:
    """The JSON of a prompt log.

    A session's log is in voxel coordinates ("ijk"). One for people says `"coords": "ras"` (or "lps") beside its
    format, and its prompts have "ras" in place of "ijk"; the bounds of boxes are then in mm too.

    Raises:
        PromptError: missing, unreadable, or not a prompt log.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PromptError(f"The prompt log {path} does not exist; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"The prompt log {path} cannot be read ({error}); check the path.") from error
    except (ValueError, RecursionError) as error:  # also a number of too many digits, or lists too deep
        raise PromptError(f"{path.name} is not valid JSON ({error}).") from error
    prompts = data.get("prompts") if isinstance(data, dict) else None
    if not isinstance(prompts, list) or data.get("format") != LOG_FORMAT:
        raise PromptError(f"{path.name} is not a prompt log of the format {LOG_FORMAT!r}.")
    if not prompts:
        raise PromptError(f"The prompt log {path.name} holds no prompts.")
    known = [c.value for c in Coordinates]
    if data.get("coords", "ijk") not in known:
        raise PromptError(f"{path.name} has unknown coords {data['coords']!r}; use one of {', '.join(known)}.")
    return dict(data)


def place_log(data: dict[str, Any], volume: Volume) -> list[Prompt]:
    """The prompts of a log in voxel coordinates, checked against the scan.

    Raises:
        PromptError: damaged, outside the scan, or a mask made for another scan.
    """
    coordinates = Coordinates(data.get("coords", "ijk"))
    entries = [_to_voxels(entry, number, volume, coordinates) for number, entry in enumerate(data["prompts"], start=1)]
    prompts = prompts_from_json(json.dumps({"format": LOG_FORMAT, "prompts": entries}))
    for prompt in prompts:
        if isinstance(prompt, MaskPrompt) and prompt.shape_kji != volume.array_kji.shape:
            raise PromptError("The prompt log holds a mask of another scan's size; it belongs to another scan.")
    check_inside(prompts, volume, coordinates)
    return prompts


def _to_voxels(entry: Any, number: int, volume: Volume, coordinates: Coordinates) -> Any:
    if not isinstance(entry, dict) or coordinates is Coordinates.IJK:
        return entry
    flip = LPS_RAS if coordinates is Coordinates.LPS else np.ones(3)
    out = {"id": number, **entry}
    try:
        if coordinates.value in entry:
            points = np.asarray(out.pop(coordinates.value), dtype=np.float64)
            out["ijk"] = volume.ras_to_ijk(points * flip).tolist()
        if "lower" in entry:
            bounds = np.stack([np.asarray(entry[key], dtype=np.float64) * flip for key in ("lower", "upper")], axis=1)
            box = world_box(bounds, volume)
            out |= {"lower": list(box.lower), "upper": list(box.upper)}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise PromptError(f"A prompt in the log cannot be read: {entry!r:.120}.") from error
    return out


def save_log(path: Path, prompts: Sequence[Prompt]) -> None:
    """Write a session's log, atomically."""
    write_text(path, prompts_to_json(prompts) + "\n")
