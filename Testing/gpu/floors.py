"""What a card can do at best: its matrix rate and memory bandwidth, measured, and the times these allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from FastSAM3DCore.bench.timing import device_ms


@dataclass(frozen=True)
class Ceilings:
    """Measured: TFLOP/s of a large product in the fast type, GB/s of a large copy (bytes read plus written)."""

    tflops: float
    gigabytes_per_second: float

    def floor_ms(self, gflop: float, megabytes: float) -> float:
        """No version can be faster than the slower of its arithmetic and its memory traffic."""
        return max(gflop / self.tflops, 1000.0 * megabytes / 1024 / self.gigabytes_per_second)


def measure_ceilings(device: torch.device, *, side: int = 8192, megabytes: int = 2048) -> Ceilings:
    """Measure on random data: zeros run faster than anything real."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(side, side, generator=generator).to(device, torch.bfloat16) for _ in range(2))
    with torch.inference_mode():
        product = device_ms(lambda: a @ b, device, inside=3)
        source = torch.empty(megabytes * 2**20, dtype=torch.uint8, device=device).random_()
        target = torch.empty_like(source)
        copy = device_ms(lambda: target.copy_(source), device, inside=3)
    return Ceilings(2e-9 * side**3 / product, 2 * megabytes / 1024 / (copy / 1000))


def attention_floor_ms(tokens: int, heads: int, head_dim: int, window: int, ceilings: Ceilings) -> float:
    """Sparse attention in half precision: q, k, v read once, the output written once; two products per group."""
    gflop = 4e-9 * tokens * heads * window**3 * head_dim
    return ceilings.floor_ms(gflop, 4 * tokens * heads * head_dim * 2 / 2**20)


def weight_megabytes(module: Any, kind: str) -> float:
    """Bytes in half precision of the weights that `encode` or the click read (whatever is not in the image encoder)."""
    encoder = getattr(module, "image_encoder", None) or module.encoder
    mine = {id(p) for p in encoder.parameters()}
    total = sum(p.numel() for p in module.parameters() if (id(p) in mine) == (kind == "encode"))
    return 2 * total / 2**20
