"""A network that stays usable when its device runs out of memory: less at a time, then the CPU, with a notice.

    model = DeviceModel(load_model("default", "cuda"), torch.device("cuda"), dtype=torch.bfloat16)
    embedding = model.encode(image)      # recorded as a CUDA graph; out of memory never reaches the caller

It has the calls and traits of `PromptableModel`; the engine runs every network through it.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .cuda_graphs import Capture, GraphedModule, map_tensors, pad_prompts
from .fair_lock import device_lock
from .modeling.interface import Embedding, ModelTraits
from .precision import fast_dtype, prepared

__all__ = ["DeviceModel", "is_out_of_memory"]

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")
# How back ends word it when they raise a plain RuntimeError: MPS, and the CPU on Linux and on Windows.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class DeviceModel:
    """Runs a network on a device; when memory runs out, frees what it can, shares the batch out, or moves to the CPU.

    Calls of all models on one accelerator take turns, first come, first served: sessions share the card fairly.

    Args:
        model: a `PromptableModel` in evaluation mode on `device`. It is left as it is: other sessions may share it.
        device: where to compute.
        dtype: what to compute in, as for `precision.prepared`; None leaves weights and autocast to the caller.
        release: called before a second attempt; frees what the caller can spare (cached embeddings).
        notify: told in one sentence when work moves to the CPU; a warning in the log by default.
        prompt_multiple: points are filled up to a multiple of this with "no point", so that one recording serves
            several numbers of clicks; only for networks that ignore such points, 1 leaves prompts alone.
        capture: as for `GraphedModule`.
    """

    def __init__(
        self,
        model: Any,
        device: torch.device,
        *,
        dtype: torch.dtype | None = None,
        prompt_multiple: int = 1,
        release: Callable[[], None] = lambda: None,
        notify: Callable[[str], None] = logger.warning,
        capture: Capture | None = None,
    ) -> None:
        self._original = model
        self._model = _prepared_if_it_fits(model, dtype)
        self._device, self._dtype = device, dtype
        self._release = release
        self._notify = notify
        self._prompt_multiple = prompt_multiple
        # The methods are looked up at every call: whoever holds `model` may replace them.
        self._encode = GraphedModule(lambda *args: self._model.encode(*args), device, capture=capture)
        self._decode = GraphedModule(lambda *args, **kw: self._model.decode(*args, **kw), device, capture=capture)

    @property
    def model(self) -> Any:
        """The network that answers: weights in `dtype`, on `device`."""
        return self._model

    @property
    def dtype(self) -> torch.dtype | None:
        """What convolutions and matrix products compute in; None if the caller's autocast says."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """Where the next call computes and its results are."""
        return self._device

    @property
    def traits(self) -> ModelTraits:
        """The network's traits."""
        traits: ModelTraits = self._model.traits
        return traits

    def encode(self, image: Tensor) -> Embedding:
        """Embed crops (B, 1, D, H, W) from any device; see `PromptableModel.encode`."""
        return self._attempt(lambda part: self._encode(part), lambda part: self._encode_on_cpu(part), image)

    def decode(
        self,
        embedding: Embedding,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_logits: Tensor | None,
        multimask: bool = False,
        *,
        boxes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Answer prompts; arguments from any device, also an embedding made before work moved to the CPU."""
        if self._prompt_multiple > 1:
            point_coords, point_labels = pad_prompts(point_coords, point_labels, self._prompt_multiple)
        arguments = (embedding, point_coords, point_labels, mask_logits)
        options: dict[str, Any] = {} if boxes is None else {"boxes": boxes}

        def run(part: tuple[Any, ...]) -> Any:
            return self._decode(*part, multimask, **options)

        def run_on_cpu(part: tuple[Any, ...]) -> Any:
            moved = map_tensors((part, options), lambda tensor: tensor.to(CPU))
            return self._decode(*moved[0], multimask, **moved[1])

        answer: tuple[Tensor, Tensor] = self._attempt(run, run_on_cpu, arguments, divisible=False)
        return answer

    def _encode_on_cpu(self, image: Tensor) -> Any:
        return self._encode(image.to(CPU))

    def _attempt(
        self, run: Callable[[Any], Any], run_on_cpu: Callable[[Any], Any], value: Any, *, divisible: bool = True
    ) -> Any:
        """Try as it is, with memory freed, in halves, and on the CPU, in that order."""
        if self._device == CPU:
            with self._precision():
                return run_on_cpu(value)
        for attempt in range(2):
            try:
                with device_lock(str(self._device)), self._precision():
                    return run(value)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                logger.info("%s ran out of memory (attempt %d): %s", self._device, attempt + 1, error)
            # Outside the handler: the traceback it holds would keep the failed call's tensors alive.
            self._free()
        if divisible and value.shape[0] > 1:
            half = value.shape[0] // 2
            parts = [self._attempt(run, run_on_cpu, part) for part in (value[:half], value[half:])]
            return _joined([map_tensors(part, lambda tensor: tensor.to(self._device)) for part in parts])
        self._move_to_cpu()
        with self._precision():
            return run_on_cpu(value)

    def _precision(self) -> AbstractContextManager[Any]:
        if self._dtype is None or self._dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._device.type, self._dtype)

    def _free(self) -> None:
        self._encode.clear()
        self._decode.clear()
        self._release()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        elif self._device.type == "mps":
            torch.mps.empty_cache()

    def _move_to_cpu(self) -> None:
        """Continue with a copy of the network in main memory."""
        if self._device == CPU:
            return
        notice = f"{self._device} has too little free memory; continuing on the CPU, more slowly."
        if self._dtype is not None:
            self._dtype = fast_dtype(CPU)
        self._model = prepared(copy_to_cpu(self._original), self._dtype or torch.float32)
        self._device = CPU
        self._encode = GraphedModule(self._model.encode, CPU)
        self._decode = GraphedModule(self._model.decode, CPU)
        self._notify(notice)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device ran out of memory."""
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(known in words for known in OUT_OF_MEMORY)


def copy_to_cpu(model: Any) -> Any:
    """A copy of a network in main memory that takes no memory on the device, not even in passing."""
    if not isinstance(model, nn.Module):
        return model  # without weights of torch's, there is nothing to move
    tensors = [*model.named_parameters(), *model.named_buffers()]
    copies: dict[int, Any] = {}
    for _, tensor in tensors:
        moved = tensor.detach().to(CPU, copy=True)
        copies[id(tensor)] = nn.Parameter(moved, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else moved
    return copy.deepcopy(model, copies)


def _prepared_if_it_fits(model: Any, dtype: torch.dtype | None) -> Any:
    """The network with its weights in `dtype`; as it is if the device has no room for a second set."""
    if dtype is None:
        return model
    try:
        return prepared(model, dtype)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        logger.info("Weights are converted at every call, a second set does not fit: %s", error)
        return model


def _joined(parts: list[Any]) -> Any:
    """Results for parts of a batch as one, along the batch axis; dicts and tuples by their members."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, (list, tuple)):
        return type(first)(_joined(list(members)) for members in zip(*parts, strict=True))
    return first
