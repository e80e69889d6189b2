"""Random numbers of one sample: a pure function of (seed, index), so that a resumed run sees the same data."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Draw", "Shape"]

Shape = tuple[int, int, int]
T = TypeVar("T")


class Draw:
    """Scalars from Python's generator, tensors from torch's on the training device.

    `host_` draws stay in main memory, for geometry that decides what is launched: to fetch three numbers from a card
    means to wait for everything it still has to do. On a CPU both come from one generator.
    """

    def __init__(self, seed: int, index: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        mixed = (seed * 1_000_003 + index * 7_919 + 12_345) % (2**62)
        self.python = random.Random(mixed)
        self.torch = torch.Generator(device=self.device).manual_seed(mixed)
        self.host = self.torch if self.device.type == "cpu" else torch.Generator().manual_seed(mixed)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.python.random() < probability

    def uniform(self, low: float, high: float) -> float:
        """Uniform in [low, high]."""
        return self.python.uniform(low, high)

    def log_uniform(self, low: float, high: float) -> float:
        """Uniform on a logarithmic scale."""
        return math.exp(self.python.uniform(math.log(low), math.log(high)))

    def integer(self, low: int, high: int) -> int:
        """Uniform in low..high, both included."""
        return self.python.randint(low, high)

    def choice(self, items: Sequence[T]) -> T:
        """One of the items."""
        return self.python.choice(items)

    def rand(self, *shape: int) -> Tensor:
        """Uniform in [0, 1)."""
        return torch.rand(shape, generator=self.torch, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal."""
        return torch.randn(shape, generator=self.torch, device=self.device)

    def host_rand(self, *shape: int) -> Tensor:
        """Uniform in [0, 1), in main memory."""
        return torch.rand(shape, generator=self.host)

    def host_rotation(self) -> Tensor:
        """(3, 3) random orthogonal matrix (reflections included), in main memory."""
        q: Tensor = torch.linalg.qr(torch.randn((3, 3), generator=self.host)).Q
        return q

    def rotation(self) -> Tensor:
        """(3, 3) random orthogonal matrix; made in main memory, where it takes one call instead of a dozen kernels."""
        return self.host_rotation().to(self.device)

    def smooth(self, channels: int, knots: int, shape: Shape) -> Tensor:
        """Smooth noise of unit deviation: (channels, D, H, W) with about `knots` waves along the longest axis."""
        longest = max(shape)
        if knots >= longest:
            return self.normal(channels, *shape)
        coarse = [max(2, math.ceil(knots * n / longest)) for n in shape]
        noise = self.normal(1, channels, *coarse)
        field = F.interpolate(noise, size=shape, mode="trilinear", align_corners=True)[0]
        return field / (field.std() + 1e-6)
