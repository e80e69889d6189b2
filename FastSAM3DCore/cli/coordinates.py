"""Numbers from the command line to prompts on a scan's grid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ..errors import PromptError
from ..prompts import BoxPrompt, PointPrompt, Prompt, ScribblePrompt
from ..types import Volume, VoxelBox
from ..views import prompt_points

__all__ = ["Coordinates", "Spec", "check_inside", "parse_box", "parse_point", "parse_scribble", "place", "world_box"]

LPS_RAS = np.array([-1.0, -1.0, 1.0])


class Coordinates(StrEnum):
    """The frame in which coordinates are given."""

    RAS = "ras"
    LPS = "lps"
    IJK = "ijk"


AXES = {Coordinates.RAS: "RAS", Coordinates.LPS: "LPS", Coordinates.IJK: "ijk"}


@dataclass(frozen=True, slots=True)
class Spec:
    """A prompt as it was typed: numbers in a frame that only the scan can make voxels of.

    Attributes:
        kind: "point", "scribble" or "box".
        values: x,y,z of one point; of several points; or x0,x1,y0,y1,z0,z1 of a box.
        positive: whether what it marks belongs to the structure.
    """

    kind: str
    values: tuple[float, ...]
    positive: bool = True


def parse_point(text: str, positive: bool = True) -> Spec:
    """`R,A,S`.

    Raises:
        PromptError: not three finite numbers.
    """
    return Spec("point", _numbers(text, 3, "a point needs three numbers, as in --point -12.5,30,4"), positive)


def parse_scribble(text: str, positive: bool = True) -> Spec:
    """`R,A,S;R,A,S;...`."""
    points = [part for part in text.split(";") if part.strip()]
    if not points:
        raise PromptError(f"{text!r}: a scribble needs points, as in --scribble '1,2,3;4,5,6'.")
    hint = "each point of a scribble needs three numbers, as in --scribble '1,2,3;4,5,6'"
    values = [value for part in points for value in _numbers(part, 3, hint)]
    return Spec("scribble", tuple(values), positive)


def parse_box(text: str) -> Spec:
    """`r0,r1,a0,a1,s0,s1`.

    Raises:
        PromptError: not six finite numbers, or inverted.
    """
    values = _numbers(text, 6, "a box needs six numbers, as in --box r0,r1,a0,a1,s0,s1")
    for low, high in (values[0:2], values[2:4], values[4:6]):
        if low > high:
            raise PromptError(f"The box {text} is inverted: {low:g} is larger than {high:g}; swap them.")
    return Spec("box", values)


def _numbers(text: str, count: int, hint: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise PromptError(f"{text!r} cannot be read: {hint}.") from None
    if len(values) != count or not all(math.isfinite(v) for v in values):
        raise PromptError(f"{text!r} cannot be used: {hint}.")
    return values


def place(specs: Iterable[Spec], volume: Volume, coordinates: Coordinates, first_id: int = 1) -> list[Prompt]:
    """Prompts in voxel coordinates, checked against the scan.

    Raises:
        PromptError: a point outside the scan, or a box that does not meet it.
    """
    prompts: list[Prompt] = []
    for number, spec in enumerate(specs, start=first_id):
        if spec.kind == "box":
            prompts.append(BoxPrompt(number, _voxel_box(spec, volume, coordinates)))
            continue
        points = _to_ijk(np.reshape(spec.values, (-1, 3)), volume, coordinates)
        tuples = tuple((float(i), float(j), float(k)) for i, j, k in points)
        if spec.kind == "point":
            prompts.append(PointPrompt(number, tuples[0], spec.positive))
        else:
            prompts.append(ScribblePrompt(number, tuples, spec.positive))
    check_inside(prompts, volume, coordinates)
    return prompts


def _to_ijk(points: NDArray[np.float64], volume: Volume, coordinates: Coordinates) -> NDArray[np.float64]:
    if coordinates is Coordinates.IJK:
        return points
    return volume.ras_to_ijk(points * LPS_RAS if coordinates is Coordinates.LPS else points)


def _from_ijk(points: NDArray[np.float64], volume: Volume, coordinates: Coordinates) -> NDArray[np.float64]:
    if coordinates is Coordinates.IJK:
        return points
    ras = volume.ijk_to_ras_points(points)
    return ras * LPS_RAS if coordinates is Coordinates.LPS else ras


def _voxel_box(spec: Spec, volume: Volume, coordinates: Coordinates) -> VoxelBox:
    bounds = np.reshape(spec.values, (3, 2))
    if coordinates is Coordinates.IJK:  # half-open, as everywhere
        lower, upper = np.floor(bounds[:, 0]).astype(int), np.ceil(bounds[:, 1]).astype(int)
        return VoxelBox(tuple(lower.tolist()), tuple(upper.tolist()))
    return world_box(bounds * LPS_RAS[:, None] if coordinates is Coordinates.LPS else bounds, volume)


def world_box(bounds_ras: NDArray[np.float64], volume: Volume) -> VoxelBox:
    """The voxels whose centres lie in a world box, at least one along each axis; their bounding box if oblique.

    Args:
        bounds_ras: (3, 2) mm, lowest and highest R, A and S in any order.
    """
    corners = np.stack(np.meshgrid(*bounds_ras, indexing="ij"), axis=-1).reshape(-1, 3)
    ijk = volume.ras_to_ijk(corners)
    lowest, highest = ijk.min(axis=0), ijk.max(axis=0)
    lower = np.ceil(lowest - 1e-6).astype(int)
    upper = np.floor(highest + 1e-6).astype(int) + 1
    thin = upper <= lower  # between two slices: the nearest one
    middle = np.round((lowest + highest) / 2).astype(int)
    lower, upper = np.where(thin, middle, lower), np.where(thin, middle + 1, upper)
    return VoxelBox(tuple(lower.tolist()), tuple(upper.tolist()))


def check_inside(prompts: Sequence[Prompt], volume: Volume, coordinates: Coordinates) -> None:
    """Refuse prompts outside the scan, in the user's own terms, before any network runs.

    Raises:
        PromptError: a point outside the scan, an empty box, or one that does not meet the scan.
    """
    for prompt in prompts:
        if isinstance(prompt, BoxPrompt):
            if prompt.box.is_empty:
                raise PromptError(
                    f"The box {_box_text(prompt.box)} is inverted or empty; give lower, then upper bounds."
                )
            if prompt.box.intersect(volume.box).is_empty:
                extent = _extent(volume, Coordinates.IJK)
                raise PromptError(f"The box {_box_text(prompt.box)} lies outside the scan; {extent}.")
            continue
        for point in prompt_points(prompt):
            if not volume.box.contains(point):
                place = _from_ijk(np.asarray(point), volume, coordinates)
                where = ", ".join(f"{axis} {value:.1f}" for axis, value in zip(AXES[coordinates], place, strict=True))
                raise PromptError(f"The point {where} lies outside the scan; {_extent(volume, coordinates)}.")


def _box_text(box: VoxelBox) -> str:
    return "of voxels " + ", ".join(f"{l} to {u}" for l, u in zip(box.lower, box.upper, strict=True))


def _extent(volume: Volume, coordinates: Coordinates) -> str:
    """The scan's bounds, for messages."""
    last = np.asarray(volume.shape_ijk) - 1
    corners = np.stack(np.meshgrid(*np.stack([np.zeros(3), last], axis=1), indexing="ij"), axis=-1).reshape(-1, 3)
    places = _from_ijk(corners, volume, coordinates)
    ends = zip(AXES[coordinates], places.min(0), places.max(0), strict=True)
    unit = "voxels" if coordinates is Coordinates.IJK else "mm"
    return "it spans " + ", ".join(f"{axis} {low:.1f} to {high:.1f}" for axis, low, high in ends) + f" {unit}"
