"""Choosing what a person might want to segment in a labelled crop."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .components import component_labels
from .draw import Draw

__all__ = ["LARGEST_SHARE", "choose_targets", "visible"]

_FAINT, _KEEP_FAINT = 0.5, 0.1
# Unions are a quarter because without the wholes that parts belong to, 4 500 steps made a click on a brain take a piece
# of it: Dice after 1 / 3 / 5 clicks .94 / .93 / .94 -> .02 / .04 / .05, and after 400 more with them .51 / .88 / .94.
_UNION, _ALL_AROUND, _CONNECTED = 0.25, 0.6, 0.92
_ENOUGH = 0.3  # of a crop: a union grows no further
LARGEST_SHARE = 0.6  # of a crop, at most, in one target


def choose_targets(draw: Draw, labels: Tensor, focus: int | None, wanted: int, background: int = 0) -> list[Tensor]:
    """Up to `wanted` masks: structures, unions of touching ones, wholes with all their parts; mostly one piece.

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
            mask = _with_neighbours(draw, labels, mask, background)
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


def _with_neighbours(draw: Draw, labels: Tensor, mask: Tensor, background: int) -> Tensor:
    """The mask and a structure that touches it; or all that do, now and then with all around those: a whole."""
    if not draw.chance(_ALL_AROUND):
        touching = _touching(labels, mask, background)
        return mask | (labels == draw.choice(touching)) if touching else mask
    for _ in range(draw.integer(1, 2)):
        touching = _touching(labels, mask, background)
        mask = mask | torch.isin(labels, torch.tensor(touching, dtype=labels.dtype, device=labels.device))
        if float(mask.float().mean()) > _ENOUGH:
            break
    return mask


def _touching(labels: Tensor, mask: Tensor, background: int) -> list[int]:
    """Labels from `background` on that border on a mask."""
    grown = F.max_pool3d(mask[None, None].float(), 3, 1, 1)[0, 0] > 0
    return [k for k in torch.unique(labels[grown & ~mask]).tolist() if k >= background]


def _piece(draw: Draw, mask: Tensor, smallest: int) -> Tensor:
    """One connected component, any that is not tiny."""
    pieces, sizes = component_labels(mask)
    if sum(size > 0 for size in sizes) <= 1:
        return mask
    large = [k for k, size in enumerate(sizes) if size >= max(smallest, 0.25 * max(sizes))]
    if not large:
        return torch.zeros_like(mask)
    return pieces == draw.choice(large)
