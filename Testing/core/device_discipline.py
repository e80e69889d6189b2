"""Finds, without a GPU, what would stop a CUDA graph: host data, host reads, and tensors made on no named device."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# A copy from ordinary host memory waits for the device and cannot be recorded.
FROM_HOST = {torch.tensor, torch.as_tensor, torch.from_numpy, torch.asarray, torch.scalar_tensor}
# The host needs a number, or a size that depends on numbers, before it can go on.
READS = {
    Tensor.item, Tensor.tolist, Tensor.cpu, Tensor.numpy, Tensor.__bool__, Tensor.__float__, Tensor.__int__,
    Tensor.__index__, Tensor.nonzero, torch.nonzero, torch.argwhere, Tensor.argwhere, torch.masked_select,
    Tensor.masked_select, torch.unique, Tensor.unique, torch.allclose, torch.equal, Tensor.equal,
}  # fmt: skip
FACTORIES = {
    torch.arange, torch.zeros, torch.ones, torch.empty, torch.full, torch.linspace, torch.eye, torch.rand, torch.randn,
}  # fmt: skip


class DeviceDiscipline(TorchFunctionMode):
    """Collects, while active, every call that a recording could not hold, with the line it came from."""

    def __init__(self) -> None:
        super().__init__()
        self.offences: list[str] = []
        self.calls = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        self.calls += 1
        if func in FROM_HOST:
            self._note("copies host data", func)
        elif func in READS:
            self._note("waits for the device", func)
        elif func in FACTORIES and "device" not in kwargs:
            self._note("makes a tensor on the default device", func)
        elif func in (Tensor.__getitem__, Tensor.__setitem__) and uses_flags(args[1]):
            self._note("selects by flags, so its size depends on numbers", func)
        return func(*args, **kwargs)

    def _note(self, what: str, func: Callable[..., Any]) -> None:
        frames = [frame for frame in traceback.extract_stack() if "/FastSAM3DCore/" in frame.filename]
        where = f"{frames[-1].filename.split('/FastSAM3DCore/')[-1]}:{frames[-1].lineno}" if frames else "the test"
        self.offences.append(f"{where} {what} ({getattr(func, '__name__', func)})")


def uses_flags(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8) for part in parts)
