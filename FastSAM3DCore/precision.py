"""Whether bfloat16 pays on a device: measured, because no flag says how fast it is.

CPUs with AMX or AVX512-BF16 run this network's convolutions two to seven times faster in bfloat16 (a 64^3 crop on
one core of a Zen 4 server: encode 258 -> 84 ms, decode 352 -> 49 ms); on others it is slower than float32.
"""

from __future__ import annotations

from functools import lru_cache
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["fast_dtype"]


@lru_cache(maxsize=8)
def fast_dtype(device: torch.device) -> torch.dtype:
    """The faster of bfloat16 and float32 for 3D convolutions on a device; takes about 20 ms, once.

    CUDA cards from compute capability 8.0 on use bfloat16, older ones float16; MPS uses float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if device.type != "cpu":
        return torch.float32
    with torch.inference_mode():
        image = torch.randn(1, 32, 24, 24, 24)
        weight = torch.randn(32, 32, 3, 3, 3)
        half = _seconds(image.bfloat16(), weight.bfloat16())
        full = _seconds(image, weight)
    return torch.bfloat16 if half < 0.8 * full else torch.float32


def _seconds(image: Tensor, weight: Tensor) -> float:
    """Best of three convolutions after a warm-up."""
    F.conv3d(image, weight, padding=1)
    times = []
    for _ in range(3):
        start = perf_counter()
        F.conv3d(image, weight, padding=1)
        times.append(perf_counter() - start)
    return min(times)
