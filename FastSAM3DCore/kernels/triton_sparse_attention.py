# mypy: disable-error-code="untyped-decorator"
# ruff: noqa: N803 (compile-time constants are upper case in Triton)
"""Triton kernels of 3D sparse flash attention: every local and dilated group of every head in one launch.

The token grid (d, h, w) is partitioned twice, as in `sparse_attention`. With `blocks = ceil(size / window)` and
`span = ceil(size / blocks)` per axis, slot `m < span` of group `g < blocks` is the token at

    local heads     g * span + m            (cubes of neighbouring tokens)
    dilated heads   g + m * blocks          (cubes spread over the whole grid)

so both kinds are one affine map, computed in registers: no token is permuted or padded in memory, and the
output is written where its query was read. Tokens outside the grid are masked. Each group is a dense softmax
attention with an online softmax over key tiles (FlashAttention, Dao et al. 2022); the backward pass recomputes
the probabilities from the saved log-sum-exp. Accumulation is float32 for every input type.

This module imports Triton; `dispatch` decides whether it may be imported at all.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

__all__ = [
    "LOG2E",
    "SHAPE_ARGUMENTS",
    "attention_logits",
    "backward_kernel",
    "forward_kernel",
    "group_tokens",
    "load_rows",
]

LOG2E: Any = tl.constexpr(1.4426950408889634)
# Compiled once for all shapes; a value of 1 must not become a constant either, it is used as a tensor.
SHAPE_ARGUMENTS = ["heads", "local_heads", "grid_d", "grid_h", "grid_w", "blocks_d", "blocks_h", "blocks_w"]


@triton.jit
def _slot_offsets(slots: tl.tensor, SPAN_H: tl.constexpr, SPAN_W: tl.constexpr) -> tl.tensor:
    """Coordinates inside a group, per axis, of flat slot numbers."""
    return slots // (SPAN_H * SPAN_W), (slots // SPAN_W) % SPAN_H, slots % SPAN_W


@triton.jit
def group_tokens(
    slots: tl.tensor,
    group: tl.tensor,
    is_local: tl.tensor,
    grid_d: tl.tensor,
    grid_h: tl.tensor,
    grid_w: tl.tensor,
    blocks_d: tl.tensor,
    blocks_h: tl.tensor,
    blocks_w: tl.tensor,
    SPAN_D: tl.constexpr,
    SPAN_H: tl.constexpr,
    SPAN_W: tl.constexpr,
) -> tl.tensor:
    """Flat token numbers (int64, so that a stride times a token cannot overflow) and whether each slot is a token."""
    slot_d, slot_h, slot_w = _slot_offsets(slots, SPAN_H, SPAN_W)
    group_w = group % blocks_w
    group_h = (group // blocks_w) % blocks_h
    group_d = group // (blocks_w * blocks_h)
    d = tl.where(is_local, group_d * SPAN_D + slot_d, group_d + slot_d * blocks_d)
    h = tl.where(is_local, group_h * SPAN_H + slot_h, group_h + slot_h * blocks_h)
    w = tl.where(is_local, group_w * SPAN_W + slot_w, group_w + slot_w * blocks_w)
    valid = (slots < SPAN_D * SPAN_H * SPAN_W) & (d < grid_d) & (h < grid_h) & (w < grid_w)
    return ((d * grid_h + h) * grid_w + w).to(tl.int64), valid


@triton.jit
def load_rows(
    base: tl.tensor, tokens: tl.tensor, valid: tl.tensor, stride: tl.tensor, channels: tl.tensor, HEAD_DIM: tl.constexpr
) -> tl.tensor:
    """Gather (slots, channels) rows of one head; slots that are no token, and padding channels, read as zero."""
    mask = valid[:, None] & (channels < HEAD_DIM)[None, :]
    return tl.load(base + tokens[:, None] * stride + channels[None, :], mask=mask, other=0.0)


@triton.jit
def _store_rows(
    base: tl.tensor,
    tokens: tl.tensor,
    valid: tl.tensor,
    stride: tl.tensor,
    channels: tl.tensor,
    HEAD_DIM: tl.constexpr,
    rows: tl.tensor,
) -> None:
    """Scatter (slots, channels) rows of one head to their own tokens."""
    mask = valid[:, None] & (channels < HEAD_DIM)[None, :]
    tl.store(base + tokens[:, None] * stride + channels[None, :], rows.to(base.dtype.element_ty), mask=mask)


@triton.jit
def attention_logits(
    q: tl.tensor,
    k: tl.tensor,
    query_slots: tl.tensor,
    key_slots: tl.tensor,
    key_valid: tl.tensor,
    scale_log2: tl.tensor,
    bias_row: tl.tensor,
    WINDOW: tl.constexpr,
    SPAN_D: tl.constexpr,
    SPAN_H: tl.constexpr,
    SPAN_W: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tensor:
    """(queries, keys) attention logits in units of log 2, -inf where the key is no token."""
    logits = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale_log2
    if HAS_BIAS:
        qd, qh, qw = _slot_offsets(query_slots, SPAN_H, SPAN_W)
        kd, kh, kw = _slot_offsets(key_slots, SPAN_H, SPAN_W)
        side: tl.constexpr = 2 * WINDOW - 1
        row = qd[:, None] - kd[None, :] + WINDOW - 1
        row = row * side + qh[:, None] - kh[None, :] + WINDOW - 1
        row = row * side + qw[:, None] - kw[None, :] + WINDOW - 1
        inside = (query_slots < SPAN_D * SPAN_H * SPAN_W)[:, None] & key_valid[None, :]
        logits += tl.load(bias_row + row, mask=inside, other=0.0).to(tl.float32) * LOG2E
    return tl.where(key_valid[None, :], logits, float("-inf"))


@triton.jit(do_not_specialize=SHAPE_ARGUMENTS)
def forward_kernel(
    q_ptr: tl.tensor,
    k_ptr: tl.tensor,
    v_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    out_ptr: tl.tensor,
    lse_ptr: tl.tensor,
    q_b: tl.tensor,
    q_h: tl.tensor,
    q_n: tl.tensor,
    k_b: tl.tensor,
    k_h: tl.tensor,
    k_n: tl.tensor,
    v_b: tl.tensor,
    v_h: tl.tensor,
    v_n: tl.tensor,
    o_b: tl.tensor,
    o_h: tl.tensor,
    o_n: tl.tensor,
    heads: tl.tensor,
    local_heads: tl.tensor,
    grid_d: tl.tensor,
    grid_h: tl.tensor,
    grid_w: tl.tensor,
    blocks_d: tl.tensor,
    blocks_h: tl.tensor,
    blocks_w: tl.tensor,
    scale_log2: tl.tensor,
    WINDOW: tl.constexpr,
    SPAN_D: tl.constexpr,
    SPAN_H: tl.constexpr,
    SPAN_W: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK: tl.constexpr,
    TILES: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """One program: BLOCK queries of one group of one head. Heads vary fastest, so neighbours share cache lines."""
    program = tl.program_id(0)
    tile = program % TILES
    head = (program // TILES) % heads
    group_and_batch = program // (TILES * heads)
    groups = blocks_d * blocks_h * blocks_w
    group = group_and_batch % groups
    batch = (group_and_batch // groups).to(tl.int64)
    is_local = head < local_heads
    channels = tl.arange(0, BLOCK_C)
    query_slots = tile * BLOCK + tl.arange(0, BLOCK)
    queries, query_valid = group_tokens(
        query_slots, group, is_local, grid_d, grid_h, grid_w, blocks_d, blocks_h, blocks_w, SPAN_D, SPAN_H, SPAN_W
    )  # fmt: skip
    q = load_rows(q_ptr + batch * q_b + head * q_h, queries, query_valid, q_n, channels, HEAD_DIM)
    bias_row = bias_ptr + head * (2 * WINDOW - 1) * (2 * WINDOW - 1) * (2 * WINDOW - 1)

    # Every group holds its slot 0 (size > (blocks - 1) * span), so the maximum is finite from the first tile on.
    maximum = tl.full((BLOCK,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    weighted = tl.zeros((BLOCK, BLOCK_C), tl.float32)
    for key_tile in range(TILES):
        key_slots = key_tile * BLOCK + tl.arange(0, BLOCK)
        keys, key_valid = group_tokens(
            key_slots, group, is_local, grid_d, grid_h, grid_w, blocks_d, blocks_h, blocks_w, SPAN_D, SPAN_H, SPAN_W
        )  # fmt: skip
        k = load_rows(k_ptr + batch * k_b + head * k_h, keys, key_valid, k_n, channels, HEAD_DIM)
        v = load_rows(v_ptr + batch * v_b + head * v_h, keys, key_valid, v_n, channels, HEAD_DIM)
        logits = attention_logits(
            q, k, query_slots, key_slots, key_valid, scale_log2, bias_row,
            WINDOW, SPAN_D, SPAN_H, SPAN_W, HAS_BIAS, PRECISION,
        )  # fmt: skip
        new_maximum = tl.maximum(maximum, tl.max(logits, 1))
        correction = tl.exp2(maximum - new_maximum)
        weights = tl.exp2(logits - new_maximum[:, None])
        total = total * correction + tl.sum(weights, 1)
        weighted = weighted * correction[:, None]
        weighted += tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        maximum = new_maximum
    out = weighted / total[:, None]
    _store_rows(out_ptr + batch * o_b + head * o_h, queries, query_valid, o_n, channels, HEAD_DIM, out)
    tokens = (grid_d * grid_h * grid_w).to(tl.int64)
    tl.store(lse_ptr + (batch * heads + head) * tokens + queries, maximum + tl.log2(total), mask=query_valid)


@triton.jit(do_not_specialize=SHAPE_ARGUMENTS)
def backward_kernel(
    q_ptr: tl.tensor,
    k_ptr: tl.tensor,
    v_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    out_ptr: tl.tensor,
    grad_ptr: tl.tensor,
    lse_ptr: tl.tensor,
    dq_ptr: tl.tensor,
    dk_ptr: tl.tensor,
    dv_ptr: tl.tensor,
    q_b: tl.tensor,
    q_h: tl.tensor,
    q_n: tl.tensor,
    k_b: tl.tensor,
    k_h: tl.tensor,
    k_n: tl.tensor,
    v_b: tl.tensor,
    v_h: tl.tensor,
    v_n: tl.tensor,
    o_b: tl.tensor,
    o_h: tl.tensor,
    o_n: tl.tensor,
    heads: tl.tensor,
    local_heads: tl.tensor,
    grid_d: tl.tensor,
    grid_h: tl.tensor,
    grid_w: tl.tensor,
    blocks_d: tl.tensor,
    blocks_h: tl.tensor,
    blocks_w: tl.tensor,
    scale: tl.tensor,
    WINDOW: tl.constexpr,
    SPAN_D: tl.constexpr,
    SPAN_H: tl.constexpr,
    SPAN_W: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK: tl.constexpr,
    TILES: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """One program: gradients of BLOCK keys (dk, dv) and of the BLOCK queries of the same slots (dq).

    A token belongs to exactly one group per head, so no two programs write the same gradient: no atomics, and
    the result is the same bit for bit on every run. out, grad, dq, dk and dv share the strides o_*.
    """
    program = tl.program_id(0)
    tile = program % TILES
    head = (program // TILES) % heads
    group_and_batch = program // (TILES * heads)
    groups = blocks_d * blocks_h * blocks_w
    group = group_and_batch % groups
    batch = (group_and_batch // groups).to(tl.int64)
    is_local = head < local_heads
    scale_log2 = scale * LOG2E
    channels = tl.arange(0, BLOCK_C)
    own_slots = tile * BLOCK + tl.arange(0, BLOCK)
    own, own_valid = group_tokens(
        own_slots, group, is_local, grid_d, grid_h, grid_w, blocks_d, blocks_h, blocks_w, SPAN_D, SPAN_H, SPAN_W
    )  # fmt: skip
    bias_row = bias_ptr + head * (2 * WINDOW - 1) * (2 * WINDOW - 1) * (2 * WINDOW - 1)
    o_base = batch * o_b + head * o_h
    lse_base = lse_ptr + (batch * heads + head) * (grid_d * grid_h * grid_w).to(tl.int64)
    q_base = q_ptr + batch * q_b + head * q_h
    k_base = k_ptr + batch * k_b + head * k_h
    v_base = v_ptr + batch * v_b + head * v_h
    k = load_rows(k_base, own, own_valid, k_n, channels, HEAD_DIM)
    v = load_rows(v_base, own, own_valid, v_n, channels, HEAD_DIM)
    dq = tl.zeros((BLOCK, BLOCK_C), tl.float32)
    dk = tl.zeros((BLOCK, BLOCK_C), tl.float32)
    dv = tl.zeros((BLOCK, BLOCK_C), tl.float32)
    for other_tile in range(TILES):
        slots = other_tile * BLOCK + tl.arange(0, BLOCK)
        tokens, valid = group_tokens(
            slots, group, is_local, grid_d, grid_h, grid_w, blocks_d, blocks_h, blocks_w, SPAN_D, SPAN_H, SPAN_W
        )  # fmt: skip
        q = load_rows(q_base, tokens, valid, q_n, channels, HEAD_DIM)
        grad = load_rows(grad_ptr + o_base, tokens, valid, o_n, channels, HEAD_DIM)
        out = load_rows(out_ptr + o_base, tokens, valid, o_n, channels, HEAD_DIM)
        delta = tl.sum(grad.to(tl.float32) * out.to(tl.float32), 1)
        lse = tl.load(lse_base + tokens, mask=valid, other=float("inf"))  # exp2(-inf) = 0: no such query
        logits = attention_logits(
            q, k, slots, own_slots, own_valid, scale_log2, bias_row,
            WINDOW, SPAN_D, SPAN_H, SPAN_W, HAS_BIAS, PRECISION,
        )  # fmt: skip
        weights = tl.exp2(logits - lse[:, None])
        dv += tl.dot(tl.trans(weights.to(grad.dtype)), grad, input_precision=PRECISION)
        slope = weights * (tl.dot(grad, tl.trans(v), input_precision=PRECISION) - delta[:, None])
        dk += tl.dot(tl.trans(slope.to(q.dtype)), q, input_precision=PRECISION)
        if TILES == 1:
            dq += tl.dot(slope.to(k.dtype), k, input_precision=PRECISION)
    _store_rows(dv_ptr + o_base, own, own_valid, o_n, channels, HEAD_DIM, dv)
    _store_rows(dk_ptr + o_base, own, own_valid, o_n, channels, HEAD_DIM, dk * scale)
    if TILES > 1:
        # Several tiles per group: the own slots take the part of the queries and the keys pass by.
        q = load_rows(q_base, own, own_valid, q_n, channels, HEAD_DIM)
        grad = load_rows(grad_ptr + o_base, own, own_valid, o_n, channels, HEAD_DIM)
        out = load_rows(out_ptr + o_base, own, own_valid, o_n, channels, HEAD_DIM)
        delta = tl.sum(grad.to(tl.float32) * out.to(tl.float32), 1)
        lse = tl.load(lse_base + own, mask=own_valid, other=float("inf"))
        for other_tile in range(TILES):
            slots = other_tile * BLOCK + tl.arange(0, BLOCK)
            tokens, valid = group_tokens(
                slots, group, is_local, grid_d, grid_h, grid_w, blocks_d, blocks_h, blocks_w, SPAN_D, SPAN_H, SPAN_W
            )  # fmt: skip
            k = load_rows(k_base, tokens, valid, k_n, channels, HEAD_DIM)
            v = load_rows(v_base, tokens, valid, v_n, channels, HEAD_DIM)
            logits = attention_logits(
                q, k, own_slots, slots, valid, scale_log2, bias_row,
                WINDOW, SPAN_D, SPAN_H, SPAN_W, HAS_BIAS, PRECISION,
            )  # fmt: skip
            weights = tl.exp2(logits - lse[:, None])
            slope = weights * (tl.dot(grad, tl.trans(v), input_precision=PRECISION) - delta[:, None])
            dq += tl.dot(slope.to(k.dtype), k, input_precision=PRECISION)
    _store_rows(dq_ptr + o_base, own, own_valid, o_n, channels, HEAD_DIM, dq * scale)
