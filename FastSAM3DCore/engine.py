"""The engine: one network on one device, looking at one scan through crops.

Each crop is cut, normalised and embedded once; the embedding stays in a cache bounded by bytes, so that a
prompt only runs the decoder.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .crops import CropSource, HostVolume, Method, standardise
from .device_model import CPU, DeviceModel, is_out_of_memory
from .device_volume import DeviceVolume
from .errors import CancelledError, DeviceError, ImageError
from .geometry import CanonicalAxes, CropFrame
from .host_staging import HostStaging
from .modeling.interface import Embedding, ModelTraits, PromptableModel
from .precision import fast_dtype
from .types import Volume

__all__ = ["CropPrompts", "Engine", "standardise"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

DEFAULT_CACHE_BYTES = 512 * 2**20
# Crops of free-zoom networks. Larger ones gain at the first click and lose from the third on (15 structures, mean Dice
# at 1/3/6 clicks: 64 voxels .49/.69/.75, 80 .55/.66/.74, 96 .55/.62/.70), and cost two to three times as much.
MAX_CROP_SIZE = 64
# Prompts are filled up to a multiple of this on devices that record calls, so that few recordings serve all clicks.
PROMPTS_PER_RECORDING = 8


@dataclass(frozen=True, slots=True)
class CropPrompts:
    """Prompts in the frame of one crop.

    Attributes:
        points: (P, 3) crop voxel coordinates.
        labels: (P,) 1 positive, 0 negative.
        box: (2, 3) half-open corners in crop voxels, or None.
    """

    points: NDArray[np.float64]
    labels: NDArray[np.int64]
    box: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Crop:
    """A cached crop: its z-scored voxels and its embedding, both where they were made, and the memory they take."""

    image: Tensor
    embedding: Embedding
    nbytes: int


class Engine:
    """Runs a promptable network on crops of a scan.

    When an accelerator runs out of memory, the engine frees what it can and goes on with less of it: crops cut in main
    memory, then the network on the CPU. Each step is told through `notices`, `on_notice` and the log.

    Args:
        model: the network, in evaluation mode on `device`.
        device: where it runs.
        cache_bytes: bound on the memory of cached embeddings.
        dtype: what convolutions and matrix products compute in; None takes the device's fastest.
        on_notice: called with every notice, on the thread that computes.
    """

    def __init__(
        self,
        model: PromptableModel,
        device: torch.device,
        *,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        dtype: torch.dtype | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        self.traits: ModelTraits = model.traits
        if not model.traits.fixed_crop:
            self.traits = replace(model.traits, crop_size=min(model.traits.crop_size, MAX_CROP_SIZE))
        self.seconds: dict[str, float] = {}
        self.notices: list[str] = []
        self.on_notice = on_notice
        fills_up = model.traits.ignores_padding and device.type == "cuda"
        self._network = DeviceModel(
            model,
            device,
            dtype=fast_dtype(device) if dtype is None else dtype,
            prompt_multiple=PROMPTS_PER_RECORDING if fills_up else 1,
            release=self._release,
            notify=self._left_the_device,
        )
        self._staging = HostStaging(device)
        self._cache: OrderedDict[CropFrame, _Crop] = OrderedDict()
        self._cache_bytes = cache_bytes
        self._cancelled = threading.Event()
        self._volume: Volume | None = None
        self._axes: CanonicalAxes | None = None
        self._source: CropSource | None = None

    @property
    def model(self) -> Any:
        """The network as it runs: on `device`, its weights in `dtype`."""
        return self._network.model

    @property
    def device(self) -> torch.device:
        """Where the next crop is embedded; the CPU once an accelerator has run out of memory."""
        return self._network.device

    @property
    def dtype(self) -> torch.dtype:
        """What convolutions and matrix products compute in."""
        return self._network.dtype or torch.float32

    @property
    def volume(self) -> Volume:
        if self._volume is None:
            raise ImageError("No scan is loaded; call set_image first.")
        return self._volume

    @property
    def axes(self) -> CanonicalAxes:
        if self._axes is None:
            raise ImageError("No scan is loaded; call set_image first.")
        return self._axes

    def set_volume(self, volume: Volume) -> None:
        """Look at another scan; embeddings of the last one are dropped."""
        self.close()
        self._volume, self._axes = volume, CanonicalAxes.of(volume)

    def close(self) -> None:
        """Forget the scan and free cached embeddings; the network stays loaded."""
        self._cache.clear()
        self._volume = self._axes = self._source = None

    def cancel(self) -> None:
        """Ask the running call, from another thread, to stop with CancelledError."""
        self._cancelled.set()

    def begin(self) -> None:
        """Start timing and listening for `cancel` afresh."""
        self._cancelled.clear()
        self.seconds = {}

    def check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError("Cancelled; nothing was changed.")

    def image(self, frame: CropFrame) -> Tensor:
        """The z-scored voxels of a crop, (D, H, W) float32 on the CPU."""
        return self._staging.to_host(self._look(frame).image)

    def embed(self, frame: CropFrame) -> Embedding:
        """The embedding of a crop, from the cache or made now."""
        return self._look(frame).embedding

    def _look(self, frame: CropFrame) -> _Crop:
        cached = self._cache.get(frame)
        if cached is not None:
            self._cache.move_to_end(frame)
            return cached
        self.check_cancelled()
        start = perf_counter()
        image = self._run(lambda: self._crop(frame))
        self._spent("crop", start)
        start = perf_counter()
        embedding = self._run(lambda: self._network.encode(image[None, None]))
        self._spent("encode", start)
        entry = _Crop(image, embedding, _nbytes(embedding) + _nbytes(image))
        while self._cache and self.cached_bytes + entry.nbytes > self._cache_bytes:
            self._cache.popitem(last=False)
        self._cache[frame] = entry
        return entry

    def _crop(self, frame: CropFrame) -> Tensor:
        """Cut a crop where the scan is; a scan that finds no room on the device is read in main memory."""
        method: Method = "linear" if self.traits.fixed_crop else "average"
        if self._source is None:
            self._source = self._host_volume()
            if self.device != CPU:
                kept = DeviceVolume.try_upload(self.volume.array_kji, self.axes, self.device)
                if kept is None:
                    self._say(f"The scan does not fit on {self.device}; its crops are cut in main memory, more slowly.")
                self._source = kept or self._source
        try:
            return self._source.crop(frame, method)
        except RuntimeError as error:
            if not is_out_of_memory(error) or isinstance(self._source, HostVolume):
                raise
            logger.info("%s ran out of memory while a crop was cut: %s", self.device, error)
        self._release()
        self._source = self._host_volume()
        self._say(f"{self.device} has too little free memory; crops are cut in main memory, more slowly.")
        return self._source.crop(frame, method)

    def _host_volume(self) -> HostVolume:
        return HostVolume(self.volume.array_kji, self.axes)

    @property
    def cached_bytes(self) -> int:
        """Memory held by cached crops and their embeddings."""
        return sum(entry.nbytes for entry in self._cache.values())

    def decode(
        self, frame: CropFrame, prompts: CropPrompts, previous: Tensor | None, *, largest: bool = False
    ) -> tuple[Tensor, float]:
        """Answer prompts on a crop.

        Args:
            frame: the crop.
            prompts: at least one point, a box or a previous mask.
            previous: (d, h, w) logits of the mask so far at the network's mask resolution, or None.
            largest: of what a lone click may mean, the largest instead of the most likely; for networks that say both.

        Returns:
            (d, h, w) float32 logits on the CPU, d = D / mask_stride; and the predicted IoU.
        """
        embedding = self.embed(frame)
        self.check_cancelled()
        start = perf_counter()
        if previous is None and self.traits.mask_prompt_zero:
            previous = torch.zeros([n // self.traits.mask_stride for n in frame.size])
        boxes = None
        if prompts.box is not None and self.traits.box_prompts:
            boxes = self._up(torch.as_tensor(prompts.box, dtype=torch.float32))
        points = self._up(torch.as_tensor(prompts.points, dtype=torch.float32))
        labels = self._up(torch.as_tensor(prompts.labels))
        mask = None if previous is None else self._up(previous[None])
        candidate = self.traits.largest if largest else self.traits.whole
        whole = candidate if previous is None and boxes is None and len(prompts.points) == 1 else None
        logits, quality = self._run(
            lambda: self._network.decode(embedding, points, labels, mask, whole is not None, boxes=boxes)
        )
        # Both come down in one copy: the only time that the host waits for the device.
        chosen = whole or 0
        answer = torch.cat([logits[0, chosen].flatten().float(), quality[0, chosen : chosen + 1].float()])
        host = self._staging.to_host(answer)
        self._spent("decode", start)
        return host[:-1].reshape(logits.shape[2:]), float(host[-1])

    def _up(self, tensor: Tensor) -> Tensor:
        """A batch of one on the device."""
        return self._staging.to_device(tensor)[None]

    def _run(self, call: Callable[[], Result]) -> Result:
        """Run something that may need more memory than there is; where nothing helps, that is a DeviceError."""
        try:
            return call()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._cache.clear()
            raise DeviceError(
                f"{self.device} ran out of memory; close other programs, or use a computer with more of it."
            ) from error

    def _release(self) -> None:
        """Free what can be made again."""
        self._cache.clear()

    def _left_the_device(self, notice: str) -> None:
        """The network has moved to the CPU: so do the crops, and the scan's copy on the device goes."""
        self._staging = HostStaging(CPU)
        self._source = None
        self._say(notice)

    def _say(self, notice: str) -> None:
        logger.warning(notice)
        self.notices.append(notice)
        if self.on_notice is not None:
            self.on_notice(notice)

    def _spent(self, stage: str, start: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - start


def _nbytes(embedding: Embedding) -> int:
    if isinstance(embedding, Tensor):
        return embedding.numel() * embedding.element_size()
    values: Sequence[Any] = list(embedding.values()) if isinstance(embedding, dict) else list(embedding)
    return sum(_nbytes(value) for value in values if isinstance(value, (Tensor, dict, list, tuple)))
