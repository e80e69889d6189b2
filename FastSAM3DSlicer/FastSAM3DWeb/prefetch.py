"""Encodes what lies under the moving hand, so that no click waits for an encoding."""

from __future__ import annotations

from typing import Any

import numpy as np

from FastSAM3DSlicerLib.VolumeBridge import pointsToIjk

from .runner import Runner
from .study import Study

__all__ = ["Prefetch"]

# Crops are placed on a grid of about this many mm: a click this near to a prepared place finds most of them ready.
NEAR_MM = 4.0


class Prefetch:
    """At most one place is prepared at a time, the newest; one that became useless is given up.

    Attributes:
        session: the engine's session, None until it is loaded.
        place: RAS of what is being prepared or was prepared last; None after the scan or segment changed.
    """

    def __init__(self, study: Study, runner: Runner) -> None:
        self.study, self.runner = study, runner
        self.session: Any = None
        self.place: np.ndarray | None = None
        self._next: np.ndarray | None = None

    def aim(self, ras: Any) -> None:
        """The hand is here with a prompt tool."""
        active = self.study.logic.active
        if self.session is None or active is None or self.runner.has_jobs:
            return
        place = np.asarray(ras, dtype=float)
        if not self.study.volume.box.contains(pointsToIjk(self.study.volume_node, place)[0]):
            return
        if self.place is not None and np.linalg.norm(place - self.place) <= NEAR_MM:
            self._next = None
            return
        if self.runner.is_idle:
            self._start(place)
        else:
            # The engine stops after the crop it is at; then the newest place gets its turn.
            self._next = place
            self.runner.hush()

    def is_near(self, ras: Any) -> bool:
        """Whether what is being prepared is of use to a prompt here."""
        return self.place is not None and float(np.linalg.norm(np.asarray(ras) - self.place)) <= NEAR_MM

    def forget(self) -> None:
        """The segment or scan changed: another place, or the same one again, may be worth preparing."""
        self.place = self._next = None

    def warm_up(self) -> None:
        """Give the engine the scan and the segment's prompts before the first click."""
        active = self.study.logic.active
        if self.session is not None and active is not None:
            want, link = self.study.logic.wanted(active), self.study.logic.link
            self.runner.quietly(lambda: link.ensure(want))

    def _start(self, place: np.ndarray) -> None:
        active = self.study.logic.active
        want, link = self.study.logic.wanted(active), self.study.logic.link
        ijk = tuple(float(v) for v in pointsToIjk(self.study.volume_node, place)[0])
        prepare = getattr(self.session, "prefetch", None)
        self.place, self._next = place, None

        def run() -> None:
            link.ensure(want)
            if prepare is not None:
                prepare(ijk)

        self.runner.quietly(run, cancel=getattr(self.session, "cancel", None), then=self._turn)

    def _turn(self, done: bool) -> None:
        """The engine is free again."""
        if not done:
            self.place = None
        place, self._next = self._next, None
        if place is not None and self.runner.is_idle:
            self._start(place)
