"""Tools and keyboard shortcuts: one table for the toolbar, the help page and the key handler.

The keys are those of the Slicer module where it has the same action. Only what Enter does here is N there: "Look
around", which the module leaves to Slicer, has N here.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ACTIONS", "TOOLS", "Action", "Tool", "hint_for", "shortcuts"]


@dataclass(frozen=True, slots=True)
class Tool:
    """What the left mouse button does in a slice view.

    Attributes:
        gesture: what the page collects: "click", "box", "line" (a stroke), "area" (a closed stroke) or
            "none" (the event goes to the view).
    """

    name: str
    title: str
    icon: str
    key: str
    gesture: str
    hint: str


TOOLS = (
    Tool(
        "navigate",
        "Look around",
        "mdi-cursor-default-outline",
        "n",
        "none",
        "Click to move the crosshair. Drag to change brightness and contrast.",
    ),
    Tool(
        "positive",
        "Add by click",
        "mdi-plus-circle-outline",
        "a",
        "click",
        "Click near the middle of the structure: it is segmented in 3D.",
    ),
    Tool(
        "negative",
        "Remove by click",
        "mdi-minus-circle-outline",
        "d",
        "click",
        "Click where the segment spills over: that part goes.",
    ),
    Tool(
        "box",
        "Box",
        "mdi-vector-square",
        "b",
        "box",
        "Drag a box around the structure, then pull its sides in any view. Hold Ctrl for a box in one slice.",
    ),
    Tool(
        "scribble",
        "Scribble",
        "mdi-gesture",
        "c",
        "line",
        "Draw along the inside of the structure. Hold Ctrl for what does not belong.",
    ),
    Tool("lasso", "Lasso", "mdi-lasso", "l", "area", "Draw around the structure in one slice. Hold Ctrl to take away."),
    Tool(
        "paint",
        "Paint by hand",
        "mdi-brush-outline",
        "p",
        "line",
        "Paint exactly what belongs; later clicks build on it.",
    ),
    Tool(
        "erase",
        "Erase by hand",
        "mdi-eraser",
        "x",
        "line",
        "Erase exactly what does not belong; later clicks build on it.",
    ),
)


@dataclass(frozen=True, slots=True)
class Action:
    """Something that happens at once."""

    name: str
    title: str
    key: str
    icon: str = ""


ACTIONS = (
    Action("undo", "Undo", "z", "mdi-undo"),
    Action("redo", "Redo", "y", "mdi-redo"),
    Action("reset", "Start this segment again", "shift+r", "mdi-restart"),
    Action("next_segment", "Next segment", "e", "mdi-shape-square-plus"),
    Action("sign", "Switch between add and remove", "t"),
    Action("uncertain", "Go to the most uncertain slice", "u"),
    Action("overlay", "Show uncertainty", "shift+u"),
    Action("visibility", "Show or hide the segment", "v"),
    Action("slice_mode", "Slice-by-slice mode", "m"),
    Action("slice_next", "Next slice", "arrowup"),
    Action("slice_previous", "Previous slice", "arrowdown"),
    Action("fill", "Take the model's proposal for this slice", "f"),
    Action("accept", "Accept the slice, go to the next doubtful one", "enter"),
    Action("brush_larger", "Larger brush", "]"),
    Action("brush_smaller", "Smaller brush", "["),
    Action("fit", "Fit views", "r"),
    Action("cancel", "Cancel", "escape"),
    Action("help", "This help", "?"),
)


def shortcuts() -> dict[str, str]:
    """Key -> "tool:NAME" or "action:NAME"."""
    table = {tool.key: f"tool:{tool.name}" for tool in TOOLS}
    table |= {action.key: f"action:{action.name}" for action in ACTIONS}
    return table | {"ctrl+z": "action:undo", "ctrl+y": "action:redo", "ctrl+shift+z": "action:redo"}


def hint_for(tool_name: str) -> str:
    """The one line that says what the tool does."""
    return next(tool.hint for tool in TOOLS if tool.name == tool_name)
