"""Loss terms and the Dice score, all per target."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["candidate_loss", "dice_score", "mask_loss", "soft_overlap"]


def soft_dice_loss(probability: Tensor, target: Tensor) -> Tensor:
    """One minus soft Dice over the last three axes, smoothed by one voxel."""
    axes = (-3, -2, -1)
    both = 2 * (probability * target).sum(axes) + 1
    return 1 - both / (probability.sum(axes) + target.sum(axes) + 1)


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy plus soft Dice.

    Args:
        logits: (N, M, D, H, W).
        target: (N, 1, D, H, W) in 0..1.

    Returns:
        (N, M).
    """
    wanted = target.expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean((-3, -2, -1))
    return entropy + soft_dice_loss(torch.sigmoid(logits), wanted)


def candidate_loss(logits: Tensor, target: Tensor) -> Tensor:
    """(N,): the best of the candidates counts, the others a little so that none dies."""
    each = mask_loss(logits, target)
    return each.amin(1) + 0.05 * each.mean(1)


@torch.no_grad()
def soft_overlap(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of the thresholded masks (N, M) with the target (N, 1, ...): what the quality head predicts."""
    hard, wanted = logits > 0, target.expand_as(logits) > 0.5
    both = (hard & wanted).sum((-3, -2, -1)).float()
    either = (hard | wanted).sum((-3, -2, -1)).float()
    return both / either.clamp(min=1)


@torch.no_grad()
def dice_score(logits: Tensor, target: Tensor) -> Tensor:
    """(N,): Dice of the thresholded mask; logits (N, 1, D, H, W), target (N, D, H, W) bool."""
    hard = logits[:, 0] > 0
    both = (hard & target).flatten(1).sum(1).float()
    total = hard.flatten(1).sum(1) + target.flatten(1).sum(1)
    return torch.where(total > 0, 2 * both / total.clamp(min=1), torch.ones_like(both))
