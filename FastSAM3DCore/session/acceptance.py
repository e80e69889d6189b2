"""What of a network's answer is accepted: a prompt changes what it points at, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..distances import signed_distance
from ..geometry import CropFrame

__all__ = ["Focus", "Proposal", "components", "dilate", "near_focus", "restrict"]

# A correction may go this many crop voxels further than its click is deep. On 15 structures the mean Dice at three
# clicks was .574 without any such limit, .614 where twice the depth was allowed, .657 with it.
REACH_MARGIN = 1.0
# A negative click takes away at least the inner part of the largest ball around it that fits into the mask, whatever
# the network says: hand-painted voxels look like nothing it would ever have proposed.
CORE_SHARE = 0.7
SURE_LOGIT = 4.0
# A prompt that agrees with the mask may only touch up this neighbourhood, in crop voxels.
TOUCH_UP_VOXELS = 8.0
MAX_ANCHORS = 64


@dataclass(frozen=True, slots=True)
class Focus:
    """What the newest prompt is about, in canonical voxel coordinates.

    Attributes:
        centre: where to look.
        side_mm: extent to look at; None lets the structure decide.
        anchors: (P, 3) places that must end on the prompt's side of the mask.
        positive: which side.
    """

    centre: NDArray[np.float64]
    side_mm: float | None
    anchors: NDArray[np.float64]
    positive: bool


@dataclass(slots=True)
class Proposal:
    """A network's answer on a crop.

    Attributes:
        frame: the crop.
        logits: (d, h, w) proposed logits.
        previous: (d, h, w) logits so far, sampled on the same grid.
        accept: (d, h, w) how much of the proposal to take, 0..1.
        quality: IoU predicted by the network.
        level: logit above which a voxel is in the mask; 0 unless a person chose another threshold.
    """

    frame: CropFrame
    logits: Tensor
    previous: Tensor
    accept: Tensor
    quality: float
    level: float = 0.0

    @property
    def after(self) -> Tensor:
        """The proposed mask, bool (d, h, w)."""
        return self.logits > self.level

    @property
    def before(self) -> Tensor:
        """The mask so far, bool (d, h, w)."""
        return self.previous > self.level

    @property
    def changes(self) -> Tensor:
        """Voxels that would change sides, bool (d, h, w)."""
        return self.after != self.before


def restrict(proposal: Proposal, focus: Focus, stride: int, *, careful: bool) -> None:
    """Reject parts of a proposal that the prompt did not ask for.

    Args:
        proposal: changed in place.
        focus: what the prompt is about.
        stride: crop voxels per voxel of the proposal.
        careful: take only the change the prompt points at: a positive prompt adds what touches it, a
            negative one takes it away. From the second click on that scored .77 mean Dice after six clicks,
            taking all of every answer .75, and work already done is safe.
    """
    frame, before = proposal.frame, proposal.before
    voxels = frame.coarsened(stride).from_canonical(focus.anchors)
    inside = np.clip(np.round(voxels).astype(int), 0, np.asarray(before.shape) - 1)
    agreed = before.numpy()[tuple(inside.T)] == focus.positive
    if agreed.all() and bool(before.any()):
        proposal.accept *= _ball(before.shape, voxels, TOUCH_UP_VOXELS / stride)
    elif careful:
        depth, reach = _within_reach(before, inside, focus.positive)
        if not focus.positive:
            core = _ball(before.shape, voxels, CORE_SHARE * depth) > 0.5
            proposal.logits[core] = proposal.logits[core].clamp(max=min(-SURE_LOGIT, proposal.level))
        changes, asked = proposal.changes, proposal.after == focus.positive
        change = near_focus(changes & asked & (reach > 0), frame, focus, stride)
        # The change's blurred rim comes along, but for what changes sides the other way.
        proposal.accept *= dilate(change) * reach * (asked | ~changes)
    else:
        stray = proposal.after & ~before
        stray &= ~near_focus(proposal.after | before, frame, focus, stride)
        proposal.logits[stray] = torch.minimum(proposal.previous, proposal.logits)[stray]


def near_focus(flags: Tensor, frame: CropFrame, focus: Focus, stride: int) -> Tensor:
    """The connected components of `flags` that come within two voxels of the focus' anchors."""
    labels = components(flags)
    keep = set()
    for voxel in np.round(frame.coarsened(stride).from_canonical(focus.anchors)).astype(int):
        region = tuple(slice(max(0, v - 2), max(0, v + 3)) for v in voxel)
        keep.update(np.unique(labels[region]).tolist())
    keep.discard(0)
    return torch.from_numpy(np.isin(labels, list(keep)))


def components(flags: Tensor) -> NDArray[np.int32]:
    """Connected components (faces touch), 0 where `flags` is false."""
    image = sitk.GetImageFromArray(flags.numpy().astype(np.uint8))
    return np.asarray(sitk.GetArrayFromImage(sitk.ConnectedComponent(image)), dtype=np.int32)


def _ball(shape: Sequence[int], centres: NDArray[np.float64], radius: float) -> Tensor:
    """1 near any of the centres, falling to 0 over one voxel at `radius`."""
    grids = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij")
    nearest = torch.full(tuple(shape), torch.inf)
    for centre in centres[:MAX_ANCHORS]:
        distance = sum((grid - float(c)) ** 2 for grid, c in zip(grids, centre, strict=True))
        nearest = torch.minimum(nearest, distance)  # type: ignore[arg-type]
    return (radius + 0.5 - nearest.sqrt()).clamp(0, 1)


def _within_reach(before: Tensor, clicked: NDArray[np.int_], positive: bool) -> tuple[float, Tensor]:
    """How deep in the wrong the click is, in voxels, and where it may go, falling from 1 to 0 at its end, (d, h, w).

    A person clicks in the middle of what is wrong. So what is wrong goes on about as far behind the click as the click
    is from the mask's border, and along the border it is no thicker than that.
    """
    right = before == positive
    if not bool(right.any()):
        return 0.0, torch.ones(before.shape)
    away = signed_distance(right.numpy())
    depth = max(0.0, float(away[tuple(clicked.T)].max()))
    reach = depth + REACH_MARGIN
    along = (reach + 0.5 - torch.from_numpy(away)).clamp(0, 1)
    return depth, torch.maximum(along, _ball(before.shape, clicked.astype(np.float64), reach))


def dilate(flags: Tensor, reach: int = 1) -> Tensor:
    """The flags and what lies within `reach` voxels along the axes, as 0/1 weights.

    Shifted copies instead of pooling, which works on floats only: 64^3, one voxel, 21 -> 1.7 ms on two Zen 3 cores.
    """
    grown = flags
    for axis in range(3):
        for _ in range(reach):
            narrow = grown.movedim(axis, 0)
            wide = narrow.clone()
            wide[1:] |= narrow[:-1]
            wide[:-1] |= narrow[1:]
            grown = wide.movedim(0, axis)
    return grown.float()
