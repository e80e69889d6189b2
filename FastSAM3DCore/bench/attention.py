"""Sparse against dense attention as the number of tokens grows: time and memory, forward, as in a trunk block."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import TypedDict

import torch

from ..kernels.dispatch import sparse_attention_3d
from ..kernels.sparse_attention import dense_attention_3d
from .memory import peak_growth_mb
from .timing import compare, device_ms

__all__ = ["CPU_TOKENS", "CUDA_TOKENS", "AttentionRow", "attention_scaling"]

CPU_TOKENS = (512, 4096, 32768)
CUDA_TOKENS = (512, 4096, 32768, 262144)
# Heads and channels per head of the bundled network's trunk.
HEADS, HEAD_DIM, WINDOW = 6, 32, 4
# Dense attention above this is left out on a CPU: 262 144 tokens would take it ten minutes.
MOST_DENSE_CPU = 32768
# Up to here dense attention is run repeatedly on a CPU; above, once (about ten seconds on two cores).
MOST_DENSE_CPU_OFTEN = 8192


class AttentionRow(TypedDict):
    """One size; what was not measured is None. Memory is what a call needs beyond q, k and v, its result included."""

    tokens: int
    dense_ms: float | None
    sparse_ms: float | None
    dense_mb: float | None
    sparse_mb: float | None


def attention_scaling(
    device: torch.device,
    tokens: Sequence[int] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    seconds: float = 6.0,
) -> list[AttentionRow]:
    """Measure cubes of tokens.

    Args:
        device: where to compute.
        tokens: cubes of whole numbers; the usual sizes of the device by default.
        dtype: of queries, keys and values.
        seconds: time to spend per size; one run of each kind happens whatever it takes.
    """
    if tokens is None:
        tokens = CUDA_TOKENS if device.type == "cuda" else CPU_TOKENS
    timed = [_timed(count, device, dtype, seconds) for count in tokens]
    # Memory last: measuring it changes how the CPU allocator works.
    return [_with_memory(row, device, dtype) for row in timed]


def _inputs(tokens: int, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """Random q, k, v as (3, 1, heads, N, head_dim), laid out in memory as a projection leaves them; and the grid."""
    side = round(tokens ** (1 / 3))
    generator = torch.Generator().manual_seed(0)
    packed = torch.randn(1, side**3, 3, HEADS, HEAD_DIM, generator=generator).to(device, dtype)
    return packed.permute(2, 0, 3, 1, 4), (side, side, side)


@torch.inference_mode()
def _timed(tokens: int, device: torch.device, dtype: torch.dtype, seconds: float) -> AttentionRow:
    (q, k, v), grid = _inputs(tokens, device, dtype)
    sparse = partial(sparse_attention_3d, q, k, v, grid, WINDOW)
    dense = partial(dense_attention_3d, q, k, v)
    times: dict[str, float]
    if device.type == "cuda":
        # Inside a recorded network nothing waits for Python, so the launch is left out.
        times = {"sparse": device_ms(sparse, device), "dense": device_ms(dense, device)}
    else:
        calls = {"sparse": sparse, "dense": dense} if tokens <= MOST_DENSE_CPU_OFTEN else {"sparse": sparse}
        timings = compare(calls, device, seconds=seconds, least=1)
        times = {name: timing.median_ms for name, timing in timings.items()}
    return {
        "tokens": tokens,
        "dense_ms": times.get("dense"),
        "sparse_ms": times["sparse"],
        "dense_mb": None,
        "sparse_mb": None,
    }


@torch.inference_mode()
def _with_memory(row: AttentionRow, device: torch.device, dtype: torch.dtype) -> AttentionRow:
    (q, k, v), grid = _inputs(row["tokens"], device, dtype)
    sparse = peak_growth_mb(lambda: sparse_attention_3d(q, k, v, grid, WINDOW), device)
    if device.type != "cuda" and row["tokens"] > MOST_DENSE_CPU:
        return {**row, "sparse_mb": sparse}
    elapsed: list[float] = []

    def dense() -> None:
        start = perf_counter()
        dense_attention_3d(q, k, v)
        elapsed.append(1000.0 * (perf_counter() - start))

    dense_mb = peak_growth_mb(dense, device)
    if row["dense_ms"] is None and not elapsed:
        dense()
    # Seconds of arithmetic: this one run is the measurement, warm-up would not show in it.
    return {**row, "sparse_mb": sparse, "dense_mb": dense_mb, "dense_ms": row["dense_ms"] or elapsed[0]}
