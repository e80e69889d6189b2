# mypy: disable-error-code="untyped-decorator"
# ruff: noqa: N803 (compile-time constants are upper case in Triton)
"""Triton kernel for the gradient of the relative-position bias of sparse attention; imports Triton."""

from __future__ import annotations

import triton
import triton.language as tl

from .triton_sparse_attention import LOG2E, SHAPE_ARGUMENTS, attention_logits, group_tokens, load_rows

__all__ = ["bias_kernel"]


@triton.jit(do_not_specialize=[*SHAPE_ARGUMENTS, "work", "shares"])
def bias_kernel(
    q_ptr: tl.tensor,
    k_ptr: tl.tensor,
    v_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    out_ptr: tl.tensor,
    grad_ptr: tl.tensor,
    lse_ptr: tl.tensor,
    dbias_ptr: tl.tensor,
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
    work: tl.tensor,
    shares: tl.tensor,
    WINDOW: tl.constexpr,
    SPAN_D: tl.constexpr,
    SPAN_H: tl.constexpr,
    SPAN_W: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK: tl.constexpr,
    TILES: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """One program: the gradient of one (queries, keys) tile of logits, summed over a share of the groups.

    Writes dbias (shares, heads, TILES * BLOCK, TILES * BLOCK) float32; the caller folds pairs of slots of equal
    offset. Sums in a fixed order instead of atomics on the (2 * window - 1)^3 table, which all groups would hit.
    """
    program = tl.program_id(0)
    key_tile = program % TILES
    query_tile = (program // TILES) % TILES
    head = (program // (TILES * TILES)) % heads
    share = program // (TILES * TILES * heads)
    groups = blocks_d * blocks_h * blocks_w
    is_local = head < local_heads
    scale_log2 = scale * LOG2E
    channels = tl.arange(0, BLOCK_C)
    query_slots = query_tile * BLOCK + tl.arange(0, BLOCK)
    key_slots = key_tile * BLOCK + tl.arange(0, BLOCK)
    bias_row = bias_ptr + head * (2 * WINDOW - 1) * (2 * WINDOW - 1) * (2 * WINDOW - 1)
    tokens = (grid_d * grid_h * grid_w).to(tl.int64)
    summed = tl.zeros((BLOCK, BLOCK), tl.float32)
    for item in range(share, work, shares):
        group = item % groups
        batch = (item // groups).to(tl.int64)
        queries, query_valid = group_tokens(
            query_slots, group, is_local, grid_d, grid_h, grid_w, blocks_d, blocks_h, blocks_w, SPAN_D, SPAN_H, SPAN_W
        )  # fmt: skip
        keys, key_valid = group_tokens(
            key_slots, group, is_local, grid_d, grid_h, grid_w, blocks_d, blocks_h, blocks_w, SPAN_D, SPAN_H, SPAN_W
        )  # fmt: skip
        o_base = batch * o_b + head * o_h
        q = load_rows(q_ptr + batch * q_b + head * q_h, queries, query_valid, q_n, channels, HEAD_DIM)
        k = load_rows(k_ptr + batch * k_b + head * k_h, keys, key_valid, k_n, channels, HEAD_DIM)
        v = load_rows(v_ptr + batch * v_b + head * v_h, keys, key_valid, v_n, channels, HEAD_DIM)
        grad = load_rows(grad_ptr + o_base, queries, query_valid, o_n, channels, HEAD_DIM)
        out = load_rows(out_ptr + o_base, queries, query_valid, o_n, channels, HEAD_DIM)
        delta = tl.sum(grad.to(tl.float32) * out.to(tl.float32), 1)
        lse = tl.load(lse_ptr + (batch * heads + head) * tokens + queries, mask=query_valid, other=float("inf"))
        logits = attention_logits(
            q, k, query_slots, key_slots, key_valid, scale_log2, bias_row,
            WINDOW, SPAN_D, SPAN_H, SPAN_W, True, PRECISION,
        )  # fmt: skip
        weights = tl.exp2(logits - lse[:, None])
        summed += weights * (tl.dot(grad, tl.trans(v), input_precision=PRECISION) - delta[:, None])
    side: tl.constexpr = TILES * BLOCK
    base = dbias_ptr + (share * heads + head).to(tl.int64) * side * side
    tl.store(base + query_slots[:, None] * side + key_slots[None, :], summed)
