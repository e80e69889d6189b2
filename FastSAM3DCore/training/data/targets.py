"""Choosing what a person might want to segment in a labelled crop."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .components import component_labels
from .draw import Draw

__all__ = ["LARGEST_SHARE", "choose_targets", "visible"]

_FAINT, _KEEP_FAINT = 0.5, 0.1
_UNION, _CONNECTED = 0.08, 0.92
LARGEST_SHARE = 0.6  # of a crop, at most, in one target


def choose_targets(draw: Draw, labels: Tensor, focus: int | None, wanted: int, background: int = 0) -> list[Tensor]:
    """Up to `wanted` masks: structures or unions of touching ones, mostly one connected piece.

    Args:
        draw: random numbers.
        labels: (D, H, W) int64.
        focus: label to try first, or None.
        wanted: how many masks.
        background: labels below this are never targets.

    Returns:
        Masks (D, H, W) bool, each between a few voxels and 60 % of the crop; maybe fewer than wanted, maybe none.
    """
    counts = torch.bincount(labels.flatten()).tolist()
    smallest = _smallest(labels.numel())
    largest = LARGEST_SHARE * labels.numel()
    usable = [k for k, n in enumerate(counts) if k >= background and smallest <= n <= largest]
    draw.python.shuffle(usable)
    if focus in usable:
        usable.remove(focus)
        usable.insert(0, focus)
    masks: list[Tensor] = []
    for label in usable:
        mask = labels == label
        if draw.chance(_UNION):
            mask = _with_neighbour(draw, labels, mask, background)
        if draw.chance(_CONNECTED):
            mask = _piece(draw, mask, smallest)
        size = int(mask.sum())
        if smallest <= size <= largest:
            masks.append(mask)
        if len(masks) == wanted:
            break
    return masks


def visible(draw: Draw, image: Tensor, masks: list[Tensor]) -> list[Tensor]:
    """Drop most targets that nobody could see: mean differs from the surrounding shell by under half a deviation.

    Synthetic scenes hide about a third of their targets under texture and noise; a share of those is kept, since real
    borders fade too.
    """
    if not masks:
        return masks
    inside = F.avg_pool3d(torch.stack(masks)[:, None].float(), 2)  # (K, 1, d, h, w)
    shell = (F.max_pool3d(inside, 5, 1, 2) - inside).clamp(min=0)
    values = F.avg_pool3d(image[None, None], 2)
    moments = []
    for weight in (inside, shell):
        total = weight.sum((1, 2, 3, 4)) + 1e-6
        mean = (weight * values).sum((1, 2, 3, 4)) / total
        moments.append((mean, (weight * values.square()).sum((1, 2, 3, 4)) / total - mean.square()))
    (mean, variance), (around, spread) = moments
    contrast = (mean - around).abs() / (0.5 * (variance + spread)).clamp(min=1e-8).sqrt()
    return [m for m, c in zip(masks, contrast.tolist(), strict=True) if c > _FAINT or draw.chance(_KEEP_FAINT)]


def _smallest(voxels: int) -> int:
    return 10 if voxels < 48**3 else 40


def _with_neighbour(draw: Draw, labels: Tensor, mask: Tensor, background: int) -> Tensor:
    grown = F.max_pool3d(mask[None, None].float(), 3, 1, 1)[0, 0] > 0
    touching = [k for k in torch.unique(labels[grown & ~mask]).tolist() if k >= background]
    return mask | (labels == draw.choice(touching)) if touching else mask


def _piece(draw: Draw, mask: Tensor, smallest: int) -> Tensor:
    """One connected component, any that is not tiny."""
    pieces, sizes = component_labels(mask)
    if sum(size > 0 for size in sizes) <= 1:
        return mask
    large = [k for k, size in enumerate(sizes) if size >= max(smallest, 0.25 * max(sizes))]
    if not large:
        return torch.zeros_like(mask)
    return pieces == draw.choice(large)
