"""Cutting oriented crops of any zoom out of a volume."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .draw import Draw, Shape

__all__ = ["Crop", "random_crop", "sample_image", "sample_labels"]

_UPRIGHT, _TURNED, _FLIPS = 0.45, 0.3, 0.5


@dataclass(frozen=True, slots=True)
class Crop:
    """Where a crop's voxels lie in a volume.

    Attributes:
        index: (3, D, H, W) float voxel indices into the volume.
        step: (3,) volume voxels per crop voxel along each volume axis, for anti-aliasing.
        inside: (D, H, W) bool, voxels within the volume.
        voxel_mm: (3,) size of a crop voxel along each crop axis.
    """

    index: Tensor
    step: tuple[float, float, float]
    inside: Tensor
    voxel_mm: tuple[float, float, float]


def random_crop(
    draw: Draw, lower: Tensor, upper: Tensor, spacing: Tensor, size: Tensor, shape: Shape, minimum: float
) -> Crop:
    """A crop around an object: extent times a random factor, random place, orientation and aspect.

    Args:
        draw: random numbers.
        lower: (3,) lowest voxel index of the object's box.
        upper: (3,) one beyond the highest.
        spacing: (3,) mm.
        size: (3,) shape of the volume.
        shape: of the crop.
        minimum: smallest field of view along the longest crop axis, mm.
    """
    extent = float(((upper - lower) * spacing).max())
    factor = draw.log_uniform(0.8, 2.8) if draw.chance(0.88) else draw.log_uniform(2.8, 6.0)
    view = min(max(extent * factor, minimum), 1.3 * float((size * spacing).max()))
    centre = ((lower + upper) / 2 - 0.5) * spacing
    slack = max(0.25 * view, 0.5 * (view - extent) * draw.uniform(0, 1))
    centre = centre + (draw.host_rand(3) * 2 - 1) * min(slack, 0.5 * view)
    voxel = torch.full((3,), view / max(shape))
    if draw.chance(0.25):
        voxel[draw.integer(0, 2)] *= draw.log_uniform(0.5, 2.0)
    axes = [(torch.arange(n) - (n - 1) / 2) * voxel[a] for a, n in enumerate(shape)]
    turn = _orientation(draw)
    place = torch.stack(torch.meshgrid(*(a.to(draw.device) for a in axes), indexing="ij"))
    # rows of `turn` are the crop axes in volume axes (mm), then to voxels of the volume
    matrix = turn.T / spacing[:, None]
    index = (
        torch.einsum("ij,jdhw->idhw", matrix.to(draw.device), place)
        + (centre / spacing).to(draw.device)[:, None, None, None]
    )
    limit = size.to(draw.device)[:, None, None, None]
    inside = ((index > -0.5) & (index < limit - 0.5)).all(0)
    step = (matrix.abs() * voxel).amax(1)
    depth, height, width = voxel.tolist()
    return Crop(index, (float(step[0]), float(step[1]), float(step[2])), inside, (depth, height, width))


def _orientation(draw: Draw) -> Tensor:
    """(3, 3), rows are the crop's axes in the volume's: as sessions see it or mirrored, on end, or askew."""
    kind = draw.uniform(0, 1)
    if kind < _UPRIGHT:  # a session's crop has the volume's axes: what is left is known from what is right
        return torch.diag(torch.tensor([draw.choice([-1.0, 1.0]), 1.0, 1.0]))
    turn = draw.host_rotation() if kind < _UPRIGHT + _TURNED else torch.eye(3)[draw.python.sample(range(3), 3)]
    if draw.chance(_FLIPS):
        turn = turn * torch.tensor([draw.choice([-1.0, 1.0]) for _ in range(3)])[:, None]
    return turn


def sample_labels(volume: Tensor, crop: Crop) -> Tensor:
    """Nearest labels; edges replicated. (D, H, W) int64."""
    size = volume.shape
    cells = [crop.index[a].round().long().clamp(0, size[a] - 1) for a in range(3)]
    flat = (cells[0] * size[1] + cells[1]) * size[2] + cells[2]
    return volume.reshape(-1)[flat.reshape(-1)].reshape(flat.shape).long()


def sample_image(volume: Tensor, crop: Crop) -> Tensor:
    """Trilinear intensities of the part that the crop sees, averaged first where it is much coarser."""
    ends = torch.stack([crop.index.amin((1, 2, 3)).floor(), crop.index.amax((1, 2, 3)).ceil()]).tolist()  # waits once
    lower = [max(0, int(ends[0][a]) - 1) for a in range(3)]
    upper = [min(volume.shape[a], int(ends[1][a]) + 2) for a in range(3)]
    window = [
        (lo, hi) if lo < hi else _nearest_slab(lo, n) for lo, hi, n in zip(lower, upper, volume.shape, strict=True)
    ]
    part = volume[tuple(slice(lo, hi) for lo, hi in window)].float()[None, None]
    pool = [max(1, min(int(crop.step[a] + 0.3), part.shape[2 + a])) for a in range(3)]
    part = F.avg_pool3d(part, pool, ceil_mode=True, count_include_pad=False)
    size = part.shape[2:]
    unit = []
    for a in (2, 1, 0):  # grid_sample wants x, y, z
        cell = (crop.index[a] - window[a][0] + 0.5) / pool[a]  # in pooled cells, left edge at 0
        unit.append(cell / size[a] * 2 - 1)
    grid = torch.stack(unit, -1)[None]
    return F.grid_sample(part, grid, mode="bilinear", padding_mode="border", align_corners=False)[0, 0]


def _nearest_slab(index: int, length: int) -> tuple[int, int]:
    at = min(max(index, 0), length - 1)
    return at, at + 1
