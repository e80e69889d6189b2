"""Geometry between a scan's own grid and the network's crops.

Three frames meet here, and every name says which one it is in:

    ijk     voxel coordinates of the scan as stored
    ras     *canonical* voxel coordinates: the scan's axes permuted and flipped so that axis 0, 1, 2 run
            closest to right, anterior, superior. Spacing stays the scan's own; an oblique scan stays oblique.
    crop    voxel coordinates of an isotropic crop cut along the canonical axes

All three share the convention that integer coordinates are voxel centres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .types import Volume, VoxelBox

__all__ = ["CanonicalAxes", "CropFrame", "axis_weights", "paste_positions", "resample_axes", "sample_crop"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CanonicalAxes:
    """How a scan's voxel axes map to right, anterior, superior.

    Attributes:
        axes: voxel axis (0 = i, 1 = j, 2 = k) that runs closest to R, A, S.
        flips: whether that axis runs the other way (to L, P, I).
        shape: canonical size in voxels.
        spacing: canonical voxel size in mm.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]

    @classmethod
    def of(cls, volume: Volume) -> CanonicalAxes:
        cosines = volume.ijk_to_ras[:3, :3] / np.asarray(volume.spacing_ijk)  # [world axis, voxel axis]
        axes = max(permutations(range(3)), key=lambda p: sum(abs(cosines[w, v]) for w, v in enumerate(p)))
        flips = tuple(bool(cosines[w, v] < 0) for w, v in enumerate(axes))
        shape = tuple(volume.shape_ijk[v] for v in axes)
        spacing = tuple(volume.spacing_ijk[v] for v in axes)
        return cls(axes, flips, shape, spacing)  # type: ignore[arg-type]

    def from_ijk(self, points_ijk: Sequence[float] | Floats) -> Floats:
        """(..., 3) voxel coordinates ijk -> canonical voxel coordinates."""
        points = np.asarray(points_ijk, dtype=np.float64)[..., list(self.axes)]
        last = np.asarray(self.shape) - 1.0
        return np.where(self.flips, last - points, points)

    def to_ijk(self, points_ras: Sequence[float] | Floats) -> Floats:
        """(..., 3) canonical voxel coordinates -> ijk; the inverse of `from_ijk`."""
        points = np.asarray(points_ras, dtype=np.float64)
        last = np.asarray(self.shape) - 1.0
        points = np.where(self.flips, last - points, points)
        out = np.empty_like(points)
        out[..., list(self.axes)] = points
        return out

    def box_from_ijk(self, box: VoxelBox) -> VoxelBox:
        """The same voxels as a canonical box."""
        corners = self.from_ijk(np.array([box.lower, np.asarray(box.upper) - 1]))
        return _corner_box(corners)

    def box_to_ijk(self, box_ras: VoxelBox) -> VoxelBox:
        """The same voxels as a box of the stored scan."""
        corners = self.to_ijk(np.array([box_ras.lower, np.asarray(box_ras.upper) - 1]))
        return _corner_box(corners)

    def per_array_axis(self, values: Sequence[Any]) -> list[Any]:
        """Reorder three per-canonical-axis values to the axes of an array indexed [k, j, i]."""
        out: list[Any] = [None, None, None]
        for value, voxel_axis in zip(values, self.axes, strict=True):
            out[2 - voxel_axis] = value
        return out

    def array_to_canonical(self, array: Tensor) -> Tensor:
        """Transpose a tensor indexed [k, j, i] to canonical axis order; flips are NOT applied."""
        return array.permute([2 - v for v in self.axes])

    def canonical_to_array(self, tensor: Tensor) -> Tensor:
        """Transpose a canonical tensor to [k, j, i]; flips are NOT applied."""
        order = [0, 0, 0]
        for canonical_axis, voxel_axis in enumerate(self.axes):
            order[2 - voxel_axis] = canonical_axis
        return tensor.permute(order)


def _corner_box(corners: Floats) -> VoxelBox:
    lower, upper = corners.min(axis=0).round().astype(int), corners.max(axis=0).round().astype(int) + 1
    return VoxelBox(tuple(lower.tolist()), tuple(upper.tolist()))


@dataclass(frozen=True, slots=True)
class CropFrame:
    """A crop of a scan, along its axes.

    Attributes:
        origin: canonical voxel coordinates of the crop's voxel (0, 0, 0).
        step: canonical voxels per crop voxel, per axis.
        size: crop voxels per axis; a crop may reach beyond the scan.
        voxel_mm: shortest edge of a crop voxel; it may be longer across thick slices.
        inside: None if voxels beyond the scan repeat its edge; otherwise the half-open range of crop
            indices per axis that lies on the scan, all others being zero (published preprocessing).
    """

    origin: tuple[float, float, float]
    step: tuple[float, float, float]
    size: tuple[int, int, int]
    voxel_mm: float
    inside: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None = None

    def from_canonical(self, points_ras: Sequence[float] | Floats) -> Floats:
        """(..., 3) canonical voxel coordinates -> crop voxel coordinates."""
        return (np.asarray(points_ras, dtype=np.float64) - self.origin) / self.step

    def to_canonical(self, points_crop: Sequence[float] | Floats) -> Floats:
        """(..., 3) crop voxel coordinates -> canonical voxel coordinates."""
        return np.asarray(points_crop, dtype=np.float64) * self.step + self.origin

    def positions(self, axis: int) -> Floats:
        """Canonical coordinates of the crop's voxel centres along one axis, (size,)."""
        return np.asarray(np.arange(self.size[axis]) * self.step[axis] + self.origin[axis])

    def coarsened(self, stride: int) -> CropFrame:
        """The grid whose voxels are `stride`^3 of the crop's: where a network with that mask stride answers."""
        shift = (stride - 1) / 2
        origin = tuple(o + shift * s for o, s in zip(self.origin, self.step, strict=True))
        step = tuple(s * stride for s in self.step)
        size = tuple(n // stride for n in self.size)
        return CropFrame(origin, step, size, self.voxel_mm * stride)  # type: ignore[arg-type]

    def box(
        self, shape: Sequence[int], lower: Sequence[float] = (0, 0, 0), upper: Sequence[float] | None = None
    ) -> VoxelBox:
        """The canonical voxels whose centres lie in the crop, or in its sub-range [lower, upper) of crop voxels.

        Args:
            shape: canonical size of the scan, to clip to.
        """
        upper = self.size if upper is None else upper
        begin = np.ceil(self.to_canonical(np.asarray(lower, dtype=np.float64) - 0.5) - 1e-9)
        end = np.floor(self.to_canonical(np.asarray(upper, dtype=np.float64) - 0.5) - 1e-9) + 1
        begin = np.maximum(begin, 0).astype(int)
        end = np.minimum(end, shape).astype(int)
        box = VoxelBox(tuple(begin.tolist()), tuple(end.tolist()))
        return VoxelBox.empty() if box.is_empty else box

    def contains(self, point_ras: Sequence[float] | Floats, margin: float = 0.0) -> bool:
        """Whether a canonical point lies in the crop, at least `margin` crop voxels from its faces."""
        crop = self.from_canonical(point_ras)
        return bool(((crop >= margin - 0.5) & (crop <= np.asarray(self.size) - 0.5 - margin)).all())


def resample_axes(
    array: NDArray[Any],
    positions: Sequence[Floats],
    widths: Sequence[float] = (1.0, 1.0, 1.0),
) -> Tensor:
    """Separable linear resampling of an array at a product of positions.

    Each axis is one small matrix product, so that anti-aliasing, edge replication and upsampling are the
    same code, and only the voxels that are needed are read: a 64^3 crop out of 512x512x400 int16 takes
    milliseconds. Where the filter is wide, voxels are read with a stride of half its width.

    Args:
        array: (n0, n1, n2), any real dtype.
        positions: for each axis the (m,) coordinates wanted; beyond the ends the edge value repeats.
        widths: half-width of the triangular filter per axis, in input voxels; 0 takes the nearest voxel,
            1 interpolates linearly, larger averages over what a coarser output voxel covers.

    Returns:
        (m0, m1, m2) float32.
    """
    part, matrices = array, []
    gathers: list[NDArray[np.int_] | None] = []
    for axis, (length, wanted, width) in enumerate(zip(array.shape, positions, widths, strict=True)):
        matrix, taken = axis_weights(np.asarray(wanted), length, float(width))
        span = slice(int(taken[0]), int(taken[-1]) + 1, int(taken[1] - taken[0]) if len(taken) > 1 else 1)
        even = np.array_equal(np.arange(span.start, span.stop, span.step), taken)
        part = part[(slice(None),) * axis + (span if even else slice(span.start, span.stop),)]
        gathers.append(None if even else taken - span.start)
        matrices.append(torch.from_numpy(matrix))
    for axis, gather in enumerate(gathers):  # all spans are cut before anything is copied
        if gather is not None:
            part = part.take(gather, axis=axis)
    # A read-only scan, as file readers and memory maps give it, is copied: torch warns of it and could write into it.
    block = torch.from_numpy(np.require(part, np.float32, ["C_CONTIGUOUS", "WRITEABLE"]))
    # The axis that shrinks most goes first, the one that grows most last.
    for axis in sorted(range(3), key=lambda a: matrices[a].shape[0] / matrices[a].shape[1]):
        block = _apply(matrices[axis], block, axis)
    return block


def _apply(matrix: Tensor, block: Tensor, axis: int) -> Tensor:
    """(m, n) times the (.., n, ..) axis of a 3D block."""
    if axis == 0:
        return (matrix @ block.reshape(block.shape[0], -1)).reshape(-1, *block.shape[1:])
    if axis == 1:
        return matrix @ block
    return block @ matrix.T


def axis_weights(wanted: Floats, length: int, width: float) -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    """The resampling filter of one axis as a matrix.

    Args:
        wanted: (m,) coordinates; beyond the ends the edge value repeats.
        length: voxels of the axis.
        width: half-width of the triangular filter in voxels, as for `resample_axes`.

    Returns:
        (m, n) float32 weights, rows summing to one, and the (n,) rising indices of the voxels they belong to.
    """
    wanted = np.clip(wanted, 0, length - 1)
    if width == 0.0:
        taken, nearest = np.unique(np.round(wanted).astype(int), return_inverse=True)
        return np.eye(len(taken), dtype=np.float32)[nearest], taken
    width = max(width, 1.0)
    if width == 1.0:
        taken = np.union1d(np.floor(wanted), np.ceil(wanted)).astype(int)
    else:
        first = max(0, math.floor(wanted.min() - width) + 1)
        last = min(length - 1, math.ceil(wanted.max() + width) - 1)
        taken = np.arange(first, last + 1, max(1, int(width // 2)))
    weights = np.maximum(0.0, 1.0 - np.abs(taken[None, :] - wanted[:, None]) / width)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32), taken


def sample_crop(
    array_kji: NDArray[Any],
    axes: CanonicalAxes,
    frame: CropFrame,
    method: Literal["nearest", "linear", "average"],
) -> Tensor:
    """Cut a crop out of a scan or any array on its grid.

    Args:
        array_kji: (K, J, I) array on the scan's grid.
        axes: the scan's canonical axes.
        frame: which crop.
        method: "average" weighs all voxels that a coarser crop voxel covers; at finer crops it is "linear".

    Returns:
        (D, H, W) float32 in canonical axis order R, A, S.
    """
    positions, widths = [], []
    for axis in range(3):
        wanted = frame.positions(axis)
        positions.append(axes.shape[axis] - 1 - wanted if axes.flips[axis] else wanted)
        widths.append({"nearest": 0.0, "linear": 1.0, "average": max(1.0, frame.step[axis])}[method])
    block = resample_axes(array_kji, axes.per_array_axis(positions), axes.per_array_axis(widths))
    crop = axes.array_to_canonical(block).contiguous()
    if frame.inside is not None:
        for axis, (begin, end) in enumerate(frame.inside):
            crop.narrow(axis, 0, begin).zero_()
            crop.narrow(axis, end, crop.shape[axis] - end).zero_()
    return crop


def paste_positions(axes: CanonicalAxes, frame: CropFrame, box_ras: VoxelBox, stride: int) -> list[Floats]:
    """Where the voxels of a canonical box lie on a crop's logit grid.

    Args:
        stride: crop voxels per logit voxel; logit voxel t is centred at crop coordinate (t + 0.5) * stride - 0.5.

    Returns:
        Per canonical axis, the logit-grid coordinate of each voxel of the box, in the order in which the
        stored array (not the canonical one) runs along that axis.
    """
    out = []
    for axis in range(3):
        voxels = np.arange(box_ras.lower[axis], box_ras.upper[axis], dtype=np.float64)
        crop = (voxels - frame.origin[axis]) / frame.step[axis]
        grid = (crop + 0.5) / stride - 0.5
        out.append(grid[::-1] if axes.flips[axis] else grid)
    return out
