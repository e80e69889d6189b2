"""A simulated person: first clicks, boxes, scribbles, rough masks, and corrections of what went wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .data.draw import Draw

__all__ = ["Dialogue", "corrective_clicks", "first_prompts"]

_SCRIBBLE = 5
_SLOPPY = 0.12
_ANYWHERE = 0.5
_JOINED = 0.5  # of the rough masks


@dataclass
class Dialogue:
    """What was said so far about N targets.

    Attributes:
        points: (N, P, 3) float crop voxels.
        labels: (N, P) int64, -1 for no point.
        boxes: (N, 2, 3) float, NaN for no box.
        mask: (N, 1, D, H, W) float logits, NaN for no mask yet; None if nobody has one.
        plain_click: (N,) bool, targets that begin with one click and nothing else (ambiguous).
    """

    points: Tensor
    labels: Tensor
    boxes: Tensor
    mask: Tensor | None
    plain_click: Tensor

    def add(self, points: Tensor, labels: Tensor) -> None:
        """Append one click per target: points (N, 3), labels (N,)."""
        self.points = torch.cat([self.points, points[:, None]], 1)
        self.labels = torch.cat([self.labels, labels[:, None]], 1)


def first_prompts(draw: Draw, targets: Tensor, box_share: float, mask_share: float, per_crop: int = 1) -> Dialogue:
    """Begin a dialogue about each target.

    Args:
        draw: random numbers.
        targets: (N, D, H, W) bool, none empty; those of one crop are neighbours.
        box_share: samples that begin with a box.
        mask_share: samples that begin with a degraded mask.
        per_crop: targets of each crop.
    """
    n = targets.shape[0]
    points = _start_clicks(draw, targets)[:, None].repeat(1, _SCRIBBLE, 1)
    labels = torch.full((n, _SCRIBBLE), -1, dtype=torch.int64, device=targets.device)
    labels[:, 0] = 1
    boxes = torch.full((n, 2, 3), torch.nan, device=targets.device)
    plain = torch.ones(n, dtype=torch.bool, device=targets.device)
    begun_with_mask, boxed = [], []
    for k in range(n):
        kind = draw.uniform(0, 1)
        if kind < box_share:
            boxed.append(_Looseness.drawn(draw, k))
            if draw.chance(0.6):
                labels[k, 0] = -1
            plain[k] = False
        elif kind < box_share + mask_share:
            begun_with_mask.append(k)
            labels[k, 0] = -1
            plain[k] = False
        elif kind < box_share + mask_share + 0.08:
            points[k] = _scribble(draw, targets[k], points[k, 0])
            labels[k] = 1
            plain[k] = False
    if boxed:
        rows = torch.tensor([box.target for box in boxed], device=targets.device)
        boxes[rows] = _boxes(targets[rows], points[rows, 0], boxed)
    mask = None
    if begun_with_mask:
        mask = targets.new_full((n, 1, *targets.shape[1:]), torch.nan, dtype=torch.float32)
        picked = torch.tensor(begun_with_mask, device=targets.device)
        mask[picked] = _degraded(draw, _joined(draw, targets, picked, per_crop))
        _some_corrections(draw, targets, mask, picked, points, labels)
    return Dialogue(points, labels, boxes, mask, plain)


def corrective_clicks(draw: Draw, error: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """One click per target inside a thick part of its error.

    A box filter of the error at half resolution plus noise stands in for the distance transform, which took most of
    a training step on the CPU.

    Args:
        draw: random numbers.
        error: (N, D, H, W) bool, mask differs from target.
        targets: (N, D, H, W) bool.

    Returns:
        points (N, 3) float and labels (N,) int64: 1 where the target was missed, 0 where too much was taken, -1 where
        nothing is wrong.
    """
    half = F.avg_pool3d(error[:, None].float(), 2)
    width = draw.choice([1, 3, 5])
    score = _box_mean(half, width)
    noise = draw.rand(*score.shape) * draw.choice([0.05, 0.25])
    score = (score + noise)[:, 0] * (half[:, 0] > 0)
    cell = _unravel(score.flatten(1).argmax(1), score.shape[1:]) * 2
    point = _voxel_of(draw, cell, error)
    rows = torch.arange(len(point), device=error.device)
    labels = targets[rows, point[:, 0], point[:, 1], point[:, 2]].long()
    nothing = ~error.flatten(1).any(1)
    return point.float(), torch.where(nothing, -1, labels)


def _box_mean(maps: Tensor, width: int) -> Tensor:
    """Means of (N, 1, D, H, W) over cubes of an odd width, one axis after the other."""
    for axis in range(3):
        kernel, pad = [1, 1, 1], [0, 0, 0]
        kernel[axis], pad[axis] = width, width // 2
        maps = F.avg_pool3d(maps, kernel, 1, pad)
    return maps


def _voxel_of(draw: Draw, cell: Tensor, masks: Tensor) -> Tensor:
    """(N, 3) among the eight voxels from `cell` (N, 3) on, one that is in its mask (N, D, H, W) if any is."""
    best, point = torch.full((len(cell),), -1.0, device=masks.device), cell
    rows = torch.arange(len(cell), device=masks.device)
    for corner in range(8):
        offset = torch.tensor([corner >> 2 & 1, corner >> 1 & 1, corner & 1], device=masks.device)
        at = cell + offset
        worth = masks[rows, at[:, 0], at[:, 1], at[:, 2]].float() + draw.rand(len(cell)) * 0.5
        point = torch.where((worth > best)[:, None], at, point)
        best = torch.maximum(best, worth)
    return point


def _unravel(index: Tensor, shape: torch.Size) -> Tensor:
    return torch.stack([index // (shape[1] * shape[2]), index // shape[2] % shape[1], index % shape[2]], 1)


def _start_clicks(draw: Draw, targets: Tensor) -> Tensor:
    """(N, 3): half anywhere inside, half about where the target is thickest, as people click; a few beside it."""
    anywhere = (draw.rand(*targets.shape) * targets).flatten(1).argmax(1)
    inside = _unravel(anywhere, targets.shape[1:]).float()
    pick = draw.rand(len(targets), 1) < _ANYWHERE
    points = torch.where(pick, inside, _thickest(draw, targets))
    sloppy = (draw.rand(len(targets), 1) < _SLOPPY).float()
    points = points + sloppy * (draw.rand(len(targets), 3) * 3 - 1.5)
    limit = torch.tensor(targets.shape[1:], device=targets.device) - 1
    return torch.minimum(points.clamp(min=0), limit.float())


def _thickest(draw: Draw, targets: Tensor) -> Tensor:
    """(N, 3) about the deepest voxel of (N, D, H, W) targets.

    Box filters of growing width: narrow ones are full wherever it is deep, wide ones tell which of those is deepest.
    """
    half = F.avg_pool3d(targets[:, None].float(), 2)
    score = half + draw.rand(*half.shape) * draw.choice([0.05, 0.25])
    for width in (3, 5, 9, 15):
        if width > min(half.shape[2:]):
            break
        score = score + _box_mean(half, width)
    score = torch.where(half > 0.5, score, half)  # where nothing is half full, the fullest
    return _voxel_of(draw, 2 * _unravel(score.flatten(1).argmax(1), score.shape[2:]), targets).float()


@dataclass(frozen=True, slots=True)
class _Looseness:
    """How a box about target number `target` is drawn: around all of it, or in the slice of the click across `axis`."""

    target: int
    axis: int | None
    share: float
    voxels: float
    lower: Tensor
    upper: Tensor

    @classmethod
    def drawn(cls, draw: Draw, target: int) -> _Looseness:
        axis = draw.integer(0, 2) if draw.chance(0.25) else None
        share, voxels = draw.uniform(0, 0.12), draw.uniform(0, 1.5)
        return cls(target, axis, share, voxels, draw.host_rand(3), draw.host_rand(3))


def _boxes(targets: Tensor, clicks: Tensor, how: list[_Looseness]) -> Tensor:
    """(N, 2, 3): boxes of (N, D, H, W) targets, loosely drawn, all at once and without asking the device anything."""
    device = targets.device
    lower, upper, _ = _extents(targets)
    flat = torch.zeros(len(how), 3, dtype=torch.bool, device=device)
    for axis in range(3):
        numbers = [n for n, box in enumerate(how) if box.axis == axis]
        if not numbers:
            continue
        rows = torch.tensor(numbers, device=device)
        click = clicks[rows, axis]
        view = [1, *(-1 if a == axis else 1 for a in range(3))]
        places = torch.arange(targets.shape[1 + axis], device=device).reshape(view)
        low, high, found = _extents(targets[rows] & (places == click.long().reshape(-1, 1, 1, 1)))
        low[:, axis], high[:, axis] = click.round(), click.round() + 1
        # a click beside its target has no slice of it
        lower[rows] = torch.where(found[:, None], low, lower[rows])
        upper[rows] = torch.where(found[:, None], high, upper[rows])
        flat[rows, axis] = found
    scale = torch.tensor([[box.share, box.voxels] for box in how], device=device)
    looseness = (upper - lower) * scale[:, :1] + scale[:, 1:]
    looseness = torch.where(flat, 0.0, looseness)
    shifts = torch.stack([torch.stack([box.lower, box.upper]) for box in how]).to(device) * 1.6 - 0.6  # (N, 2, 3)
    lower, upper = (lower - shifts[:, 0] * looseness).round(), (upper + shifts[:, 1] * looseness).round()
    limit = torch.tensor(targets.shape[1:], device=device, dtype=torch.float32)
    lower = torch.minimum(lower.clamp(min=0), limit - 1)
    return torch.stack([lower, torch.maximum(torch.minimum(upper, limit), lower + 1)], 1)


def _extents(masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Half-open boxes (N, 3), (N, 3) of (N, D, H, W) masks, and (N,) bool, whether there is anything."""
    lowest, highest = [], []
    for axis in range(3):
        others = [1 + a for a in range(3) if a != axis]
        profile = masks.any(others[1]).any(others[0]).int()  # (N, length)
        lowest.append(profile.argmax(1))
        highest.append(profile.shape[1] - profile.flip(1).argmax(1))
    return torch.stack(lowest, 1).float(), torch.stack(highest, 1).float(), masks.flatten(1).any(1)


def _scribble(draw: Draw, target: Tensor, click: Tensor) -> Tensor:
    """(_SCRIBBLE, 3): points inside the target not too far from the click."""
    places = target.nonzero().float()
    distance = (places - click).norm(dim=1)
    near = places[distance <= distance.amax() * draw.uniform(0.3, 1.0) + 1]
    if len(near) == 0:
        near = places
    picks = (draw.rand(_SCRIBBLE) * len(near)).long()
    return near[picks]


def _joined(draw: Draw, targets: Tensor, picked: Tensor, per_crop: int) -> Tensor:
    """The picked targets, half of them together with another one of their crop, as first answers often are."""
    other = (draw.rand(len(picked)) * per_crop).long() + picked // per_crop * per_crop
    both = draw.rand(len(picked)) < _JOINED
    return targets[picked] | (targets[other] & both[:, None, None, None])


def _degraded(draw: Draw, targets: Tensor) -> Tensor:
    """Logits of rough masks: coarse, shrunken or grown, a part missing or added."""
    shape = targets.shape[1:]
    soft = targets[:, None].float()
    factor = draw.choice([1, 2, 4, 4])
    if factor > 1:
        soft = F.interpolate(F.avg_pool3d(soft, factor), size=shape, mode="trilinear", align_corners=False)
    if draw.chance(0.4):
        width = draw.choice([3, 3, 5])
        sign = draw.choice([-1, 1])
        soft = sign * F.max_pool3d(sign * soft, width, 1, width // 2)
    if draw.chance(0.5):  # wave the border, cut pieces off and add others
        ripple = draw.smooth(len(targets), draw.integer(3, 12), (shape[0], shape[1], shape[2]))[:, None]
        soft = soft + ripple * draw.uniform(0.05, 0.35) * (soft > 0.02 if draw.chance(0.7) else 1.0)
    return (soft - 0.5) * draw.log_uniform(4, 20)


def _some_corrections(
    draw: Draw, targets: Tensor, mask: Tensor, picked: Tensor, points: Tensor, labels: Tensor
) -> None:
    """Half of the rough masks come with one click where they are wrong."""
    chosen = targets[picked]
    at, sign = corrective_clicks(draw, (mask[picked][:, 0] > 0) != chosen, chosen)
    said = draw.rand(len(picked)) < 0.5
    points[picked, 0] = at
    labels[picked, 0] = torch.where(said, sign, -1)
