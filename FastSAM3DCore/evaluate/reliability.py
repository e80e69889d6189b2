"""Does 70 % mean 70 %? What a session's probability says of voxels near its border, against the truth.

Voxels that nobody doubts would make any network look calibrated, so only a band counts: everything within
`BAND_MM` of the border of the mask on the screen, on either side. The band depends on the mask, never on the truth.
Every mask weighs the same, whatever its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calibration import LOGIT_LIMIT, STEPS_PER_LOGIT, Calibration
from ..distances import signed_distance
from ..io.segmentation import mask_box
from ..protocol import SegmentationSession
from ..types import Volume, VoxelBox

__all__ = [
    "BAND_MM",
    "BINS",
    "Tally",
    "band_tally",
    "expected_calibration_error",
    "fit_calibration",
    "reliability_bins",
]

BAND_MM = 10.0
BINS = 15
LEVELS = 2 * round(LOGIT_LIMIT * STEPS_PER_LOGIT) + 1
LARGEST_TEMPERATURE = 20.0


@dataclass(frozen=True, slots=True)
class Tally:
    """How often a logit came with which truth.

    Attributes:
        weights: (LEVELS, 2) share of voxels by logit, in steps of 1/16 from -`LOGIT_LIMIT` up, and by truth
            (outside, inside the structure); every mask adds one in total.
        masks: how many were added.
    """

    weights: NDArray[np.float64]
    masks: int = 1

    @classmethod
    def empty(cls) -> Tally:
        return cls(np.zeros((LEVELS, 2)), 0)

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.weights + other.weights, self.masks + other.masks)

    @property
    def logits(self) -> NDArray[np.float64]:
        """The logit of each row."""
        return np.linspace(-LOGIT_LIMIT, LOGIT_LIMIT, LEVELS)


def band_tally(
    session: SegmentationSession,
    volume: Volume,
    mask_kji: NDArray[np.bool_],
    truth_kji: NDArray[np.bool_],
    applied: Calibration,
) -> Tally | None:
    """Tally the band around the current mask.

    Args:
        session: asked for its probability.
        volume: the scan.
        mask_kji: the session's mask, indexed [k, j, i].
        truth_kji: the structure.
        applied: the calibration that the session applies; it is taken out, so that tallies hold bare logits.

    Returns:
        None without a mask.
    """  # fmt: skip
    box = band_box(mask_kji, volume)
    if box.is_empty:
        return None
    near = np.abs(signed_distance(mask_kji[box.slices_kji], volume.spacing_ijk)) <= BAND_MM
    logits = applied.logit(session.probability(box)[near])
    rows = np.round((np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT) + LOGIT_LIMIT) * STEPS_PER_LOGIT).astype(np.int64)
    inside = truth_kji[box.slices_kji][near].astype(np.int64)
    counts = np.bincount(2 * rows + inside, minlength=2 * LEVELS).reshape(LEVELS, 2)
    return Tally(counts / counts.sum())


def band_box(mask_kji: NDArray[np.bool_], volume: Volume) -> VoxelBox:
    """The box that holds the band around a mask; empty without one."""
    box = mask_box(mask_kji)
    if box.is_empty:
        return box
    reach = [int(np.ceil(BAND_MM / s)) for s in volume.spacing_ijk]
    lower = tuple(l - r for l, r in zip(box.lower, reach, strict=True))
    upper = tuple(u + r for u, r in zip(box.upper, reach, strict=True))
    return VoxelBox(lower, upper).intersect(volume.box)  # type: ignore[arg-type]


def fit_calibration(tally: Tally) -> Calibration:
    """The temperatures with the smallest Brier score, to one percent, inside and outside apart.

    They leave probability one half, and with it every mask, where it is (Guo et al., ICML 2017). Networks that are too
    sure of what they add are less so of what they leave out: fitted on 10 scans, one temperature for both (2.8) gave
    an ECE of .059 on 16 others, two (3.8 and 2.1) .021. The Brier score is bounded: by log loss, the few masks that
    were wrong about the whole extent decided alone.
    """
    candidates = np.exp(np.arange(-np.log(LARGEST_TEMPERATURE), np.log(LARGEST_TEMPERATURE), 0.01))
    found = []
    for side in (tally.logits > 0, tally.logits <= 0):
        part = Tally(tally.weights * side[:, None])
        found.append(float(candidates[np.argmin([brier(part, Calibration(value)) for value in candidates])]))
    return Calibration(*found)


def brier(tally: Tally, calibration: Calibration) -> float:
    """Mean squared distance between probability and truth."""
    probability = calibration.probability(tally.logits).astype(np.float64)
    total = tally.weights[:, 0] @ probability**2 + tally.weights[:, 1] @ (1 - probability) ** 2
    return float(total / max(tally.weights.sum(), 1e-12))


def log_loss(tally: Tally, calibration: Calibration) -> float:
    """Mean negative log-likelihood of the truth in nats."""
    scaled = calibration.scaled(tally.logits)
    outside, inside = tally.weights[:, 0], tally.weights[:, 1]
    total = outside @ np.logaddexp(0, scaled) + inside @ np.logaddexp(0, -scaled)
    return float(total / max(tally.weights.sum(), 1e-12))


def reliability_bins(tally: Tally, calibration: Calibration, bins: int = BINS) -> list[dict[str, float]]:
    """`share` of the voxels, mean `predicted` probability and `observed` frequency, per bin of equal width."""
    probability = calibration.probability(tally.logits).astype(np.float64)
    place = np.minimum((probability * bins).astype(int), bins - 1)
    share = tally.weights.sum(axis=1)
    rows = []
    for number in range(bins):
        here = place == number
        weight = float(share[here].sum())
        if weight > 0:
            rows.append(
                {
                    "share": weight / float(share.sum()),
                    "predicted": float(share[here] @ probability[here]) / weight,
                    "observed": float(tally.weights[here, 1].sum()) / weight,
                }
            )
    return rows


def expected_calibration_error(rows: list[dict[str, float]]) -> float:
    """Mean distance between predicted and observed, weighted by share (Naeini et al., AAAI 2015)."""
    return sum(row["share"] * abs(row["predicted"] - row["observed"]) for row in rows)


def scores(tally: Tally, calibration: Calibration) -> dict[str, Any]:
    """ECE, Brier score, log loss and the bins of a tally."""
    rows = reliability_bins(tally, calibration)
    return {
        "ece": round(expected_calibration_error(rows), 4),
        "brier": round(brier(tally, calibration), 4),
        "log_loss": round(log_loss(tally, calibration), 4),
        "masks": tally.masks,
        "bins": [{key: round(value, 4) for key, value in row.items()} for row in rows],
    }
