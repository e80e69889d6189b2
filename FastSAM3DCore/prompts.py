"""Prompts: what a user can say about a structure, and the log that replays it.

All coordinates are continuous voxel coordinates (i, j, k) of the scan; boxes are half-open.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import PromptError
from .types import VoxelBox

__all__ = [
    "BoxPrompt",
    "LassoPrompt",
    "MaskPrompt",
    "PointPrompt",
    "Prompt",
    "ScribblePrompt",
    "prompts_from_json",
    "prompts_to_json",
]

LOG_FORMAT = "fastsam3d-prompts/1"

IJK = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class PointPrompt:
    """A click: this voxel belongs to the structure (positive) or does not (negative)."""

    kind: ClassVar[Literal["point"]] = "point"
    id: int
    point_ijk: IJK
    positive: bool = True


@dataclass(frozen=True, slots=True)
class BoxPrompt:
    """The structure lies in this half-open box; one voxel thick along an axis: its outline in that slice."""

    kind: ClassVar[Literal["box"]] = "box"
    id: int
    box: VoxelBox

    @property
    def thin_axes(self) -> tuple[int, ...]:
        """Axes (0 = i, 1 = j, 2 = k) along which the box is one voxel thick."""
        return tuple(axis for axis, size in enumerate(self.box.shape_ijk) if size == 1)


@dataclass(frozen=True, slots=True)
class ScribblePrompt:
    """A stroke: every voxel along the polyline belongs to the structure, or does not."""

    kind: ClassVar[Literal["scribble"]] = "scribble"
    id: int
    points_ijk: tuple[IJK, ...]
    positive: bool = True


@dataclass(frozen=True, slots=True)
class LassoPrompt:
    """A closed contour in one slice plane (constant i, j or k): what is inside belongs, or does not."""

    kind: ClassVar[Literal["lasso"]] = "lasso"
    id: int
    polygon_ijk: tuple[IJK, ...]
    positive: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class MaskPrompt:
    """The current mask was replaced: an existing segment as seed, or a hand edit made since.

    The log keeps the voxels, run-length coded, so that a replay restores the same mask anywhere.
    """

    kind: ClassVar[Literal["mask"]] = "mask"
    id: int
    shape_kji: tuple[int, int, int]
    runs: NDArray[np.int64]
    """Lengths of alternating runs of 0 and 1 in [k, j, i] order, starting with 0."""

    @classmethod
    def from_mask(cls, id: int, mask_kji: NDArray[Any]) -> MaskPrompt:
        flat = np.ascontiguousarray(mask_kji).reshape(-1) != 0
        edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        bounds = np.concatenate(([0], edges, [flat.size]))
        runs = np.diff(bounds)
        if flat.size and flat[0]:
            runs = np.concatenate(([0], runs))
        k, j, i = mask_kji.shape
        return cls(id, (int(k), int(j), int(i)), runs.astype(np.int64))

    def mask_kji(self) -> NDArray[np.uint8]:
        """The mask, uint8 {0, 1}, indexed [k, j, i]."""
        values = (np.arange(len(self.runs)) % 2).astype(np.uint8)
        return np.repeat(values, self.runs).reshape(self.shape_kji)


Prompt = PointPrompt | BoxPrompt | ScribblePrompt | LassoPrompt | MaskPrompt


def prompt_to_dict(prompt: Prompt) -> dict[str, Any]:
    """A JSON-serialisable form of one prompt."""
    data: dict[str, Any] = {"id": prompt.id, "kind": prompt.kind}
    match prompt:
        case PointPrompt():
            data |= {"ijk": list(prompt.point_ijk), "positive": prompt.positive}
        case BoxPrompt():
            data |= {"lower": list(prompt.box.lower), "upper": list(prompt.box.upper)}
        case ScribblePrompt():
            data |= {"ijk": [list(p) for p in prompt.points_ijk], "positive": prompt.positive}
        case LassoPrompt():
            data |= {"ijk": [list(p) for p in prompt.polygon_ijk], "positive": prompt.positive}
        case MaskPrompt():
            data |= {"shape_kji": list(prompt.shape_kji), "runs": prompt.runs.tolist()}
    return data


def prompt_from_dict(data: Any) -> Prompt:
    """The prompt that `prompt_to_dict` wrote.

    Raises:
        PromptError: a field is missing or of the wrong kind.
    """
    try:
        kind, id = data["kind"], int(data["id"])
        if kind == "point":
            return PointPrompt(id, as_ijk(data["ijk"]), bool(data.get("positive", True)))
        if kind == "box":
            return BoxPrompt(id, VoxelBox(tuple(data["lower"]), tuple(data["upper"])))
        if kind == "scribble":
            return ScribblePrompt(id, as_ijk_list(data["ijk"]), bool(data.get("positive", True)))
        if kind == "lasso":
            return LassoPrompt(id, as_ijk_list(data["ijk"]), bool(data.get("positive", True)))
        if kind == "mask":
            k, j, i = (int(v) for v in data["shape_kji"])
            runs = np.asarray(data["runs"], dtype=np.int64)
            if runs.ndim != 1 or (runs < 0).any() or sum(runs.tolist()) != k * j * i:  # runs.sum() may wrap around
                raise PromptError("A mask in the prompt log does not fill its own shape; the file is damaged.")
            return MaskPrompt(id, (k, j, i), runs)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, PromptError):
            raise
        raise PromptError(f"A prompt in the log cannot be read: {data!r:.120}.") from error
    raise PromptError(f"Unknown prompt kind {kind!r}; known are point, box, scribble, lasso and mask.")


def prompts_to_json(prompts: Iterable[Prompt]) -> str:
    """The whole log as JSON text."""
    return json.dumps({"format": LOG_FORMAT, "prompts": [prompt_to_dict(p) for p in prompts]})


def prompts_from_json(text: str) -> list[Prompt]:
    """Read a log written by `prompts_to_json`.

    Raises:
        PromptError: not JSON, another format, or a damaged prompt.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of too many digits, or lists too deep
        raise PromptError(f"The prompt log is not valid JSON ({error}).") from error
    if not isinstance(data, dict) or data.get("format") != LOG_FORMAT or not isinstance(data.get("prompts"), list):
        raise PromptError(f"The prompt log is not of the format {LOG_FORMAT!r}.")
    return [prompt_from_dict(entry) for entry in data["prompts"]]


def as_ijk(point: Sequence[float] | NDArray[Any]) -> IJK:
    """Three finite numbers as a plain tuple.

    Raises:
        PromptError: not three numbers, or not finite.
    """
    try:
        values = [float(v) for v in point]
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(f"A point needs three numbers (i, j, k), got {point!r:.80}.") from error
    if len(values) != 3 or not np.isfinite(values).all():
        raise PromptError(f"A point needs three finite numbers (i, j, k), got {point!r}.")
    return (values[0], values[1], values[2])


def as_ijk_list(points: Iterable[Sequence[float]] | NDArray[Any]) -> tuple[IJK, ...]:
    """A sequence of points, each as by `as_ijk`."""
    return tuple(as_ijk(point) for point in points)
