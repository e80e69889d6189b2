"""Replay a network call as one CUDA graph: a click is hundreds of small kernels, and launching them is what it costs.

    encode = GraphedModule(model.encode, device)
    embedding = encode(image)            # first call of a shape: warm-up and capture; later ones: copy, replay

Inputs are copied into buffers that never move, the recorded kernels run, outputs are copied out. Anything that cannot
be recorded (another device, a host synchronisation inside, a driver error) runs eagerly, with the same result.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .fair_lock import FairLock

__all__ = ["Capture", "GraphedModule", "Recording", "capture_cuda_graph", "map_tensors", "pad_prompts"]

logger = logging.getLogger(__name__)

# Lazy initialisation (cuBLAS handles, algorithm choices, Triton compilation) must be over before recording.
WARM_UPS = 3


class Recording(Protocol):
    """A recorded call that reads and writes fixed memory."""

    @property
    def outputs(self) -> Any:
        """What the call returned: tensors in fixed memory, overwritten by every replay."""
        ...

    def replay(self) -> None:
        """Compute `outputs` anew from the buffers that the call was recorded with."""
        ...


# (function, positional buffers, keyword buffers) -> recording
Capture = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Recording]


@dataclass(frozen=True, slots=True)
class CudaRecording:
    """A captured CUDA graph and the tensors it writes."""

    graph: torch.cuda.CUDAGraph
    outputs: Any

    def replay(self) -> None:
        self.graph.replay()


def capture_cuda_graph(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Recording:
    """Record one call on the current CUDA device.

    Raises:
        RuntimeError: from torch, if the function does something that a graph cannot hold.
    """
    current = torch.cuda.current_stream()
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            function(*args, **kwargs)
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Autocast keeps converted weights until it ends; a recording must neither read those nor leave its own behind.
    torch.clear_autocast_cache()
    try:
        # "thread_local": other sessions' threads may allocate while this one records.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = function(*args, **kwargs)
    finally:
        torch.cuda.set_stream(current)  # a recording that breaks off leaves its own stream behind
        torch.clear_autocast_cache()
    return CudaRecording(graph, outputs)


@dataclass(slots=True)
class _Entry:
    buffers: list[Tensor]
    recording: Recording


class GraphedModule:
    """A callable that replays recordings of another, one for each shape of its inputs.

    Safe to share between threads and streams: a fair lock and an event put calls in the order they came. Runs in
    inference mode; outputs are copies, so they may be kept.

    Args:
        function: called with tensors, possibly in dicts, lists and tuples, and plain values; returns the same. It
            must compute the same on every call, and not keep or change its inputs.
        device: where `function` computes; inputs from elsewhere are copied there as part of the call.
        max_recordings: how many shapes to remember; the least recently used goes first.
        capture: how to record; by default CUDA graphs on a CUDA device and no recording elsewhere.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        device: torch.device,
        *,
        max_recordings: int = 8,
        capture: Capture | None = None,
    ) -> None:
        self._function = function
        self._device = device
        self._max_recordings = max(1, max_recordings)
        self._capture = capture or (capture_cuda_graph if device.type == "cuda" else None)
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._eager: set[Hashable] = set()
        self._lock = FairLock()
        self._finished: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._finished = torch.cuda.Event()  # type: ignore[no-untyped-call]

    @property
    def recordings(self) -> int:
        """How many shapes are recorded."""
        return len(self._entries)

    def clear(self) -> None:
        """Forget all recordings and give their memory back; shapes that failed may be tried again."""
        with self._lock:
            self._entries.clear()
            self._eager.clear()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What `function` returns for these inputs."""
        with torch.inference_mode():
            if self._capture is None:
                return self._function(*_to(args, self._device), **_to(kwargs, self._device))
            leaves: list[Tensor] = []
            key = (_autocast(self._device), _signature((args, kwargs), leaves))
            with self._lock, self._in_order():
                entry = self._entry(key, args, kwargs)
                if entry is None:
                    return self._function(*_to(args, self._device), **_to(kwargs, self._device))
                for buffer, leaf in zip(entry.buffers, leaves, strict=True):
                    buffer.copy_(leaf, non_blocking=True)
                entry.recording.replay()
                return map_tensors(entry.recording.outputs, torch.clone)

    def _entry(self, key: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Entry | None:
        """The recording for these shapes, made now if need be; None if they have to run eagerly."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            return entry
        if key in self._eager or self._capture is None:
            return None
        while len(self._entries) >= self._max_recordings:
            self._entries.popitem(last=False)
        buffers: list[Tensor] = []

        def fixed(tensor: Tensor) -> Tensor:
            buffer = torch.empty_like(tensor, device=self._device).copy_(tensor)
            buffers.append(buffer)
            return buffer

        try:
            recording = self._capture(self._function, map_tensors(args, fixed), map_tensors(kwargs, fixed))
        except torch.OutOfMemoryError:
            # Recordings hold memory that an eager call may need; a later call may have room again.
            logger.warning(
                "Too little memory to record a CUDA graph; recordings are dropped and the call runs eagerly."
            )
            self._entries.clear()
            return None
        except RuntimeError as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            logger.warning("This call runs without a CUDA graph: %s", reason)
            self._eager.add(key)
            return None
        self._entries[key] = _Entry(buffers, recording)
        return self._entries[key]

    @contextmanager
    def _in_order(self) -> Iterator[None]:
        """Work on the shared buffers starts after the last caller's, whatever stream that was on."""
        if self._finished is None:
            yield
            return
        with torch.cuda.device(self._device):
            stream = torch.cuda.current_stream()
            stream.wait_event(self._finished)
            try:
                yield
            finally:
                self._finished.record(stream)


def pad_prompts(coords: Tensor, labels: Tensor, multiple: int = 8) -> tuple[Tensor, Tensor]:
    """Fill points up to a multiple with "no point", so that one recording serves several numbers of clicks.

    Only for networks that ignore points labelled -1 (the project's own; the published ones embed them).

    Args:
        coords: (B, P, 3) crop voxel coordinates.
        labels: (B, P).
        multiple: P is filled up to the next multiple of this, at least one.

    Returns:
        (B, P', 3) and (B, P').
    """
    missing = max(multiple, -(-coords.shape[1] // multiple) * multiple) - coords.shape[1]
    padded = torch.nn.functional.pad(coords, (0, 0, 0, missing))
    return padded, torch.nn.functional.pad(labels, (0, missing), value=-1)


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: map_tensors(item, change) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(item, change) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(map_tensors(item, change) for item in value)
    return value


def _autocast(device: torch.device) -> Hashable:
    """The type that the caller's autocast computes in on a device, or None."""
    if not torch.is_autocast_enabled(device.type):
        return None
    return torch.get_autocast_dtype(device.type)


def _to(value: Any, device: torch.device) -> Any:
    return map_tensors(value, lambda tensor: tensor.to(device, non_blocking=True))


def _signature(value: Any, leaves: list[Tensor]) -> Hashable:
    """Everything a recording depends on but the numbers in the tensors, which are appended to `leaves`."""
    if isinstance(value, Tensor):
        leaves.append(value)
        return (tuple(value.shape), value.dtype)
    if isinstance(value, dict):
        return ("dict", *((key, _signature(item, leaves)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, *(_signature(item, leaves) for item in value))
    return (type(value).__name__, value)
