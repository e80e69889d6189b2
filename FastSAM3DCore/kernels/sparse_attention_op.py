"""The Triton kernels as torch operators with shape inference and autograd: `fastsam3d::sparse_attention`.

Imports Triton, so only `dispatch` and the GPU tests import it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
import triton
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from .sparse_attention import axis_segments
from .triton_bias_gradient import bias_kernel
from .triton_sparse_attention import backward_kernel, forward_kernel

__all__ = ["launch_options", "sparse_attention_triton"]

# Slots per tile. 64 = 4^3, the shipped window, is one tile in half precision: the whole group lives in registers
# and shared memory. float32 takes two tiles: with one, the compiler spills 11 KB per thread in the backward pass.
MAX_BLOCK = 64
MAX_BLOCK_FLOAT32 = 32
# Programs per (head, tile pair) that share the groups when the bias gradient is summed.
BIAS_SHARES = 64


def launch_options(
    grid: Sequence[int],
    window: int,
    head_dim: int,
    dtype: torch.dtype,
    *,
    backward: bool = False,
    summed: bool = False,
) -> dict[str, Any]:
    """Compile-time constants and launch parameters for a shape; also what the ahead-of-time report compiles.

    Args:
        grid: tokens per axis (d, h, w).
        window: tokens per axis of a group.
        head_dim: channels per head, 16..128.
        dtype: float32, float16 or bfloat16.
        backward: options of `backward_kernel` instead of `forward_kernel`.
        summed: options of `bias_kernel`.
    """
    spans = [axis_segments(size, window)[1] for size in grid]
    slots = math.prod(spans)
    channels = max(16, triton.next_power_of_2(head_dim))
    single = dtype == torch.float32
    block = min(MAX_BLOCK_FLOAT32 if single else MAX_BLOCK, max(16, triton.next_power_of_2(slots)))
    many_warps = block * channels > 64 * 64 or (backward and single) or summed
    return {
        "WINDOW": window,
        "SPAN_D": spans[0],
        "SPAN_H": spans[1],
        "SPAN_W": spans[2],
        "HEAD_DIM": head_dim,
        "BLOCK_C": channels,
        "BLOCK": block,
        "TILES": -(-slots // block),
        # Plain TF32 would cost the fallback's accuracy (3e-4 relative); three TF32 products keep it on matrix units.
        "PRECISION": "tf32x3" if single else "tf32",
        "num_warps": 8 if many_warps else 4,
        "num_stages": 1,
    }


def _head_major(like: Tensor) -> Tensor:
    """Uninitialised (B, heads, N, C) whose memory is (B, N, heads, C), what the output projection reads."""
    batch, heads, tokens, channels = like.shape
    return like.new_empty((batch, tokens, heads, channels)).transpose(1, 2)


def _rows(tensor: Tensor) -> Tensor:
    """The tensor itself when its channels are adjacent in memory, else a copy for which they are."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _blocks(grid: Sequence[int], window: int) -> list[int]:
    return [axis_segments(size, window)[0] for size in grid]


def _on(tensor: Tensor) -> Any:
    """Triton launches on the current device, which need not be the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


@torch.library.custom_op("fastsam3d::sparse_attention", mutates_args=())
def _sparse_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    grid: Sequence[int],
    window: int,
    local_heads: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    q, k, v = _rows(q), _rows(k), _rows(v)
    batch, heads, tokens, head_dim = q.shape
    out, lse = _head_major(q), q.new_empty((batch, heads, tokens), dtype=torch.float32)
    options = launch_options(grid, window, head_dim, q.dtype)
    blocks = _blocks(grid, window)
    with _on(q):
        forward_kernel[(batch * math.prod(blocks) * heads * options["TILES"],)](
            q, k, v, q if bias is None else bias.contiguous(), out, lse,
            *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *out.stride()[:3],
            heads, local_heads, *grid, *blocks, scale * math.log2(math.e),
            HAS_BIAS=bias is not None, **options,
        )  # fmt: skip
    return out, lse


@_sparse_attention.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    grid: Sequence[int],
    window: int,
    local_heads: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    return _head_major(q), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("fastsam3d::sparse_attention_backward", mutates_args=())
def _sparse_attention_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor,
    grid: Sequence[int], window: int, local_heads: int, scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    q, k, v = _rows(q), _rows(k), _rows(v)
    batch, heads, _, head_dim = q.shape
    grad_rows = _head_major(q).copy_(grad)  # the kernel reads grad with out's strides
    out_rows = out if out.stride() == grad_rows.stride() else _head_major(q).copy_(out)
    dq, dk, dv = _head_major(q), _head_major(q), _head_major(q)
    options = launch_options(grid, window, head_dim, q.dtype, backward=True)
    blocks = _blocks(grid, window)
    groups = math.prod(blocks)
    strides = (*q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *dq.stride()[:3])
    shape = (heads, local_heads, *grid, *blocks, scale)
    table = q if bias is None else bias.contiguous()
    with _on(q):
        backward_kernel[(batch * groups * heads * options["TILES"],)](
            q, k, v, table, out_rows, grad_rows, lse, dq, dk, dv, *strides, *shape, HAS_BIAS=bias is not None, **options
        )
        if bias is None:
            return dq, dk, dv, q.new_empty((0,))
        options = launch_options(grid, window, head_dim, q.dtype, summed=True)
        shares = min(BIAS_SHARES, batch * groups)
        side = options["TILES"] * options["BLOCK"]
        slopes = q.new_empty((shares, heads, side, side), dtype=torch.float32)
        bias_kernel[(shares * heads * options["TILES"] ** 2,)](
            q, k, v, table, out_rows, grad_rows, lse, slopes, *strides, *shape, batch * groups, shares, **options
        )
    return dq, dk, dv, _fold_bias(slopes.sum(0), bias, [options[f"SPAN_{axis}"] for axis in "DHW"], window)


@_sparse_attention_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor,
    grid: Sequence[int], window: int, local_heads: int, scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    dbias = q.new_empty((0,)) if bias is None else bias.new_empty(bias.shape)
    return _head_major(q), _head_major(q), _head_major(q), dbias


def _fold_bias(slopes: Tensor, bias: Tensor, spans: Sequence[int], window: int) -> Tensor:
    """Sum slot pairs of equal offset: (heads, slots, slots) -> (heads, (2 * window - 1)^3)."""
    slots = math.prod(spans)
    axes = torch.meshgrid(*(torch.arange(span, device=slopes.device) for span in spans), indexing="ij")
    row = torch.zeros((slots, slots), dtype=torch.int64, device=slopes.device)
    for axis in axes:
        position = axis.reshape(-1)
        row = row * (2 * window - 1) + position[:, None] - position[None, :] + window - 1
    table = slopes.new_zeros((slopes.shape[0], (2 * window - 1) ** 3))
    table.index_add_(1, row.reshape(-1), slopes[:, :slots, :slots].reshape(slopes.shape[0], -1))
    return table.to(bias.dtype)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, bias, ctx.grid, ctx.window, ctx.local_heads, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, bias, *output)
    ctx.mark_non_differentiable(output[1])


def _autograd(ctx: Any, grad: Tensor, _grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, bias, out, lse = ctx.saved_tensors
    dq, dk, dv, dbias = _sparse_attention_backward(
        grad, q, k, v, bias, out, lse, ctx.grid, ctx.window, ctx.local_heads, ctx.scale
    )
    return dq, dk, dv, None if bias is None else dbias, None, None, None, None


@register_flop_formula(torch.ops.fastsam3d.sparse_attention)
def _flops(
    q_shape: tuple[int, ...], _k: Any, _v: Any, _bias: Any, grid: Sequence[int], window: int, *_: Any, **__: Any
) -> int:
    """Two products per pair of slots of a group: what torch's FlopCounterMode counts."""
    slots = math.prod(axis_segments(size, window)[1] for size in grid)
    return 4 * q_shape[0] * q_shape[1] * math.prod(_blocks(grid, window)) * slots**2 * q_shape[3]


_sparse_attention.register_autograd(_autograd, setup_context=_setup_context)


def sparse_attention_triton(
    q: Tensor, k: Tensor, v: Tensor, grid: Sequence[int], window: int, local_heads: int, bias: Tensor | None = None
) -> Tensor:
    """3D sparse flash attention by the Triton kernel; differentiable in q, k, v and bias.

    Args:
        q, k, v: (B, heads, N, head_dim), N = d * h * w, one dtype of float32, float16, bfloat16; any strides.
        grid: (d, h, w) tokens per axis.
        window: tokens per axis of a group.
        local_heads: the first so many heads attend in local cubes, the others in dilated ones.
        bias: (heads, (2 * window - 1)^3), added to the scaled logits at the query-minus-key offset of slots.

    Returns:
        (B, heads, N, head_dim) in the dtype of q; memory order (B, N, heads, head_dim).
    """
    out, _ = _sparse_attention(q, k, v, bias, list(grid), window, local_heads, q.shape[-1] ** -0.5)
    return out  # type: ignore[no-any-return]
