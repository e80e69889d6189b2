"""An engine for tests of the page: the fake session, with the calls that only local sessions have."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from FastSAM3DCore.errors import CancelledError, WeightsError
from Testing.core.fakes import FakeSession

# A click at a voxel whose i is below this takes `SLOW_SECONDS`, unless it is cancelled: for the busy state.
SLOW_BELOW_I = 20
SLOW_SECONDS = 20.0


class PageSession(FakeSession):
    """Balls of 12 voxels; can be slow and cancelled."""

    def __init__(self) -> None:
        super().__init__(radius=12.5, scribble_radius=3.5)
        self._stop = threading.Event()

    def add_point(self, point_ijk: Sequence[float], positive: bool = True) -> Any:
        if point_ijk[0] < SLOW_BELOW_I:
            self._stop.clear()
            if self._stop.wait(SLOW_SECONDS):
                raise CancelledError("Cancelled; nothing was changed.")
        return super().add_point(point_ijk, positive)

    def cancel(self) -> None:
        self._stop.set()

    def prefetch(self, point_ijk: Sequence[float]) -> None:
        """Says where; where clicks are slow, preparing is too, and can be given up."""
        place = " ".join(str(round(v)) for v in point_ijk)
        print("prefetch", place, file=sys.stderr, flush=True)
        if point_ijk[0] < SLOW_BELOW_I:
            self._stop.clear()
            if self._stop.wait(SLOW_SECONDS):
                print("given up", place, file=sys.stderr, flush=True)
                raise CancelledError("Cancelled; nothing was changed.")

    def uncertainty(self, box: Any = None) -> np.ndarray:
        p = np.clip(self.probability(box), 1e-6, 1 - 1e-6)
        return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))


def open_session(model: str, device: str) -> PageSession:
    """What `WorkerConfig.session` names."""
    return PageSession()


def refuse(model: str, device: str) -> PageSession:
    """An engine whose weights are missing."""
    raise WeightsError(f"Unknown model {model!r}; give another.")


def break_down(model: str, device: str) -> PageSession:
    """An engine that fails as drivers do."""
    raise OSError("libcudart.so: cannot open shared object file")
