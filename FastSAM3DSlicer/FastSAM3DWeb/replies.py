"""What the status line says after an answer of the engine."""

from __future__ import annotations

from typing import Any

from FastSAM3DCore.types import VoxelBox

__all__ = ["reply"]

FIRST_CLICK = "Too much? Press D and click there. Too little? Press A and click there. E: next segment."
NOTHING_YET = "Nothing to take away yet: press A and click inside the structure."
BOX = "Pull the sides of the box, in any view, to set how far it reaches. Then correct with clicks (A, D)."
ACCEPTED = "Nothing changed: accepted slices are kept. In slice-by-slice mode, Enter releases one."


def reply(logic: Any, changed: VoxelBox, has_handles: bool) -> str:
    """One line, or nothing, which lets the tool's hint show.

    Args:
        logic: the `SegmentationLogic`, after the answer was written.
        changed: what the answer changed.
        has_handles: whether a box with handles is shown.
    """
    if _only_takes_away(logic):
        return NOTHING_YET
    if changed.is_empty and logic.rules.accepted:
        return ACCEPTED
    if has_handles:
        return BOX
    return FIRST_CLICK if len(logic.prompts) == 1 else ""


def _only_takes_away(logic: Any) -> bool:
    """Whether the segment is empty because nothing has been added to it so far."""
    added = any(getattr(prompt, "positive", True) for prompt in logic.prompts)
    return bool(logic.prompts) and not added and logic.active.milliliters() <= 0
