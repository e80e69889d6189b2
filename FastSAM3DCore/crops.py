"""Where an engine's crops come from: the scan in main memory, or its copy on the device (`device_volume`)."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from numpy.typing import NDArray
from torch import Tensor

from .geometry import CanonicalAxes, CropFrame, sample_crop

__all__ = ["CropSource", "HostVolume", "Method", "standardise"]

Method = Literal["nearest", "linear", "average"]

# Voxels above zero that carry the statistics of the published z-score; with fewer, all voxels are used.
MIN_FOREGROUND = 100


class CropSource(Protocol):
    """A scan that crops are cut out of."""

    def crop(self, frame: CropFrame, method: Method) -> Tensor:
        """The z-scored voxels of a crop, (D, H, W) float32 in canonical axis order, on the source's own device."""
        ...


class HostVolume:
    """A scan read where it lies in main memory.

    Args:
        array_kji: (K, J, I) scan of any real type; not copied.
        axes: the scan's canonical axes.
    """

    def __init__(self, array_kji: NDArray[Any], axes: CanonicalAxes) -> None:
        self._array, self._axes = array_kji, axes

    def crop(self, frame: CropFrame, method: Method) -> Tensor:
        """See `CropSource`."""
        return standardise(sample_crop(self._array, self._axes, frame, method))


def standardise(crop: Tensor) -> Tensor:
    """Z-score a crop as in SAM-Med3D's training: statistics of the voxels above zero, applied to all.

    A crop where these are few or all equal uses all of its voxels; a constant crop becomes zero.
    """
    for voxels in (crop[crop > 0], crop.flatten()):
        if voxels.numel() >= MIN_FOREGROUND or voxels.numel() == crop.numel():
            deviation = float(voxels.std()) if voxels.numel() > 1 else 0.0
            if deviation > 0:
                return (crop - voxels.mean()) / deviation
    return crop.new_zeros(crop.shape)
