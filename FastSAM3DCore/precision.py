"""What a device computes a network in: the faster type, measured, and a network whose weights already have it."""

from __future__ import annotations

import copy
from functools import lru_cache
from time import perf_counter
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .modeling.layers import FullPrecisionConv3d

__all__ = ["fast_dtype", "prepared"]

Network = TypeVar("Network")

# What autocast computes in half precision; everything else (norms, embeddings, position tables) stays float32.
CAST = (nn.Linear, nn.Conv3d, nn.ConvTranspose3d)


@lru_cache(maxsize=8)
def fast_dtype(device: torch.device) -> torch.dtype:
    """The faster of bfloat16 and float32 on a device; on CPUs measured, once, because no flag says how fast it is.

    CPUs with AMX or AVX512-BF16 run both networks two to three times faster in bfloat16 (one Zen 4 core: encode 174 ->
    80 ms at 64^3 for the project's own, 640 -> 300 ms at 128^3 for the published student); on others it is slower than
    float32. Convolutions carry the former, matrix products the latter, so both are tried.

    CUDA cards from compute capability 8.0 on use bfloat16, older ones float16; MPS uses float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if device.type != "cpu":
        return torch.float32
    with torch.inference_mode():
        image, weight = torch.randn(1, 32, 24, 24, 24), torch.randn(32, 32, 3, 3, 3)
        rows, matrix = torch.randn(256, 512), torch.randn(512, 512)
        half = _seconds(image.bfloat16(), weight.bfloat16(), rows.bfloat16(), matrix.bfloat16())
        full = _seconds(image, weight, rows, matrix)
    return torch.bfloat16 if all(h < 0.8 * f for h, f in zip(half, full, strict=True)) else torch.float32


def _seconds(image: Tensor, weight: Tensor, rows: Tensor, matrix: Tensor) -> tuple[float, float]:
    """Best of three convolutions and of three matrix products, each after a warm-up."""
    times: list[list[float]] = [[], []]
    for _ in range(4):
        start = perf_counter()
        F.conv3d(image, weight, padding=1)
        middle = perf_counter()
        F.linear(rows, matrix)
        times[0].append(middle - start)
        times[1].append(perf_counter() - middle)
    return min(times[0][1:]), min(times[1][1:])


def prepared(model: Network, dtype: torch.dtype) -> Network:
    """A network for inference with autocast in `dtype`, its weights converted once instead of at every call.

    Args:
        model: in evaluation mode; left as it is, and sharing all other tensors with the result.
        dtype: what the device computes in; for float32 the network itself is returned, as is one without weights.
    """
    if dtype == torch.float32 or not isinstance(model, nn.Module):
        return model
    kept: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        if isinstance(module, CAST) and not isinstance(module, FullPrecisionConv3d):
            for tensor in module.parameters(recurse=False):
                kept[id(tensor)] = nn.Parameter(converted(tensor.detach(), dtype), requires_grad=False)
    return copy.deepcopy(model, kept)


def converted(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A weight in `dtype`; on the CPU in the order in which oneDNN reads convolutions of channels-last maps."""
    layout = torch.channels_last_3d if weight.device.type == "cpu" and weight.ndim == 5 else torch.preserve_format
    return weight.to(dtype, memory_format=layout)
