"""What a device can do at best: its matrix rate and memory bandwidth, measured, and the times these allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from ..precision import fast_dtype
from .timing import device_ms, run_once

__all__ = ["Ceilings", "attention_floor_ms", "bytes_of", "measure_ceilings", "network_floors", "weight_count"]

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Measured: TFLOP/s of a large product in the fast type, GB/s of a large copy (bytes read plus written)."""

    tflops: float
    gigabytes_per_second: float

    def floor_ms(self, gflop: float, megabytes: float) -> float:
        """No version can be faster than the slower of its arithmetic and its memory traffic."""
        return max(gflop / self.tflops, 1000.0 * megabytes / 1024 / self.gigabytes_per_second)


def measure_ceilings(
    device: torch.device, *, side: int | None = None, megabytes: int | None = None, seconds: float = 1.0
) -> Ceilings:
    """Measure on random data: zeros run faster than anything real.

    Args:
        device: where to compute.
        side: of the square matrices; enough to fill the device if None, on a CPU few enough for many attempts.
        megabytes: to copy; far more than any cache holds if None.
        seconds: time for each of the two.
    """
    cuda = device.type == "cuda"
    side = side or (8192 if cuda else 1024)
    megabytes = megabytes or (2048 if cuda else 64)
    generator = torch.Generator().manual_seed(0)
    dtype = fast_dtype(device)
    a, b = (torch.randn(side, side, generator=generator).to(device, dtype) for _ in range(2))
    with torch.inference_mode():
        product = best_ms(lambda: a @ b, device, seconds)
        source = torch.randint(0, 255, (megabytes * MEBIBYTE,), dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        copy = best_ms(lambda: target.copy_(source), device, seconds)
    return Ceilings(2e-9 * side**3 / product, 2 * megabytes / 1024 / (copy / 1000))


def best_ms(call: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """Milliseconds of a call at best; on CUDA the median of a graph of calls, which nothing else disturbs."""
    if device.type == "cuda":
        return device_ms(call, device, seconds=seconds, inside=3)
    end = perf_counter() + seconds
    times = [run_once(call, device)[0] for _ in range(3)]
    while perf_counter() < end:
        times.append(run_once(call, device)[0])
    return min(times)


def attention_floor_ms(
    tokens: int, heads: int, head_dim: int, window: int, ceilings: Ceilings, *, element_bytes: int = 2
) -> float:
    """Sparse attention: q, k, v read once, the output written once; two products per group."""
    gflop = 4e-9 * tokens * heads * window**3 * head_dim
    return ceilings.floor_ms(gflop, 4 * tokens * heads * head_dim * element_bytes / MEBIBYTE)


def network_floors(
    model: Any, gflop: dict[str, float], image: Tensor, embedding: Any, logits: Tensor, ceilings: Ceilings
) -> dict[str, float]:
    """Floors of one network, in milliseconds: "encode" and "click".

    Weights are read once, in the device's fast type; encoding reads the image and writes the embedding, a click reads
    the embedding and writes the logits. What lies between is not counted: it might stay in caches.

    Args:
        model: its `image_encoder` or `encoder` runs when encoding, everything else at a click.
        gflop: arithmetic of "encode" and "click".
        image: (B, 1, D, H, W) crops.
        embedding: what the model makes of them.
        logits: what it answers.
        ceilings: of the device.
    """
    element = fast_dtype(image.device).itemsize
    moved = {
        "encode": element * weight_count(model, "encode") + bytes_of(image) + bytes_of(embedding),
        "click": element * weight_count(model, "click") + bytes_of(embedding) + bytes_of(logits),
    }
    return {kind: ceilings.floor_ms(gflop[kind], moved[kind] / MEBIBYTE) for kind in moved}


def weight_count(module: Any, kind: str) -> int:
    """How many weights "encode" or the "click" reads: the latter whatever is not in the image encoder."""
    encoder = getattr(module, "image_encoder", None) or module.encoder
    mine = {id(p) for p in encoder.parameters()}
    return sum(p.numel() for p in module.parameters() if (id(p) in mine) == (kind == "encode"))


def bytes_of(tensors: Any) -> int:
    """Memory of a tensor, or of a dict, list or tuple of tensors."""
    if isinstance(tensors, Tensor):
        return tensors.numel() * tensors.element_size()
    values = tensors.values() if isinstance(tensors, dict) else tensors if isinstance(tensors, (list, tuple)) else ()
    return sum(bytes_of(value) for value in values)
