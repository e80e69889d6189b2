"""Fit the calibration of a model on some scans, and measure on others what it is worth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calibration import Calibration
from ..errors import ImageError
from ..types import Volume
from .cases import Case
from .clicks import next_click
from .reliability import BAND_MM, Tally, band_tally, fit_calibration, scores
from .scoring import SessionMethod
from .slices import DoubtingSession, SliceLook, slice_looks, summarise_looks

__all__ = ["Dialogues", "calibrate", "listen"]


@dataclass(slots=True)
class Dialogues:
    """What was seen over interactive sessions: tallies by number of clicks, and looks at slices."""

    tallies: dict[int, Tally] = field(default_factory=dict)
    looks: list[SliceLook] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)
    structures: int = 0

    @property
    def all(self) -> Tally:
        """Every mask of every session."""
        return sum(self.tallies.values(), Tally.empty())


def listen(
    session: DoubtingSession,
    cases: list[Case],
    clicks: int,
    max_structures: int | None,
    applied: Calibration,
    on_case: Callable[[str], None] = lambda name: None,
) -> Dialogues:
    """Simulate clicks on every structure and tally the band around the mask after each.

    Args:
        session: in any state; it ends on the last case.
        cases: to click on.
        clicks: of each structure.
        max_structures: of each case at most this many.
        applied: the calibration that the session applies.
        on_case: called with the name of each case when it is done.
    """
    heard = Dialogues()
    for case in cases:
        volume, labels = case.load()
        for structure in case.structures(labels, max_structures):
            _one_session(session, volume, labels == structure.label, clicks, applied, heard)
            heard.structures += 1
        heard.cases.append(case.name)
        on_case(case.name)
    return heard


def _one_session(
    session: DoubtingSession, volume: Volume, truth: NDArray[np.bool_], clicks: int, applied: Calibration,
    heard: Dialogues,
) -> None:  # fmt: skip
    method = SessionMethod(session, volume)
    mask: NDArray[np.bool_] = np.zeros(truth.shape, bool)
    for number in range(1, clicks + 1):
        click = next_click(mask, truth, volume.spacing_ijk)
        if click is None:
            return
        mask = method.add(click)
        tally = band_tally(session, volume, mask, truth, applied)
        if tally is not None:
            heard.tallies[number] = heard.tallies.get(number, Tally.empty()) + tally
        heard.looks += slice_looks(session, volume, mask, truth)


def calibrate(fitted: Dialogues, measured: Dialogues) -> dict[str, Any]:
    """Fit on one set of sessions, measure on the other.

    Returns:
        `calibration`; `calibration_by_clicks`, to show how much one for all gives away; `before` and
        `after` on the measured sessions (ECE, log loss, bins), `by_clicks` and `fitted_on` likewise; `slices`.

    Raises:
        ImageError: no session gave a mask to fit on, or to measure.
    """
    if not fitted.tallies or not measured.tallies:
        raise ImageError("No click gave a mask, so there is nothing to calibrate; give other scans or weights.")
    plain, found = Calibration(), fit_calibration(fitted.all)
    return {
        "calibration": json.loads(found.to_json()),
        "calibration_by_clicks": {
            str(n): json.loads(fit_calibration(tally).to_json()) for n, tally in sorted(fitted.tallies.items())
        },
        "band_mm": BAND_MM,
        "before": scores(measured.all, plain),
        "after": scores(measured.all, found),
        "by_clicks": {
            str(n): {"before": scores(tally, plain)["ece"], "after": scores(tally, found)["ece"]}
            for n, tally in sorted(measured.tallies.items())
        },
        "fitted_on": {
            "cases": fitted.cases,
            "structures": fitted.structures,
            "before": scores(fitted.all, plain)["ece"],
            "after": scores(fitted.all, found)["ece"],
        },
        "measured_on": {"cases": measured.cases, "structures": measured.structures},
        "slices": summarise_looks(measured.looks),
    }
