"""Sparse 3D attention with a relative-position bias, in plain PyTorch: reference and fallback of the kernel."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .sparse_attention import Grid, axis_segments

__all__ = ["biased_sparse_attention_3d"]


def biased_sparse_attention_3d(q: Tensor, k: Tensor, v: Tensor, grid: Grid, window: int, bias: Tensor) -> Tensor:
    """`sparse_attention_3d` with a learnt bias for every offset between two slots of a group.

    Args:
        q: (B, heads, N, head_dim) queries with N = d * h * w; `k` and `v` alike.
        grid: (d, h, w) tokens per axis.
        window: largest number of tokens of a group along one axis.
        bias: (heads, (2 * window - 1)^3), added to the scaled logits; flat index of query minus key slot, each
            axis shifted by window - 1.

    Returns:
        (B, heads, N, head_dim), tokens in the order they came in.
    """
    heads = q.shape[1]
    out = torch.empty_like(q)
    rows = _offset_rows(grid, window).to(q.device)
    for dilated, chosen in enumerate((slice(0, heads // 2), slice(heads // 2, heads))):
        tokens = _group_tokens(grid, window, bool(dilated)).to(q.device)  # (groups, slots), -1 for none
        real = tokens >= 0
        # (B, heads, N, C) -> (B, heads, groups, slots, C)
        picked = tokens.clamp(min=0)
        query, key, value = (t[:, chosen][:, :, picked] for t in (q, k, v))
        logits_bias = bias[chosen][:, rows][None, :, None].to(q.dtype)  # (1, heads, 1, slots, slots)
        mask = torch.where(real[:, None, :], logits_bias, float("-inf"))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out[:, chosen, tokens[real]] = attended[:, :, real]
    return out


@lru_cache(maxsize=16)
def _group_tokens(grid: Grid, window: int, dilated: bool) -> Tensor:
    """(groups, slots) flat token numbers; -1 where the grid ends before the group does."""
    numbers = torch.zeros(1, 1, dtype=torch.int64)
    inside = torch.ones(1, 1, dtype=torch.bool)
    for length in grid:
        segments, size = axis_segments(length, window)
        group, slot = torch.arange(segments)[:, None], torch.arange(size)[None, :]
        index = group + slot * segments if dilated else group * size + slot  # (segments, size)
        # outer product of the axes so far with this one, groups and slots kept apart
        numbers = (numbers[:, None, :, None] * length + index[None, :, None, :]).flatten(2).flatten(0, 1)
        inside = (inside[:, None, :, None] & (index < length)[None, :, None, :]).flatten(2).flatten(0, 1)
    return torch.where(inside, numbers, -1)


@lru_cache(maxsize=16)
def _offset_rows(grid: Grid, window: int) -> Tensor:
    """(slots, slots) row of the bias table for a query slot and a key slot."""
    sizes = [axis_segments(length, window)[1] for length in grid]
    row = torch.zeros(sizes[0] * sizes[1] * sizes[2], 1, dtype=torch.int64)
    for position in torch.meshgrid(*(torch.arange(size) for size in sizes), indexing="ij"):
        flat = position.reshape(-1)
        row = row * (2 * window - 1) + flat[:, None] - flat[None, :] + window - 1
    return row
