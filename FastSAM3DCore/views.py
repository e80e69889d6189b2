"""Slices of a scan in patient axes, ready to show: reoriented without a copy, sampled at screen resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .prompts import LassoPrompt, PointPrompt, Prompt, ScribblePrompt
from .types import Volume, VoxelBox

__all__ = ["Plane", "Region", "Reoriented", "prompt_points", "reorient"]

Region = tuple[tuple[float, float], tuple[float, float]]
"""((first, last) horizontally, (first, last) vertically) in canonical voxels, before flips for display."""


class Plane(Enum):
    """A slice orientation: (normal, horizontal, vertical) canonical axes 0 = R, 1 = A, 2 = S, and edge letters.

    All three show their horizontal axis from high to low, so that R, R and A are on the left; S and A on top.
    """

    AXIAL = (2, 0, 1, "R", "A")
    CORONAL = (1, 0, 2, "R", "S")
    SAGITTAL = (0, 1, 2, "A", "S")

    @property
    def normal(self) -> int:
        return self.value[0]

    @property
    def axes(self) -> tuple[int, int]:
        """Canonical axes shown horizontally and vertically."""
        return self.value[1], self.value[2]

    @property
    def edges(self) -> tuple[str, str]:
        """Letters for the left and the top edge."""
        return self.value[3], self.value[4]


@dataclass(frozen=True, slots=True)
class Reoriented:
    """An array as a view with axes along R, A, S (the nearest ones of an oblique scan).

    Attributes:
        array: indexed [r, a, s], increasing to right, anterior, superior.
        spacing: mm along those axes.
        order: scan axis (0 = i, 1 = j, 2 = k) behind each.
        flips: whether it runs the other way.
    """

    array: NDArray[Any]
    spacing: tuple[float, float, float]
    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def from_ijk(self, points_ijk: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 3) scan voxels to canonical voxels."""
        points = points_ijk[:, list(self.order)]
        return np.where(self.flips, np.asarray(self.array.shape) - 1 - points, points)

    def nearest(self, point_ijk: Sequence[float]) -> tuple[int, int, int]:
        """The canonical voxel at a scan voxel, clipped to the scan."""
        point = self.from_ijk(np.asarray([point_ijk], dtype=np.float64))[0]
        r, a, s = np.clip(np.round(point), 0, np.asarray(self.array.shape) - 1).astype(int)
        return (int(r), int(a), int(s))

    def world_of_slice(self, volume: Volume, axis: int, index: int) -> float:
        """RAS mm along an axis of the middle of a slice."""
        middle = (np.asarray(self.array.shape) - 1) / 2
        middle[axis] = index
        ijk = np.empty(3)
        ijk[list(self.order)] = np.where(self.flips, np.asarray(self.array.shape) - 1 - middle, middle)
        return float(volume.ijk_to_ras_points(ijk)[axis])

    def whole(self, plane: Plane) -> Region:
        """All of a slice."""
        horizontal, vertical = (self.array.shape[axis] for axis in plane.axes)
        return ((-0.5, horizontal - 0.5), (-0.5, vertical - 0.5))

    def around(self, plane: Plane, focus: tuple[int, int, int], box: VoxelBox, least_mm: float = 40.0) -> Region:
        """A square around a box (or a point if it is empty), with a margin, inside the slice if it fits."""
        spans, centres = [], []
        for axis in plane.axes:
            low, high = (focus[axis], focus[axis] + 1) if box.is_empty else (box.lower[axis], box.upper[axis])
            spans.append((high - low) * self.spacing[axis])
            centres.append((low + high - 1) / 2)
        side = max(least_mm, 1.5 * max(spans))
        region = []
        for axis, centre in zip(plane.axes, centres, strict=True):
            half = side / self.spacing[axis] / 2
            size = self.array.shape[axis]
            middle = size / 2 - 0.5 if 2 * half >= size else float(np.clip(centre, half - 0.5, size - 0.5 - half))
            region.append((middle - half, middle + half))
        return (region[0], region[1])

    def sample(self, plane: Plane, index: int, region: Region, size: int) -> NDArray[np.float32]:
        """A region of a slice as shown, bilinear, its longer side `size` pixels; beyond the scan its edge repeats."""
        across, down = self._pixels(plane, region, size)
        slab = np.take(self.array, index, axis=plane.normal)
        if plane.axes[0] > plane.axes[1]:
            slab = slab.T
        x = np.linspace(region[0][1], region[0][0], across, endpoint=False) - (region[0][1] - region[0][0]) / across / 2
        y = np.linspace(region[1][1], region[1][0], down, endpoint=False) - (region[1][1] - region[1][0]) / down / 2
        return _bilinear(slab.astype(np.float32), x, y)

    def position(
        self, plane: Plane, point: NDArray[np.float64], region: Region, size: tuple[int, int]
    ) -> tuple[float, float]:
        """(x, y) pixels, in a picture of `size` = (width, height) made by `sample`, of a canonical voxel."""
        values = []
        for axis, (low, high), pixels in zip(plane.axes, region, size, strict=True):
            values.append((high - point[axis]) / (high - low) * pixels - 0.5)
        return (float(values[0]), float(values[1]))

    def _pixels(self, plane: Plane, region: Region, size: int) -> tuple[int, int]:
        lengths = [(high - low) * self.spacing[axis] for axis, (low, high) in zip(plane.axes, region, strict=True)]
        across, down = (max(1, round(length / max(lengths) * size)) for length in lengths)
        return across, down


def _bilinear(slab: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float32]:
    """Sample slab[x, y] on a grid; rows of the result go with y."""
    out = slab
    for axis, positions in ((0, x), (1, y)):
        positions = np.clip(positions, 0, slab.shape[axis] - 1)
        low = np.floor(positions).astype(int)
        high = np.minimum(low + 1, slab.shape[axis] - 1)
        weight = (positions - low).astype(np.float32)
        weight = weight[:, None] if axis == 0 else weight[None, :]
        out = np.take(out, low, axis) * (1 - weight) + np.take(out, high, axis) * weight
    return out.T


def reorient(volume: Volume, array_kji: NDArray[Any]) -> Reoriented:
    """View an array on a scan's grid along the patient's axes."""
    cosines = volume.ijk_to_ras[:3, :3] / np.asarray(volume.spacing_ijk)  # [world axis, scan axis]
    order = max(permutations(range(3)), key=lambda p: sum(abs(cosines[w, v]) for w, v in enumerate(p)))
    r, a, s = order
    flips = (bool(cosines[0, r] < 0), bool(cosines[1, a] < 0), bool(cosines[2, s] < 0))
    view = np.transpose(array_kji, (2 - r, 2 - a, 2 - s))
    view = view[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    spacing = volume.spacing_ijk
    return Reoriented(view, (spacing[r], spacing[a], spacing[s]), (r, a, s), flips)


def prompt_points(prompt: Prompt) -> tuple[tuple[float, float, float], ...]:
    """The voxel coordinates a prompt is made of; none for boxes and masks."""
    match prompt:
        case PointPrompt():
            return (prompt.point_ijk,)
        case ScribblePrompt():
            return prompt.points_ijk
        case LassoPrompt():
            return prompt.polygon_ijk
    return ()
