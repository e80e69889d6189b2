"""Which implementation of sparse attention runs: the Triton kernel where it is proved to work, PyTorch elsewhere.

`FASTSAM3D_KERNELS` overrides the choice: `auto` (default), `torch` (never the kernel), `triton` (the kernel, or a
DeviceError that says why not).
"""

from __future__ import annotations

import logging
import os
import subprocess
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import DeviceError
from .biased_attention import biased_sparse_attention_3d
from .sparse_attention import Grid
from .sparse_attention import sparse_attention_3d as torch_sparse_attention_3d
from .triton_library import load_triton

__all__ = ["KERNELS_VARIABLE", "kernel_obstacle", "sparse_attention_3d"]

logger = logging.getLogger(__name__)

KERNELS_VARIABLE = "FASTSAM3D_KERNELS"
MIN_HEAD_DIM, MAX_HEAD_DIM = 16, 128
# The first card whose matrix units take bfloat16; also the oldest one the kernels are compiled for ahead of time.
MIN_CAPABILITY = (8, 0)
TYPES = (torch.float32, torch.float16, torch.bfloat16)
# Largest relative error of the proof against float32: three decimal digits of half precision, six of single.
PROOF_TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}


def sparse_attention_3d(
    q: Tensor, k: Tensor, v: Tensor, grid: Grid, window: int = 4, bias: Tensor | None = None
) -> Tensor:
    """Attend within local blocks (first half of the heads) and dilated groups (second half).

    Same definition and results as `sparse_attention.sparse_attention_3d`, by the fastest means there is.

    Args:
        q: (B, heads, N, head_dim) queries with N = d * h * w tokens in C order; `k` and `v` alike.
        grid: (d, h, w); any size, axes need not be multiples of the window.
        window: largest number of tokens of a group along one axis.
        bias: (heads, (2 * window - 1)^3) added to the scaled logits at the offset between query and key slot.

    Returns:
        (B, heads, N, head_dim), tokens in the order they came in.

    Raises:
        ValueError: the grid does not hold N tokens, the window is below 1 or there are less than two heads.
        DeviceError: `FASTSAM3D_KERNELS` is not one of its values, or demands a kernel that cannot run.
    """
    choice = os.environ.get(KERNELS_VARIABLE, "auto")
    if choice not in ("auto", "torch", "triton"):
        raise DeviceError(f"{KERNELS_VARIABLE} is {choice!r}; set it to auto, torch or triton.")
    if choice == "triton" or (choice == "auto" and q.is_cuda):
        obstacle = kernel_obstacle(q, k, v, grid, window, bias)
        if obstacle is None:
            from .sparse_attention_op import sparse_attention_triton

            return sparse_attention_triton(q, k, v, grid, window, q.shape[1] // 2, bias)
        if choice == "triton":
            raise DeviceError(f"The sparse attention kernel cannot run: {obstacle}. Unset {KERNELS_VARIABLE}.")
    if bias is not None:
        return biased_sparse_attention_3d(q, k, v, grid, window, bias)
    return torch_sparse_attention_3d(q, k, v, grid, window)


def kernel_obstacle(q: Tensor, k: Tensor, v: Tensor, grid: Grid, window: int, bias: Tensor | None = None) -> str | None:
    """Why the Triton kernel cannot take these tensors here; None if it can.

    On a CUDA device the last question is answered by running it once per device and type and comparing the
    result: a missing C compiler, a driver that is too old or wrong numbers all show there.
    """
    if not (q.shape == k.shape == v.shape) or q.shape[2] != grid[0] * grid[1] * grid[2]:
        return "queries, keys and values differ in shape or do not fill the grid"
    if q.shape[1] < 2 or window < 1:
        return "it needs two heads or more and a window of at least 1"
    if not MIN_HEAD_DIM <= q.shape[3] <= MAX_HEAD_DIM:
        return f"heads of {q.shape[3]} channels are outside {MIN_HEAD_DIM}..{MAX_HEAD_DIM}"
    if q.dtype not in TYPES or not (q.dtype == k.dtype == v.dtype):
        return f"the types {q.dtype}, {k.dtype}, {v.dtype} are not one of float32, float16 and bfloat16"
    if bias is not None and (bias.shape != (q.shape[1], (2 * window - 1) ** 3) or not bias.is_floating_point()):
        return f"the bias has shape {tuple(bias.shape)}, not ({q.shape[1]}, {(2 * window - 1) ** 3})"
    if not load_triton():
        return "Triton is not installed (pip install triton)"
    if not q.is_cuda:
        return None if interpreted() else f"it runs on NVIDIA GPUs, not on {q.device.type}"
    if torch.version.hip is not None:
        return "it was not proved on ROCm"
    capability = torch.cuda.get_device_capability(q.device)
    if capability < MIN_CAPABILITY:
        return f"compute capability {capability[0]}.{capability[1]} is below {MIN_CAPABILITY[0]}.{MIN_CAPABILITY[1]}"
    return failure_of_proof(q.device, q.dtype)


def interpreted() -> bool:
    """Whether Triton's interpreter stands in for a GPU (tests)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@lru_cache(maxsize=32)
def failure_of_proof(device: torch.device, dtype: torch.dtype) -> str | None:
    """Run the kernel once on a small odd grid and compare it with PyTorch in float32; what went wrong, or None."""
    from triton import TritonError

    from .sparse_attention_op import sparse_attention_triton

    grid = (5, 6, 7)
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(3, 1, 2, 210, 32, generator=generator)
    try:
        with torch.inference_mode():
            q, k, v = sample.to(device, dtype)
            found = sparse_attention_triton(q, k, v, grid, 4, 1).float().cpu()
            q, k, v = (t.float().cpu() for t in (q, k, v))
            wanted = torch_sparse_attention_3d(q, k, v, grid, 4)
            error = float((found - wanted).norm() / wanted.norm())
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, OSError, subprocess.CalledProcessError, TritonError) as problem:
        reason = next(iter(str(problem).strip().splitlines()), type(problem).__name__)
    else:
        if error <= PROOF_TOLERANCE[dtype]:
            return None
        reason = f"its result differs from PyTorch's by {error:.1e}"
    logger.warning("Sparse attention runs without its kernel on %s: %s", device, reason)
    return reason
