"""Copies between host and device through page-locked buffers that are allocated once.

From ordinary memory the driver copies piecewise through a buffer of its own, and waits. From page-locked memory a copy
runs at the speed of the bus beside other work, and the host waits only where it needs the result.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import torch
from torch import Tensor

__all__ = ["HostStaging"]

Key = tuple[tuple[int, ...], torch.dtype]


class HostStaging:
    """Page-locked buffers for one device, by shape and type; plain copies on a device that has none.

    Args:
        device: the other side of the copies.
        max_buffers: buffers kept in each direction; the least recently used goes first.
    """

    def __init__(self, device: torch.device, *, max_buffers: int = 4) -> None:
        self._device = device
        self._max_buffers = max(1, max_buffers)
        self._pinned = device.type == "cuda"
        self._up: OrderedDict[Key, tuple[Tensor, torch.cuda.Event]] = OrderedDict()
        self._down: OrderedDict[Key, tuple[Tensor, torch.cuda.Event]] = OrderedDict()
        self._lock = threading.Lock()

    def to_device(self, tensor: Tensor) -> Tensor:
        """A copy of a host tensor on the device; the host does not wait for it, and may change its tensor at once."""
        if not self._pinned:
            return tensor.to(self._device, copy=True)
        with self._lock:
            buffer, copied = self._buffer(self._up, tensor)
            copied.synchronize()  # the last upload from this buffer must have left it
            buffer.copy_(tensor)
            result = torch.empty(tensor.shape, dtype=tensor.dtype, device=self._device)
            result.copy_(buffer, non_blocking=True)
            copied.record(torch.cuda.current_stream(self._device))
            return result

    def to_host(self, tensor: Tensor) -> Tensor:
        """A copy of a device tensor on the host; returns when it is complete."""
        if not self._pinned:
            return tensor.to("cpu", copy=True)
        with self._lock:
            buffer, copied = self._buffer(self._down, tensor)
            buffer.copy_(tensor, non_blocking=True)
            copied.record(torch.cuda.current_stream(self._device))
            copied.synchronize()
            return buffer.clone()

    def _buffer(
        self, kept: OrderedDict[Key, tuple[Tensor, torch.cuda.Event]], like: Tensor
    ) -> tuple[Tensor, torch.cuda.Event]:
        key = (tuple(like.shape), like.dtype)
        if key not in kept:
            while len(kept) >= self._max_buffers:
                kept.popitem(last=False)
            buffer = torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
            kept[key] = (buffer, torch.cuda.Event())  # type: ignore[no-untyped-call]
        kept.move_to_end(key)
        return kept[key]
