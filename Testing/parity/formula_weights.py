"""Reproducible weights and inputs from an integer hash: no random generator, the same on every machine."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

GOLDEN_RATIO = 0x9E3779B9
IMAGE_INDEX = 1000
MASK_INDEX = 2000


def hashed_uniform(count: int, index: int) -> np.ndarray:
    """`count` numbers in [-1, 1), float64, that depend on nothing but their position and `index`."""
    mask = np.uint64(0xFFFFFFFF)
    h = (np.arange(count, dtype=np.uint64) + np.uint64(GOLDEN_RATIO * (index + 1) & 0xFFFFFFFF)) & mask
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h ^= h >> np.uint64(shift)
        h = (h * np.uint64(factor)) & mask
    h ^= h >> np.uint64(16)
    return h.astype(np.float64) / 2.0**31 - 1.0


def formula_tensor(name: str, shape: tuple[int, ...], index: int) -> Tensor:
    """The weight `name`, scaled by its role so that signals neither vanish nor explode."""
    count = math.prod(shape)
    u = hashed_uniform(count, index)
    if "gaussian_matrix" in name:
        values = u
    elif len(shape) == 1:
        values = 1.0 + 0.1 * u if name.endswith(".weight") else 0.05 * u
    else:
        values = u * math.sqrt(3.0 / (count / shape[0]))
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def formula_state(model: nn.Module) -> dict[str, Tensor]:
    """A formula weight for every entry of the model's state dict."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    order = {name: index for index, name in enumerate(sorted(shapes))}
    return {name: formula_tensor(name, shape, order[name]) for name, shape in shapes.items()}


def formula_image(size: int) -> Tensor:
    """(1, 1, size, size, size) in [-1.5, 1.5)."""
    return torch.from_numpy((1.5 * hashed_uniform(size**3, IMAGE_INDEX)).astype(np.float32)).reshape(
        1, 1, size, size, size
    )


def formula_mask(size: int, batch: int = 1) -> Tensor:
    """(batch, 1, size, size, size) logits in [-4, 4)."""
    values = (4.0 * hashed_uniform(batch * size**3, MASK_INDEX)).astype(np.float32)
    return torch.from_numpy(values).reshape(batch, 1, size, size, size)
