"""What the messages say: calls, answers and errors, to and from the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import methodcaller
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import errors
from ..errors import FastSAM3DError, PromptError, RemoteError
from ..prompts import as_ijk, as_ijk_list, prompt_from_dict
from ..protocol import SegmentationSession
from ..types import MaskUpdate, VoxelBox
from .wire import Message, pack

__all__ = [
    "LOST",
    "UPDATE_ARRAYS",
    "box_fields",
    "box_from",
    "call_from",
    "error_fields",
    "error_from",
    "pack_update",
    "update_from",
]

LOST = 410
"""HTTP status for a session that is not there (any more); the client opens another one."""

UPDATE_ARRAYS = 3
"""Most arrays in an answer: mask, probability and uncertainty of the same box."""

KNOWN_ERRORS = {name: getattr(errors, name) for name in errors.__all__}


def box_fields(box: VoxelBox | None) -> list[list[int]] | None:
    """[lower, upper], or None."""
    return None if box is None else [list(box.lower), list(box.upper)]


def box_from(value: Any) -> VoxelBox | None:
    """The box that `box_fields` wrote.

    Raises:
        PromptError: not two corners of three numbers.
    """
    if value is None:
        return None
    try:
        lower, upper = value
        return VoxelBox(tuple(lower), tuple(upper))
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(f"A box needs two corners of three numbers, got {value!r:.80}.") from error


def _box(fields: Mapping[str, Any]) -> VoxelBox:
    box = box_from(fields["box"])
    if box is None:
        raise PromptError("The box is missing; give its two corners.")
    return box


Call = Callable[[SegmentationSession], Any]
Reader = Callable[[Mapping[str, Any], Mapping[str, NDArray[Any]]], Call]

_READERS: dict[str, Reader] = {
    "add_point": lambda f, _: methodcaller("add_point", as_ijk(f["ijk"]), bool(f["positive"])),
    "add_box": lambda f, _: methodcaller("add_box", _box(f)),
    "add_scribble": lambda f, _: methodcaller("add_scribble", as_ijk_list(f["ijk"]), bool(f["positive"])),
    "add_lasso": lambda f, _: methodcaller("add_lasso", as_ijk_list(f["ijk"]), bool(f["positive"])),
    "set_mask": lambda _, arrays: methodcaller("set_mask", arrays["mask"]),
    "move_prompt": lambda f, _: methodcaller("move_prompt", int(f["id"]), as_ijk(f["ijk"])),
    "remove_prompt": lambda f, _: methodcaller("remove_prompt", int(f["id"])),
    "undo": lambda _, __: methodcaller("undo"),
    "redo": lambda _, __: methodcaller("redo"),
    "reset": lambda _, __: methodcaller("reset"),
    "set_threshold": lambda f, _: methodcaller("set_threshold", float(f["probability"])),
    "replay": lambda f, _: methodcaller("replay", [prompt_from_dict(p) for p in f["prompts"]]),
    "mask": lambda f, _: methodcaller("mask", box_from(f["box"])),
    "probability": lambda f, _: methodcaller("probability", box_from(f["box"])),
}


def call_from(message: Message) -> tuple[int, Call]:
    """Which call of its session this is (1, 2, ...), and what to do with the session.

    Raises:
        PromptError: a point, box or prompt in it is not one.
        RemoteError: no such call, or something is missing.
    """
    fields, arrays = message
    try:
        return int(fields["number"]), _READERS[fields["call"]](fields, arrays)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, FastSAM3DError):
            raise
        raise RemoteError(f"The call cannot be read ({error!r}); update client and server.") from error


def pack_update(result: MaskUpdate | NDArray[Any], state: Mapping[str, Any]) -> bytes:
    """An answer with the session's state after it."""
    if not isinstance(result, MaskUpdate):
        bits = "array" if result.dtype == np.uint8 else ""
        return pack({"state": dict(state)}, {"array": result}, bits=bits)
    fields = {"box": box_fields(result.box), "prompt_id": result.prompt_id, "seconds": result.seconds}
    arrays: dict[str, NDArray[Any]] = {"mask": result.mask}
    for name, values in (("probability", result.probability), ("uncertainty", result.uncertainty)):
        if values is not None:
            arrays[name] = values
    return pack({"state": dict(state), "update": fields}, arrays, bits="mask")


def update_from(message: Message) -> MaskUpdate:
    """The MaskUpdate of an answer.

    Raises:
        RemoteError: it holds none, or one that does not fit its own box.
    """
    fields, arrays = message
    try:
        told, mask = fields["update"], arrays["mask"]
        box = box_from(told["box"])
        if box is None or mask.shape != box.shape_ijk[::-1]:
            raise RemoteError("The server's answer does not fit its own box; update client and server.")
        return MaskUpdate(
            box, mask, arrays.get("probability"), arrays.get("uncertainty"), told["prompt_id"], dict(told["seconds"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RemoteError(f"The server's answer cannot be read ({error}); update client and server.") from error


def error_fields(error: FastSAM3DError) -> dict[str, str]:
    """An error as JSON; the class's name comes along, so that the client raises the same."""
    names: Sequence[str] = [kind.__name__ for kind in type(error).__mro__ if kind.__name__ in KNOWN_ERRORS]
    return {"error": names[0], "message": str(error)}


def error_from(fields: Any, status: int) -> FastSAM3DError:
    """The error of an answer; a RemoteError if it is none of ours (a proxy's page, another program)."""
    if isinstance(fields, dict) and fields.get("error") in KNOWN_ERRORS:
        kind: type[FastSAM3DError] = KNOWN_ERRORS[fields["error"]]
        return kind(str(fields.get("message", "")))
    return RemoteError(f"The server answered with HTTP status {status}; check its address, and its log.")
