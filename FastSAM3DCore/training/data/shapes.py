"""Label maps of random shapes: nested, touching, tubular, sheet-like and blobby structures."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .draw import Draw, Shape

__all__ = ["random_shapes"]


def random_shapes(draw: Draw, shape: Shape) -> tuple[Tensor, int]:
    """Paint a scene.

    Args:
        draw: random numbers; the result lives on its device.
        shape: (D, H, W), even sides.

    Returns:
        labels (D, H, W) int64 and their number (labels are 0..number - 1, some may be hidden).
    """
    half: Shape = (shape[0] // 2, shape[1] // 2, shape[2] // 2)
    grid = _warped_grid(draw, half)  # (3, d, h, w); distances are computed at half resolution
    labels, count = _background(draw, grid, shape)
    empty = count == 1
    for _ in range(draw.integer(2, 18) if empty else draw.integer(0, 10)):
        for mask in _object(draw, grid, shape):
            labels = torch.where(mask, count, labels)
            count += 1
    return labels, count


def background_regions(draw: Draw, shape: Shape) -> tuple[Tensor, int]:
    """A space-filling background alone."""
    half: Shape = (shape[0] // 2, shape[1] // 2, shape[2] // 2)
    return _background(draw, _warped_grid(draw, half), shape)


def _warped_grid(draw: Draw, shape: Shape) -> Tensor:
    longest = max(shape)
    axes = [torch.linspace(-n / longest, n / longest, n, device=draw.device) for n in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    grid = grid + draw.smooth(3, draw.integer(3, 5), shape) * draw.uniform(0, 0.18)
    if draw.chance(0.5):
        grid = grid + draw.smooth(3, draw.integer(6, 11), shape) * draw.uniform(0, 0.05)
    return grid


def _full(field: Tensor, shape: Shape) -> Tensor:
    return F.interpolate(field[None, None], size=shape, mode="trilinear", align_corners=True)[0, 0]


def _background(draw: Draw, grid: Tensor, shape: Shape) -> tuple[Tensor, int]:
    kind = draw.uniform(0, 1)
    if kind < 0.35:  # anisotropic Voronoi cells
        cells = draw.integer(3, 20)
        seeds = draw.rand(cells, 3) * 2.2 - 1.1
        stretch = draw.rotation() * torch.exp(draw.rand(3) - 0.5)
        distance = torch.cdist(grid.flatten(1).T @ stretch, seeds @ stretch) * torch.exp(draw.normal(cells) * 0.15)
        labels = distance.argmin(1).reshape(1, 1, *grid.shape[1:]).float()
        return F.interpolate(labels, size=shape, mode="nearest")[0, 0].long(), cells
    if kind < 0.6:
        layers = draw.integer(2, 7)
        return draw.smooth(layers, draw.integer(3, 10), shape).argmax(0), layers
    return torch.zeros(shape, dtype=torch.int64, device=draw.device), 1


def _object(draw: Draw, grid: Tensor, shape: Shape) -> list[Tensor]:
    kind = draw.uniform(0, 1)
    if kind < 0.5:
        return _ellipsoid(draw, grid, shape)
    if kind < 0.8:
        return _tube(draw, grid, shape)
    field = draw.smooth(1, draw.integer(3, 5) if kind < 0.88 else draw.integer(4, 11), shape)[0]
    if kind < 0.88:  # a sheet
        return [(field - draw.uniform(-0.7, 0.7)).abs() < draw.uniform(0.06, 0.3)]
    return [field > draw.uniform(0.8, 1.6)]


def _ellipsoid(draw: Draw, grid: Tensor, shape: Shape) -> list[Tensor]:
    """A superquadric, bumpy or not, with up to two nested cores."""
    centre = draw.rand(3) * 1.8 - 0.9
    radii = draw.log_uniform(0.08, 0.75) * torch.exp(draw.rand(3) - 0.5)
    power = draw.choice([2.0, 2.0, 2.0, 4.0, 1.3])
    local = (((grid.flatten(1).T - centre) @ draw.rotation()) / radii).abs()
    radius = local.pow(power).sum(1).pow(1 / power).reshape(grid.shape[1:])
    if draw.chance(0.35):
        half: Shape = (grid.shape[1], grid.shape[2], grid.shape[3])
        radius = radius + draw.smooth(1, draw.integer(5, 13), half)[0] * draw.uniform(0.02, 0.25)
    full = _full(radius, shape)
    levels = [1.0]
    if draw.chance(0.35):
        levels.append(draw.uniform(0.5, 0.92))
        if draw.chance(0.3):
            levels.append(draw.uniform(0.2, 0.5))
    return [full < level for level in levels]


def _tube(draw: Draw, grid: Tensor, shape: Shape) -> list[Tensor]:
    """A winding tube of changing radius, sometimes with branches or a wall."""
    t = torch.linspace(0, 1, 24, device=draw.device)[:, None]
    start, end = draw.rand(3) * 2 - 1, draw.rand(3) * 2 - 1
    if draw.chance(0.5):
        end = end * 1.5 / end.abs().max()
    line = start * (1 - t) + end * t
    for wave in (1, 2, 3):
        line = line + torch.sin(math.pi * wave * t) * draw.normal(3) * draw.uniform(0, 0.35) / wave
    radius = draw.log_uniform(0.03, 0.25)
    radii = radius * torch.exp(torch.sin(t[:, 0] * draw.uniform(1, 12) + draw.uniform(0, 6)) * draw.uniform(0, 0.4))
    lines, widths = [line], [radii]
    for _ in range(draw.integer(1, 3) if draw.chance(0.35) else 0):
        fork = line[draw.integer(4, 22)]
        lines.append(fork * (1 - t) + (fork + draw.normal(3) * 0.6) * t + torch.sin(math.pi * t) * draw.normal(3) * 0.2)
        widths.append(radii * draw.uniform(0.5, 1))
    distance = torch.cdist(grid.flatten(1).T.contiguous(), torch.cat(lines)) - torch.cat(widths)
    full = _full(distance.amin(1).reshape(grid.shape[1:]), shape)
    levels = [0.0, -radius * draw.uniform(0.2, 0.6)] if draw.chance(0.25) else [0.0]
    return [full < level for level in levels]
