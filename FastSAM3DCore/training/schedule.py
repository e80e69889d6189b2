"""Warm-up, stable, decay; by steps or by the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .config import ConfigError, SizePlan, TrainConfig
from .data.draw import Draw

__all__ = ["Schedule", "pick_plan"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Where a run is between its start and its end.

    Attributes:
        steps: length when there is no deadline.
        warmup: steps.
        decay: final share over which the rate falls to zero.
        started: seconds since the epoch of the run's first step.
        ends: seconds since the epoch, or None to count steps.
    """

    steps: int
    warmup: int
    decay: float
    started: float
    ends: float | None

    @classmethod
    def of(cls, config: TrainConfig, started: float) -> Schedule:
        """The schedule a config asks for.

        Raises:
            ConfigError: if the deadline is not an ISO time.
        """
        ends = None
        if config.deadline:
            try:
                ends = datetime.fromisoformat(config.deadline).timestamp()
            except ValueError as error:
                raise ConfigError(f"deadline {config.deadline!r} is not an ISO time like 2030-01-31T18:00") from error
        return cls(config.steps, config.warmup, config.decay, started, ends)

    def progress(self, step: int, now: float) -> float:
        """0 at the start, 1 when it is over."""
        if self.ends is None:
            return step / self.steps
        return min(1.0, (now - self.started) / max(1.0, self.ends - self.started))

    def factor(self, step: int, now: float) -> float:
        """Share of the peak learning rate at this step."""
        falling = (1 - self.progress(step, now)) / self.decay
        return min(1.0, (step + 1) / self.warmup, max(falling, 0.01))


def pick_plan(draw: Draw, plans: tuple[SizePlan, ...], step: int) -> SizePlan:
    """One of the crop sizes in force at this step."""
    current = [p for p in plans if p.start <= step and (p.stop is None or step < p.stop)]
    return draw.python.choices(current or list(plans), [p.weight for p in current or plans])[0]
