"""Warm-up, stable, decay; by steps or by the clock; and the slot of time that one process gets of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from .config import ConfigError, SizePlan, TrainConfig
from .data.draw import Draw

__all__ = ["Schedule", "Slot", "pick_plan"]

_SLOT_SPARE = 0.05  # of a slot, for the last checkpoint, the exported weights and the curves


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


@dataclass(slots=True)
class Slot:
    """The time that a process gets, which ends the process and changes nothing about the run.

    Attributes:
        began: seconds since the epoch.
        minutes: of which training takes all but a twentieth.
    """

    began: float
    minutes: float
    _longest: float = field(default=0.0, init=False)
    _previous: float | None = field(default=None, init=False)

    def over(self, now: float) -> bool:
        """Whether another step would not fit; asked before each. The first always fits, so that each slot gets on."""
        if self._previous is None:
            self._previous = now
            return False
        self._longest, self._previous = max(self._longest, now - self._previous), now
        return now + self._longest > self.began + 60 * self.minutes * (1 - _SLOT_SPARE)


def pick_plan(draw: Draw, plans: tuple[SizePlan, ...], step: int) -> SizePlan:
    """One of the crop sizes in force at this step."""
    current = [p for p in plans if p.start <= step and (p.stop is None or step < p.stop)]
    return draw.python.choices(current or list(plans), [p.weight for p in current or plans])[0]
