"""Does the most uncertain slice deserve the look? Uncertainty of slices against their errors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..doubt import slice_doubt
from ..protocol import SegmentationSession
from ..types import Volume, VoxelBox
from .reliability import band_box

__all__ = ["DoubtingSession", "SliceLook", "rank_correlation", "slice_looks", "summarise_looks"]


class DoubtingSession(SegmentationSession, Protocol):
    """A session that can say how unsure it is; those of this process can."""

    def uncertainty(self, box: VoxelBox | None = None) -> NDArray[np.float32]:
        """Entropy of the foreground probability in bits, float32 in [0, 1], indexed [k, j, i]."""
        ...

    def most_uncertain_slice(self, axis: int) -> int | None:
        """The slice across a voxel axis (0 = i, 1 = j, 2 = k) whose summed uncertainty is largest."""
        ...


@dataclass(frozen=True, slots=True)
class SliceLook:
    """One axis of one mask.

    Attributes:
        correlation: rank correlation over slices between summed uncertainty (`slice_doubt`) and wrong voxels.
        by_area: the same for the mask's area in the slice, what one would go by without a probability.
        above: share of the slices with fewer wrong voxels than the slice the session points at, ties by half.
        gain: wrong voxels in that slice, in units of the mean over slices.
    """

    correlation: float
    by_area: float
    above: float
    gain: float


def slice_looks(
    session: DoubtingSession, volume: Volume, mask_kji: NDArray[np.bool_], truth_kji: NDArray[np.bool_]
) -> list[SliceLook]:
    """Look along i, j and k at the slices of the band around the mask; axes without errors are left out."""
    box = band_box(mask_kji, volume)
    if box.is_empty:
        return []
    area = mask_kji[box.slices_kji]
    doubt = session.uncertainty(box)
    wrong = area != truth_kji[box.slices_kji]
    looks = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != 2 - axis)
        errors = wrong.sum(axis=others).astype(np.float64)
        picked = session.most_uncertain_slice(axis)
        if picked is None or len(errors) < 5 or errors.max() == errors.min():
            continue
        place = int(np.clip(picked - box.lower[axis], 0, len(errors) - 1))
        looks.append(
            SliceLook(
                rank_correlation(slice_doubt(doubt, area, axis), errors),
                rank_correlation(area.sum(axis=others).astype(np.float64), errors),
                float(np.mean(errors < errors[place]) + 0.5 * np.mean(errors == errors[place])),
                float(errors[place] / errors.mean()),
            )
        )
    return looks


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's, with mean ranks for ties; 0 if either is constant."""
    one, two = mean_ranks(a), mean_ranks(b)
    one, two = one - one.mean(), two - two.mean()
    scale = float(np.sqrt((one @ one) * (two @ two)))
    return float(one @ two) / scale if scale > 0 else 0.0


def mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    return np.asarray((last - (counts - 1) / 2)[place.reshape(-1)], dtype=np.float64)


def summarise_looks(looks: list[SliceLook]) -> dict[str, Any]:
    """Means over masks and axes."""
    if not looks:
        return {"looks": 0}
    values = [asdict(look) for look in looks]
    return {"looks": len(looks)} | {key: round(float(np.mean([v[key] for v in values])), 4) for key in values[0]}
