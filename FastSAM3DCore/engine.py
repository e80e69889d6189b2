"""The engine: one network on one device, looking at one scan through crops.

Each crop is cut, normalised and embedded once; the embedding stays in a cache bounded by bytes, so that a
prompt only runs the decoder.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import CancelledError, DeviceError, ImageError
from .geometry import CanonicalAxes, CropFrame, sample_crop
from .modeling.interface import Embedding, ModelTraits, PromptableModel
from .precision import fast_dtype
from .types import Volume

__all__ = ["CropPrompts", "Engine"]

DEFAULT_CACHE_BYTES = 512 * 2**20
# Crops of free-zoom networks. Larger ones gain at the first click and lose from the third on (15 structures, mean Dice
# at 1/3/6 clicks: 64 voxels .49/.69/.75, 80 .55/.66/.74, 96 .55/.62/.70), and cost two to three times as much.
MAX_CROP_SIZE = 64
# Voxels above zero that carry the statistics of the published z-score; with fewer, all voxels are used.
MIN_FOREGROUND = 100


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
    """A cached crop: its z-scored voxels, its embedding and the memory they take."""

    image: Tensor
    embedding: Embedding
    nbytes: int


class Engine:
    """Runs a promptable network on crops of a scan.

    Args:
        model: the network, in evaluation mode on `device`.
        device: where it runs.
        cache_bytes: bound on the memory of cached embeddings.
        dtype: what convolutions and matrix products compute in; None takes the device's fastest.
    """

    def __init__(
        self,
        model: PromptableModel,
        device: torch.device,
        *,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.model = model
        self.device = device
        self.dtype = fast_dtype(device) if dtype is None else dtype
        self.traits: ModelTraits = model.traits
        if not model.traits.fixed_crop:
            self.traits = replace(model.traits, crop_size=min(model.traits.crop_size, MAX_CROP_SIZE))
        self.seconds: dict[str, float] = {}
        self._cache: OrderedDict[CropFrame, _Crop] = OrderedDict()
        self._cache_bytes = cache_bytes
        self._cancelled = threading.Event()
        self._volume: Volume | None = None
        self._axes: CanonicalAxes | None = None

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
        self._cache.clear()
        self._volume, self._axes = volume, CanonicalAxes.of(volume)

    def close(self) -> None:
        """Forget the scan and free cached embeddings; the network stays loaded."""
        self._cache.clear()
        self._volume = self._axes = None

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
        return self._look(frame).image

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
        crop = sample_crop(self.volume.array_kji, self.axes, frame, "linear" if self.traits.fixed_crop else "average")
        image = standardise(crop)
        self._spent("crop", start)
        start = perf_counter()
        embedding = self._run(lambda: self.model.encode(image[None, None].to(self.device)))
        self._spent("encode", start)
        entry = _Crop(image, embedding, _nbytes(embedding) + _nbytes(image))
        while self._cache and self.cached_bytes + entry.nbytes > self._cache_bytes:
            self._cache.popitem(last=False)
        self._cache[frame] = entry
        return entry

    @property
    def cached_bytes(self) -> int:
        """Memory held by cached crops and their embeddings."""
        return sum(entry.nbytes for entry in self._cache.values())

    def decode(self, frame: CropFrame, prompts: CropPrompts, previous: Tensor | None) -> tuple[Tensor, float]:
        """Answer prompts on a crop.

        Args:
            frame: the crop.
            prompts: at least one point, a box or a previous mask.
            previous: (d, h, w) logits of the mask so far at the network's mask resolution, or None.

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
            boxes = torch.as_tensor(prompts.box, dtype=torch.float32)[None]

        def run() -> tuple[Tensor, Tensor]:
            return self.model.decode(
                embedding,
                torch.as_tensor(prompts.points, dtype=torch.float32, device=self.device)[None],
                torch.as_tensor(prompts.labels, device=self.device)[None],
                None if previous is None else previous.to(self.device)[None, None],
                boxes=None if boxes is None else boxes.to(self.device),
            )

        logits, quality = self._run(run)
        # A clone leaves inference mode, so that the answer may be edited in place.
        result = logits[0, 0].to("cpu", torch.float32).clone(), float(quality[0, 0])
        self._spent("decode", start)
        return result

    def _run(self, call: Any) -> Any:
        """Run a network call without gradients; running out of device memory becomes a DeviceError."""
        try:
            mixed = self.dtype != torch.float32
            with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=mixed):
                return call()
        except torch.OutOfMemoryError as error:
            self._cache.clear()
            raise DeviceError(f"{self.device} ran out of memory; choose the CPU or close other programs.") from error

    def _spent(self, stage: str, start: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - start


def standardise(crop: Tensor) -> Tensor:
    """Z-score a crop as in SAM-Med3D's training: statistics of the voxels above zero, applied to all.

    A crop where these are few or all equal uses all of its voxels; a constant crop becomes zero.
    """
    for voxels in (crop[crop > 0], crop.flatten()):
        if voxels.numel() >= MIN_FOREGROUND or voxels.numel() == crop.numel():
            deviation = float(voxels.std()) if voxels.numel() > 1 else 0.0
            if deviation > 0:
                return (crop - voxels.mean()) / deviation
    return torch.zeros_like(crop)


def _nbytes(embedding: Embedding) -> int:
    if isinstance(embedding, Tensor):
        return embedding.numel() * embedding.element_size()
    values: Sequence[Any] = list(embedding.values()) if isinstance(embedding, dict) else list(embedding)
    return sum(_nbytes(value) for value in values if isinstance(value, (Tensor, dict, list, tuple)))
