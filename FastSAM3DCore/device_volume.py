"""A scan kept on the device, so that cutting, resampling and normalising a crop never touch the host's copy.

Only the small weight matrices of a crop go up; nothing comes back, and nothing waits. Gives the numbers of
`crops.HostVolume`, which reads the scan where it lies in main memory.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .crops import MIN_FOREGROUND, Method
from .device_model import is_out_of_memory
from .geometry import CanonicalAxes, CropFrame, axis_weights
from .host_staging import HostStaging

__all__ = ["DeviceVolume", "standardise_on_device"]

logger = logging.getLogger(__name__)

# Types a device can slice and convert; the others are widened once, without losing what float32 can hold.
KEPT = {"uint8", "int8", "int16", "int32", "float16", "float32"}
WIDENED = {"bool": np.uint8, "uint16": np.int32}


class DeviceVolume:
    """The voxels of one scan on one device: a `CropSource`.

    Args:
        array_kji: (K, J, I) scan of any real type, copied.
        axes: the scan's canonical axes.
        device: where to keep it.

    Raises:
        RuntimeError: the device has too little memory; see `try_upload`.
    """

    def __init__(self, array_kji: NDArray[Any], axes: CanonicalAxes, device: torch.device) -> None:
        self._axes = axes
        self._staging = HostStaging(device, max_buffers=16)
        self._voxels = torch.from_numpy(as_kept_type(array_kji)).to(device)

    @classmethod
    def try_upload(cls, array_kji: NDArray[Any], axes: CanonicalAxes, device: torch.device) -> DeviceVolume | None:
        """As the constructor, but None when the scan does not fit on the device; the caller says what that means."""
        try:
            return cls(array_kji, axes, device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            logger.info("The scan does not fit on %s: %s", device, error)
        return None

    @property
    def nbytes(self) -> int:
        """Device memory that the scan takes."""
        return self._voxels.numel() * self._voxels.element_size()

    def crop(self, frame: CropFrame, method: Method) -> Tensor:
        """See `CropSource`."""
        return standardise_on_device(self.sample(frame, method))

    def sample(self, frame: CropFrame, method: Method) -> Tensor:
        """Cut a crop; see `geometry.sample_crop`.

        Returns:
            (D, H, W) float32 on the device, in canonical axis order R, A, S.
        """
        positions, widths = [], []
        for axis in range(3):
            wanted = frame.positions(axis)
            positions.append(self._axes.shape[axis] - 1 - wanted if self._axes.flips[axis] else wanted)
            widths.append({"nearest": 0.0, "linear": 1.0, "average": max(1.0, frame.step[axis])}[method])
        block = self._resample(self._axes.per_array_axis(positions), self._axes.per_array_axis(widths))
        crop = self._axes.array_to_canonical(block).contiguous()
        if frame.inside is not None:
            for axis, (begin, end) in enumerate(frame.inside):
                crop.narrow(axis, 0, begin).zero_()
                crop.narrow(axis, end, crop.shape[axis] - end).zero_()
        return crop

    def _resample(self, positions: list[NDArray[np.float64]], widths: list[float]) -> Tensor:
        part, matrices = self._voxels, []
        for axis, (wanted, width) in enumerate(zip(positions, widths, strict=True)):
            matrix, taken = axis_weights(wanted, self._voxels.shape[axis], float(width))
            step = int(taken[1] - taken[0]) if len(taken) > 1 else 1
            span = slice(int(taken[0]), int(taken[-1]) + 1, step)
            if np.array_equal(np.arange(span.start, span.stop, span.step), taken):
                part = part[(slice(None),) * axis + (span,)]
            else:
                part = part.index_select(axis, self._staging.to_device(torch.from_numpy(taken)))
            matrices.append(self._staging.to_device(torch.from_numpy(matrix)))
        block = part.float()
        # The axis that shrinks most goes first, the one that grows most last.
        for axis in sorted(range(3), key=lambda a: matrices[a].shape[0] / matrices[a].shape[1]):
            # (.., n, ..) -> (m, rest) -> (.., m, ..)
            block = torch.tensordot(matrices[axis], block, dims=([1], [axis])).movedim(0, axis)
        return block


def standardise_on_device(crop: Tensor, min_foreground: int = MIN_FOREGROUND) -> Tensor:
    """Z-score a crop as `crops.standardise` does, without the host ever asking for a number.

    Args:
        crop: (D, H, W) float32.
        min_foreground: with fewer voxels above zero, the statistics are those of all voxels.
    """
    count = crop.numel()
    above = (crop > 0).to(crop.dtype)
    found = above.sum()
    mean, deviation = _moments(crop, above, found)
    all_mean, all_deviation = _moments(crop, torch.ones_like(crop), torch.full_like(found, float(count)))
    usable = ((found >= min_foreground) | (found == count)) & (deviation > 0)
    mean = torch.where(usable, mean, all_mean)
    deviation = torch.where(usable, deviation, all_deviation)
    return torch.where(deviation > 0, (crop - mean) / deviation.clamp(min=torch.finfo(crop.dtype).tiny), 0.0)


def _moments(crop: Tensor, weights: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation of the voxels of weight one; a deviation of 0 where there are too few."""
    mean = (crop * weights).sum() / count.clamp(min=1)
    squares = ((crop - mean).square() * weights).sum()
    return mean, (squares / (count - 1).clamp(min=1)).sqrt() * (count > 1)


def as_kept_type(array: NDArray[Any]) -> NDArray[Any]:
    """The array in the machine's byte order and in a type that devices can work with."""
    name = array.dtype.newbyteorder("=").name
    kept = name if name in KEPT else WIDENED.get(name, np.float32)
    return np.array(array, dtype=kept, order="C", copy=True)
