"""Which of several looks at a click to believe: answers in crops of several sizes, one of which fits the structure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from ..engine import Engine
from .acceptance import Focus, Proposal, dilate, near_focus

__all__ = ["conviction", "most_convincing"]

# What counts beside the Dice that a look's own probabilities promise, chosen on first clicks at 284 places in 56 scans,
# answered by two sets of weights: mean Dice .554 and .553 at 186 places in training scans, .555 and .556 at 98 places
# in scans never trained on; .543, .537, .532 and .533 with the mean probability inside instead of the promised Dice
# and other weights; .614, .619, .611 and .613 if the best look were always taken.
# An edge as strong as the noise around it:
EDGE_WEIGHT = 0.03
# A mask that fills a smaller share of its crop than this is worth less, by this much each time it is e times smaller:
# a tighter look would show it better.
GOOD_SHARE = 0.08
SMALLNESS_WEIGHT = 0.02
# A mask that fills more of its crop than this has no surroundings to stand out from.
CROWDED_SHARE = 0.5
# Finding what the other looks find as well. Weighed more, the parts of a brain, which agree with each other, would be
# taken for the whole.
AGREEMENT_WEIGHT = 0.1
# How far around a mask, in voxels of its grid, unsure voxels count against it; farther ones may be other structures.
SURROUNDINGS = 3


def most_convincing(engine: Engine, answers: Sequence[Proposal], focus: Focus) -> Proposal:
    """The answer that looks most like a structure: sure of its extent, set off from what is around, seen by others too.

    Args:
        engine: whose crops the answers are about.
        answers: at least one, of the same prompts.
        focus: what the newest prompt is about; only what is connected to it counts.
    """
    if len(answers) == 1:
        return answers[0]
    stride = engine.traits.mask_stride
    found = [near_focus(answer.logits > 0, answer.frame, focus, stride) for answer in answers]
    scores = [_conviction(engine, answer, mask) for answer, mask in zip(answers, found, strict=True)]
    for a, b in combinations([n for n, mask in enumerate(found) if bool(mask.any())], 2):
        worth = AGREEMENT_WEIGHT * _agreement(answers[a], found[a], answers[b], found[b], stride) / (len(answers) - 1)
        scores[a] += worth
        scores[b] += worth
    return answers[int(np.argmax(scores))]


def conviction(engine: Engine, answer: Proposal, focus: Focus) -> float:
    """How much an answer looks like a structure, apart from what other looks find; minus infinity if it is empty."""
    found = near_focus(answer.logits > 0, answer.frame, focus, engine.traits.mask_stride)
    return _conviction(engine, answer, found)


def _conviction(engine: Engine, answer: Proposal, found: Tensor) -> float:
    """The Dice it promises and the step of grey across the border, less what is lost on emptiness around it."""
    share = float(found.float().mean())
    if share == 0:
        return -math.inf
    if share > CROWDED_SHARE:
        return 0.0
    worth = _promised_dice(answer.logits, found)
    worth -= SMALLNESS_WEIGHT * max(0.0, math.log(GOOD_SHARE / share))
    stride = engine.traits.mask_stride
    image = engine.image(answer.frame)
    if stride > 1:
        image = torch.nn.functional.avg_pool3d(image[None, None], stride)[0, 0]
    rim, surroundings = found & (dilate(~found) > 0), ~found & (dilate(found) > 0)
    step = (image[rim].mean() - image[surroundings].mean()).abs()
    return worth + EDGE_WEIGHT * float(step / (image[rim | surroundings].std() + 1e-3))


def _promised_dice(logits: Tensor, found: Tensor) -> float:
    """The Dice to expect of a mask if its voxels and those around it are inside as often as the logits say."""
    probability = torch.sigmoid(logits)
    inside = probability[found].sum()
    everything = probability[dilate(found, SURROUNDINGS) > 0].sum()
    return float(2 * inside / (found.sum() + everything))


def _agreement(one: Proposal, found: Tensor, other: Proposal, also: Tensor, stride: int) -> float:
    """Dice of two masks on their own grids, by volume."""
    if other.frame.voxel_mm < one.frame.voxel_mm:
        one, found, other, also = other, also, one, found  # what they share is counted on the finer grid
    grid, coarser = one.frame.coarsened(stride), other.frame.coarsened(stride)
    seen = torch.nn.functional.pad(also, [1] * 6)  # whatever lies outside is the false voxel around it
    for axis, size in enumerate(also.shape):
        nearest = np.round((grid.positions(axis) - coarser.origin[axis]) / coarser.step[axis]).astype(np.int64)
        seen = seen.index_select(axis, torch.from_numpy(np.clip(nearest, -1, size) + 1))
    voxel, voxel_of_other = np.prod(grid.step), np.prod(coarser.step)
    shared = int((found & seen).sum()) * voxel
    return float(2 * shared / (int(found.sum()) * voxel + int(also.sum()) * voxel_of_other))
