"""3D sparse attention: half the heads look nearby, half look far, at a cost linear in the number of tokens.

After FastSAM3D (Shen et al., MICCAI 2024) and LongNet's dilated attention (Ding et al., 2023), in three
dimensions and with the token order restored after the groups are attended. For a grid of (d, h, w) tokens every
axis of n tokens is cut into ``s = ceil(n / window)`` segments of ``m = ceil(n / s)`` tokens:

* *local* heads attend within blocks of m neighbouring tokens per axis;
* *dilated* heads attend within the tokens whose index agrees modulo s, at most m per axis, spanning the grid.

Both cut the grid into the same number of groups of the same size, so all groups of all heads go through one
call of `torch.nn.functional.scaled_dot_product_attention`. On axes of up to window^2
tokens every token reaches every other in two layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .dense_attention import attend

__all__ = ["attention_pattern", "axis_segments", "dense_attention_3d", "sparse_attention_3d"]

Grid = tuple[int, int, int]


def axis_segments(length: int, window: int) -> tuple[int, int]:
    """Number of segments of an axis and tokens per segment, as even as can be, never more than `window`."""
    segments = -(-length // window)
    return segments, -(-length // segments)


def dense_attention_3d(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Plain softmax attention between all tokens; the same layout as `sparse_attention_3d`.

    Args:
        q: (B, heads, N, head_dim) queries; `k` and `v` alike.

    Returns:
        (B, heads, N, head_dim).
    """
    return attend(q, k, v)


def sparse_attention_3d(q: Tensor, k: Tensor, v: Tensor, grid: Grid, window: int = 4) -> Tensor:
    """Attend within local blocks (first half of the heads) and dilated groups (second half).

    Args:
        q: (B, heads, N, head_dim) queries with N = d * h * w tokens in C order; `k` and `v` alike.
        grid: (d, h, w); any size, axes need not be multiples of the window.
        window: largest number of tokens of a group along one axis.

    Returns:
        (B, heads, N, head_dim), tokens in the order they came in.

    Raises:
        ValueError: if the grid does not hold N tokens, the window is below 1 or there are less than two heads.
    """
    tokens, heads = q.shape[2], q.shape[1]
    if grid[0] * grid[1] * grid[2] != tokens:
        raise ValueError(f"a grid of {grid} does not hold {tokens} tokens; pass the shape of the token map")
    if window < 1 or heads < 2:
        raise ValueError(f"sparse attention needs window >= 1 and at least two heads, not {window} and {heads}")
    if max(grid) <= window:
        return dense_attention_3d(q, k, v)
    return _attend_groups(q, k, v, grid, window)


def attention_pattern(grid: Grid, window: int, dilated: bool, device: torch.device | None = None) -> Tensor:
    """Which token may attend to which: (N, N) bool, the definition that `sparse_attention_3d` computes fast."""
    ids = []
    for length in grid:
        segments, size = axis_segments(length, window)
        index = torch.arange(length, device=device)
        ids.append(index % segments if dilated else index // size)
    group = torch.stack(torch.meshgrid(*ids, indexing="ij"), -1).reshape(-1, 3)
    return (group[:, None] == group[None]).all(-1)


def _attend_groups(q: Tensor, k: Tensor, v: Tensor, grid: Grid, window: int) -> Tensor:
    cuts = [axis_segments(n, window) for n in grid]
    padding = [s * m - n for (s, m), n in zip(cuts, grid, strict=True)]
    q, k, v = (_split_groups(t, grid, cuts, padding) for t in (q, k, v))
    mask = None
    if any(padding):
        valid = torch.ones(1, 2, grid[0] * grid[1] * grid[2], 1, dtype=torch.bool, device=q.device)
        # (2 kinds, groups, tokens) -> (1, 2, 1, groups, 1, tokens): every query of a group sees its real tokens
        valid = _split_groups(valid, grid, cuts, padding)[0, :, :, :, 0]
        half = q.shape[1] // 2
        kinds = [valid[:1].expand(half, -1, -1), valid[1:].expand(q.shape[1] - half, -1, -1)]
        mask = torch.cat(kinds)[None, :, :, None, :]
        # A group made of padding only must still have something to attend to; its result is cut away.
        mask = mask | ~mask.any(-1, keepdim=True)
        mask = mask.expand(q.shape[0], -1, -1, -1, -1).flatten(0, 2)[:, None]
    batch, heads, groups, size, dim = q.shape
    q, k, v = (t.reshape(batch * heads * groups, 1, size, dim) for t in (q, k, v))
    out = attend(q, k, v, mask)
    return _join_groups(out.reshape(batch, heads, groups, size, dim), grid, cuts)


def _split_groups(x: Tensor, grid: Grid, cuts: list[tuple[int, int]], padding: list[int]) -> Tensor:
    """(B, heads, N, C) -> (B, heads, groups, tokens of a group, C)."""
    batch, heads, _, dim = x.shape
    x = x.reshape(batch, heads, *grid, dim)
    if any(padding):
        x = F.pad(x, (0, 0, 0, padding[2], 0, padding[1], 0, padding[0]))
    half = heads // 2
    (sd, md), (sh, mh), (sw, mw) = cuts
    # local: index = segment * m + token; dilated: index = token * s + segment
    local = x[:, :half].reshape(batch, half, sd, md, sh, mh, sw, mw, dim).permute(0, 1, 2, 4, 6, 3, 5, 7, 8)
    far = x[:, half:].reshape(batch, heads - half, md, sd, mh, sh, mw, sw, dim).permute(0, 1, 3, 5, 7, 2, 4, 6, 8)
    return torch.cat([local, far], 1).reshape(batch, heads, sd * sh * sw, md * mh * mw, dim)


def _join_groups(x: Tensor, grid: Grid, cuts: list[tuple[int, int]]) -> Tensor:
    """The inverse of `_split_groups`, padding removed."""
    batch, heads, _, _, dim = x.shape
    half = heads // 2
    (sd, md), (sh, mh), (sw, mw) = cuts
    x = x.reshape(batch, heads, sd, sh, sw, md, mh, mw, dim)
    full = (sd * md, sh * mh, sw * mw, dim)
    local = x[:, :half].permute(0, 1, 2, 5, 3, 6, 4, 7, 8).reshape(batch, half, *full)
    far = x[:, half:].permute(0, 1, 5, 2, 6, 3, 7, 4, 8).reshape(batch, heads - half, *full)
    joined = torch.cat([local, far], 1)[:, :, : grid[0], : grid[1], : grid[2]]
    return joined.reshape(batch, heads, grid[0] * grid[1] * grid[2], dim)
