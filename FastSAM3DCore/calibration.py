"""What a logit is worth: the temperatures that make a probability mean what it says, stored with the weights.

    Calibration.from_metadata(header).probability(logits)

Temperatures scale logits around zero, so that one half stays one half: no voxel of any mask changes sides.
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
    """Logits are divided by a temperature before they become probabilities; above one, answers grow less sure.

    Attributes:
        temperature: of voxels on the inside (logits above zero).
        outside: of the others; None: the same. A network is often sure of what it adds and right about what it leaves
            out, or the other way round.

    Raises:
        WeightsError: not a positive finite number.
    """

    temperature: float = 1.0
    outside: float | None = None

    def __post_init__(self) -> None:
        for value in (self.temperature, 1.0 if self.outside is None else self.outside):
            if not (math.isfinite(value) and value > 0):
                raise WeightsError(f"The calibration temperature {value} is not positive; calibrate again.")

    def scaled(self, logits: NDArray[Any]) -> NDArray[Any]:
        """Logits divided by their temperatures, in their own type."""
        if self.outside is None:
            return np.asarray(logits / self.temperature)
        return np.where(logits > 0, logits / self.temperature, logits / self.outside)

    def probability(self, logits: NDArray[Any]) -> NDArray[np.float32]:
        """Foreground probability of logits, float32 in [0, 1]; what was never looked at (the lowest level) is 0."""
        values = np.asarray(logits, dtype=np.float32)
        scaled = np.maximum(self.scaled(values), np.float32(-80.0))  # exp(80) still fits
        found = 1.0 / (1.0 + np.exp(-scaled))
        return np.asarray(np.where(values <= -LOGIT_LIMIT, 0.0, found), dtype=np.float32)

    def logit(self, probability: NDArray[Any] | float) -> NDArray[np.float64]:
        """The inverse of `probability`, within +-`LOGIT_LIMIT`."""
        p = np.asarray(probability, dtype=np.float64)
        with np.errstate(divide="ignore"):
            scaled = np.log(p) - np.log1p(-p)
        outside = self.temperature if self.outside is None else self.outside
        logits = np.where(scaled > 0, self.temperature, outside) * scaled
        return np.asarray(np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT))

    def to_json(self) -> str:
        """For the metadata of a weights file, under `METADATA_KEY`."""
        values = {"temperature": round(self.temperature, 4)}
        return json.dumps(values if self.outside is None else {**values, "outside": round(self.outside, 4)})

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
            values = json.loads(text)
            outside = values.get("outside")
            return cls(float(values["temperature"]), None if outside is None else float(outside))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(
                f"The calibration stored with the weights is damaged ({error}); export again."
            ) from error
