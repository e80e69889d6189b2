"""What a person has without a network, from the same clicks: geodesic distance and seeded region growing.

Both work on the scan's own voxels inside a working box around the positive clicks (half its size is the
*reach*), coarsened to at most `WORK_SIZE` voxels a side, so that a click takes a fraction of a second on any
scan. Their settings were chosen on real CT and MR structures; a per-structure choice by eye would do better,
a per-structure choice by the answer would not be fair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..distances import signed_distance
from ..io.native import array_from_image
from ..types import Volume, VoxelBox
from .clicks import Click

__all__ = ["BASELINES", "ClickMethod", "GeodesicDistance", "RegionGrowing"]

WORK_SIZE = 64
REACHES_MM = (12.0, 20.0, 32.0, 50.0, 80.0, 120.0)
LEAST_REACH_MM = 25.0  # once there is more than one click
SEED_RADIUS = 1.5  # working voxels around a click that count as marked


class ClickMethod(Protocol):
    """Segments one structure of one scan from clicks; made anew for each structure."""

    def add(self, click: Click) -> NDArray[np.bool_]:
        """The whole mask, indexed [k, j, i], after one more click."""
        ...


@dataclass(frozen=True, slots=True)
class _Work:
    """A working box, coarsened by whole strides."""

    box: VoxelBox
    strides: tuple[int, int, int]
    """Along k, j, i."""
    spacing: tuple[float, float, float]
    """mm along k, j, i."""
    grey: NDArray[np.float32]
    """Smoothed voxels, indexed [k, j, i]."""

    def seeds(self, clicks: list[Click], positive: bool) -> NDArray[np.bool_]:
        """Small balls around the clicks of one kind that lie in the box."""
        marked = np.zeros(self.grey.shape, bool)
        radius = SEED_RADIUS * min(self.spacing)
        nk, nj, ni = self.grey.shape
        sk, sj, si = self.spacing
        gk, gj, gi = np.arange(nk)[:, None, None], np.arange(nj)[:, None], np.arange(ni)
        for click in clicks:
            if click.positive != positive or not self.box.contains(click.point_ijk):
                continue
            k, j, i = self.place(click)[::-1]
            squared = ((gk - k) * sk) ** 2 + ((gj - j) * sj) ** 2 + ((gi - i) * si) ** 2
            marked |= np.asarray(squared <= radius**2)
            marked[round(k), round(j), round(i)] = True
        return marked

    def place(self, click: Click) -> list[float]:
        """Working coordinates (i, j, k) of a click in the box."""
        point = zip(click.point_ijk, self.box.lower, self.strides[::-1], self.grey.shape[::-1], strict=True)
        return [min(n - 1.0, (p - l) / s) for p, l, s, n in point]

    def enlarge(self, field: NDArray[np.float32]) -> NDArray[np.float32]:
        """A field on the working grid, linearly interpolated to the box's own voxels."""
        sizes = self.box.shape_ijk[::-1]
        for axis, (stride, size) in enumerate(zip(self.strides, sizes, strict=True)):
            if stride == 1:
                continue
            place = np.clip(np.arange(size) / stride, 0, field.shape[axis] - 1)
            low = np.floor(place).astype(int)
            high = np.minimum(low + 1, field.shape[axis] - 1)
            shape = [1, 1, 1]
            shape[axis] = -1
            weight = (place - low).astype(np.float32).reshape(shape)
            field = np.take(field, low, axis) * (1 - weight) + np.take(field, high, axis) * weight
        return field


def _working_box(volume: Volume, clicks: list[Click], reach_mm: float) -> _Work:
    points = np.array([c.point_ijk for c in clicks if c.positive] or [clicks[0].point_ijk])
    spacing = np.asarray(volume.spacing_ijk)
    lower = np.maximum(0, np.floor(points.min(0) - reach_mm / spacing)).astype(int)
    upper = np.minimum(volume.shape_ijk, np.ceil(points.max(0) + reach_mm / spacing) + 1).astype(int)
    box = VoxelBox(tuple(lower.tolist()), tuple(upper.tolist()))
    i, j, k = np.maximum(1, -(-(upper - lower) // WORK_SIZE)).tolist()
    image = sitk.GetImageFromArray(volume.array_kji[box.slices_kji].astype(np.float32))
    blur = [0.5 + 0.5 * (stride - 1) for stride in (i, j, k)]  # enough to thin out without aliasing
    smooth = array_from_image(sitk.DiscreteGaussian(image, [b * b for b in blur], useImageSpacing=False))
    grey = np.ascontiguousarray(smooth[::k, ::j, ::i])
    step = spacing * (i, j, k)
    return _Work(box, (k, j, i), (float(step[2]), float(step[1]), float(step[0])), grey)


def _as_mask(volume: Volume, box: VoxelBox, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    mask = np.zeros(volume.array_kji.shape, bool)
    mask[box.slices_kji] = inside
    return mask


class GeodesicDistance:
    """A voxel belongs to the structure if its geodesic distance to a positive click is the smallest.

    Paths cost their length plus `contrast` mean voxel lengths per unit of grey change, where the greys of the
    box run from 0 to 1 (Criminisi et al., GeoS, ECCV 2008). The box's faces count as negative: for the first
    click the box of `REACHES_MM` is taken whose result has the strongest contrast across its surface.
    """

    def __init__(self, volume: Volume, contrast: float = 150.0) -> None:
        self._volume = volume
        self._contrast = contrast
        self._clicks: list[Click] = []
        self._reach = 0.0

    def add(self, click: Click) -> NDArray[np.bool_]:
        """See `ClickMethod`."""
        self._clicks.append(click)
        if len(self._clicks) > 1:
            work = _working_box(self._volume, self._clicks, max(self._reach, LEAST_REACH_MM))
            return _as_mask(self._volume, work.box, work.enlarge(self._margin(work)) > 0)
        best = (-1.0, VoxelBox.empty(), np.zeros((0, 0, 0), bool))
        for reach in REACHES_MM:
            work = _working_box(self._volume, self._clicks, reach)
            inside = work.enlarge(self._margin(work)) > 0
            score = _surface_contrast(inside, self._volume.array_kji[work.box.slices_kji])
            if score > best[0]:
                best = (score, work.box, inside)
                self._reach = reach
        return _as_mask(self._volume, best[1], best[2])

    def _margin(self, work: _Work) -> NDArray[np.float32]:
        """Distance to the nearest negative minus distance to the nearest positive."""
        positive, negative = work.seeds(self._clicks, True), work.seeds(self._clicks, False)
        for axis in range(3):
            faces: list[Any] = [slice(None)] * 3
            for end in (0, -1):
                faces[axis] = end
                negative[tuple(faces)] = True
        low, high = np.percentile(work.grey, (1, 99))
        grey = np.clip((work.grey - low) / max(float(high - low), 1e-6), 0, 1)
        weight = self._contrast * float(np.mean(work.spacing))
        steps = [
            (spacing + weight * np.abs(np.diff(np.moveaxis(grey, axis, 0), axis=0))).astype(np.float32)
            for axis, spacing in enumerate(work.spacing)
        ]
        return np.asarray(_geodesic(negative & ~positive, steps) - _geodesic(positive, steps), dtype=np.float32)


def _geodesic(seeds: NDArray[np.bool_], steps: list[NDArray[np.float32]], sweeps: int = 3) -> NDArray[np.float32]:
    """Distance to the seeds by sweeps along the axes, both ways; paths turn at most a few times."""
    distance = np.where(seeds, np.float32(0), np.float32(1e9))
    for _ in range(sweeps):
        for axis, step in enumerate(steps):
            layers = np.moveaxis(distance, axis, 0)
            for n in range(1, len(layers)):
                np.minimum(layers[n], layers[n - 1] + step[n - 1], out=layers[n])
            for n in range(len(layers) - 2, -1, -1):
                np.minimum(layers[n], layers[n + 1] + step[n], out=layers[n])
    return distance


def _surface_contrast(inside: NDArray[np.bool_], grey: NDArray[Any]) -> float:
    """Mean grey step from inside to outside over all faces between the two; its size, not its sign."""
    total, faces = 0.0, 0
    for axis in range(3):
        within, values = np.moveaxis(inside, axis, 0), np.moveaxis(grey, axis, 0)
        edge = within[1:] != within[:-1]
        step = values[1:][edge].astype(np.float64) - values[:-1][edge]
        total += float(np.where(within[1:][edge], step, -step).sum())
        faces += int(np.count_nonzero(edge))
    return abs(total) / faces if faces else -1.0


class RegionGrowing:
    """Seeded region growing: connected voxels within a few deviations of the grey around each positive click.

    A voxel nearer to a negative click than to every positive one is cut off, thin leaks by one opening.
    """

    def __init__(self, volume: Volume, deviations: float = 3.5, reach_mm: float = 20.0) -> None:
        self._volume = volume
        self._deviations = deviations
        self._reach = reach_mm
        self._clicks: list[Click] = []

    def add(self, click: Click) -> NDArray[np.bool_]:
        """See `ClickMethod`."""
        self._clicks.append(click)
        work = _working_box(self._volume, self._clicks, self._reach)
        seeds = work.seeds(self._clicks, True)
        grown = seeds.copy()
        image = sitk.GetImageFromArray(work.grey)
        places = [[round(v) for v in work.place(click)] for click in self._clicks if click.positive]
        means, deviations = zip(*(_statistics(work.grey, place) for place in places), strict=True)
        # Of all clicks the one in the most even surroundings: a click near an edge says nothing about the inside.
        reach = self._deviations * min(deviations)
        for place, mean in zip(places, means, strict=True):
            found = sitk.ConnectedThreshold(image, [place], mean - reach, mean + reach)
            grown |= array_from_image(found) > 0
        negative = work.seeds(self._clicks, False)
        if negative.any():
            spacing_ijk = work.spacing[::-1]
            grown &= signed_distance(seeds, spacing_ijk) < signed_distance(negative, spacing_ijk)
        opened = sitk.BinaryMorphologicalOpening(sitk.GetImageFromArray(grown.astype(np.uint8)), [1, 1, 1])
        inside = (array_from_image(opened) > 0) | (seeds & ~negative)
        return _as_mask(self._volume, work.box, work.enlarge(inside.astype(np.float32)) > 0.5)


def _statistics(grey: NDArray[np.float32], place: list[int]) -> tuple[float, float]:
    """Mean and standard deviation of the 5 x 5 x 5 voxels around (i, j, k)."""
    near = grey[tuple(slice(max(0, at - 2), at + 3) for at in reversed(place))]
    return float(near.mean()), max(float(near.std()), 1e-6)


BASELINES: dict[str, type[GeodesicDistance] | type[RegionGrowing]] = {
    "geodesic": GeodesicDistance,
    "region growing": RegionGrowing,
}
