"""How the markups that show boxes, scribbles and lassos look on this page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["quieten", "show", "shrink"]


# Percent of the view's height.
POINT_SIZE = 1.3


def shrink(nodes: Iterable[Any]) -> None:
    """Small points, in slices only, so that they don't cover what they made."""
    for node in nodes:
        display = node.GetDisplayNode()
        if display is not None and display.GetVisibility3D():
            display.SetVisibility3D(False)
            display.SetGlyphScale(POINT_SIZE)


def show(node: Any, shown: bool) -> None:
    """Show or hide a node in the slices."""
    display = node.GetDisplayNode()
    if display is not None and bool(display.GetVisibility2D()) != shown:
        display.SetVisibility2D(shown)


def quieten(nodes: Iterable[Any]) -> None:
    """Thin lines without handles, in slices only: they say what was drawn and hide nothing."""
    for node in nodes:
        display = node.GetDisplayNode()
        if display is None or not display.GetVisibility3D():
            continue
        was_modifying = display.StartModify()
        display.SetVisibility3D(False)
        display.SetHandlesInteractive(False)
        display.SetTranslationHandleVisibility(False)
        display.SetRotationHandleVisibility(False)
        display.SetScaleHandleVisibility(False)
        display.SetGlyphTypeFromString("Vertex2D")
        display.SetGlyphScale(0.1)
        display.SetLineThickness(0.15)
        display.SetOpacity(0.8)
        display.EndModify(was_modifying)
        node.SetLocked(True)
