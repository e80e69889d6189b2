"""What a logit is worth: the temperature that makes a probability mean what it says, stored with the weights.

    Calibration.from_metadata(header).probability(logits)

A temperature scales logits around zero, so that one half stays one half: no voxel of any mask changes sides.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import WeightsError

__all__ = ["LOGIT_LIMIT", "METADATA_KEY", "STEPS_PER_LOGIT", "Calibration"]

METADATA_KEY = "calibration"
# Logits are kept as int8 in steps of 1/16, so a 512x512x800 scan costs 210 MB instead of 840 MB. The step at
# the threshold is 1.6 % of probability; the clip at +-7.9 is a probability of 0.04 %.
STEPS_PER_LOGIT = 16.0
LOGIT_LIMIT = 127 / STEPS_PER_LOGIT


@dataclass(frozen=True, slots=True)
class Calibration:
    """Logits are divided by `temperature` before they become probabilities; above one, answers grow less sure.

    Raises:
        WeightsError: not a positive finite number.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise WeightsError(f"The calibration temperature {self.temperature} is not positive; calibrate again.")

    def probability(self, logits: NDArray[Any]) -> NDArray[np.float32]:
        """Foreground probability of logits, float32 in [0, 1]; what was never looked at (the lowest level) is 0."""
        values = np.asarray(logits, dtype=np.float32)
        scaled = np.maximum(values / np.float32(self.temperature), np.float32(-80.0))  # exp(80) still fits
        found = 1.0 / (1.0 + np.exp(-scaled))
        return np.asarray(np.where(values <= -LOGIT_LIMIT, 0.0, found), dtype=np.float32)

    def logit(self, probability: NDArray[Any] | float) -> NDArray[np.float64]:
        """The inverse of `probability`, within +-`LOGIT_LIMIT`."""
        p = np.asarray(probability, dtype=np.float64)
        with np.errstate(divide="ignore"):
            logits = self.temperature * (np.log(p) - np.log1p(-p))
        return np.asarray(np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT))

    def to_json(self) -> str:
        """For the metadata of a weights file, under `METADATA_KEY`."""
        return json.dumps({"temperature": round(self.temperature, 4)})

    @classmethod
    def from_metadata(cls, header: Mapping[str, str]) -> Calibration:
        """The calibration stored with weights; none is a temperature of one.

        Raises:
            WeightsError: it is there but unreadable.
        """
        text = header.get(METADATA_KEY)
        if text is None:
            return cls()
        try:
            return cls(float(json.loads(text)["temperature"]))
        except (ValueError, KeyError, TypeError) as error:
            raise WeightsError(
                f"The calibration stored with the weights is damaged ({error}); export again."
            ) from error
