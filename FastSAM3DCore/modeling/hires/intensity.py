"""Two views of the same voxels that make CT and MR look alike, whatever the unit."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["two_channels"]

_SAMPLES = 16384
_KNOTS = 257
_BUCKETS = 16384


def two_channels(image: Tensor) -> Tensor:
    """Robust min-max and histogram-equalised rank, both in [-1, 1].

    The rank gives CT soft tissue contrast without a window and is unchanged by any monotone scaling of the
    intensities; min-max keeps the relative size of steps. Both are invariant to affine scaling.

    Args:
        image: (B, 1, D, H, W), any intensities.

    Returns:
        (B, 2, D, H, W) float32; a constant crop maps to -1 everywhere.
    """
    x = image.float().flatten(1)  # (B, V)
    stride = max(1, x.shape[1] // _SAMPLES)
    if stride > 1 and stride % 2 == 0:
        stride += 1  # an odd stride visits all columns of a grid with even sides
    ordered = x[:, ::stride].sort(1).values
    count = ordered.shape[1]
    low = ordered[:, int(0.005 * count), None]
    high = ordered[:, max(0, int(0.995 * count) - 1), None]
    span = (high - low).clamp(min=1e-6)
    linear = ((x - low) / span).clamp(-0.1, 1.1) * 2 - 1
    picks = torch.linspace(0, count - 1, _KNOTS, device=x.device).long()
    # Strictly rising knots: equal quantiles (air in CT) must not make zero-width bins.
    knots = ordered[:, picks] + torch.arange(_KNOTS, device=x.device) * span * 1e-6
    right = _next_knot(knots, x)
    below, above = knots.gather(1, right - 1), knots.gather(1, right)
    share = ((x - below) / (above - below).clamp(min=1e-12)).clamp(0, 1)
    rank = (right - 1 + share) / (_KNOTS - 1) * 2 - 1
    return torch.stack([linear, rank], 1).reshape(image.shape[0], 2, *image.shape[2:])


def _next_knot(knots: Tensor, x: Tensor) -> Tensor:
    """Index of the first knot not below each value, clamped so that there is one before it: (B, V) int64.

    Read from a table over equal buckets of the range: between a knot and the end of its bucket, values keep that knot's
    rank. For evenly spread values that is off by 1/64 of a knot's share at most, less than bfloat16 can hold. Where
    many voxels are equal (air) several knots share a bucket, and the first one is named, as a search would.
    A binary search per voxel takes 12 ms for 64^3 on one Zen 4 core, this 1 ms.
    """
    first, last = knots[:, :1], knots[:, -1:]
    width = (last - first).clamp(min=1e-12) / _BUCKETS
    # A thousandth early, so that rounding never puts a knot before the bucket of its own value.
    starts = first + width * (torch.arange(_BUCKETS, device=x.device) - 1e-3)
    table = torch.searchsorted(knots, starts).clamp(1, _KNOTS - 1)  # (B, _BUCKETS)
    bucket = ((x - first) / width).clamp(0, _BUCKETS - 1)
    return table.gather(1, bucket.int().long())  # by way of int32: 0.1 ms instead of 0.16
