"""How a cost grows: the exponent p of cost ~ size^p, fitted, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

__all__ = ["LINEAR", "LINEAR_AT_THE_END", "Growth", "fit_growth", "fitted_exponent"]

# What still counts as linear: timings of one run on one machine scatter by some per cent.
LINEAR = 1.1
# Between the last two sizes alone there is no averaging.
LINEAR_AT_THE_END = 1.25


class Growth(TypedDict):
    """Growth of one cost.

    `exponent` over all sizes, `last_exponent` between the last two, which a constant part hides least; None below three
    (two) sizes with a cost above zero. `verdict` in words: "linear or better"; "linear at the end", steeper only among
    the smaller sizes, for example because these fit into caches or into memory that is already there; or "worse than
    linear".
    """

    exponent: float | None
    last_exponent: float | None
    verdict: str


def fitted_exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of the least-squares line through log cost over log size; two or more different sizes, all above zero."""
    x, y = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    rise = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return rise / sum((a - mean_x) ** 2 for a in x)


def fit_growth(sizes: Sequence[float], costs: Sequence[float | None]) -> Growth:
    """Fit what was measured; sizes in rising order, None where a cost was not measured."""
    known = [(size, cost) for size, cost in zip(sizes, costs, strict=True) if cost is not None and cost > 0]
    if len(known) < 3:
        return {"exponent": None, "last_exponent": None, "verdict": "not measured"}
    exponent, last = (fitted_exponent(*zip(*part, strict=True)) for part in (known, known[-2:]))
    verdict = "worse than linear"
    if last <= LINEAR_AT_THE_END and exponent <= LINEAR:
        verdict = "linear or better"
    elif last <= LINEAR_AT_THE_END and fitted_exponent(*zip(*known[-3:], strict=True)) <= LINEAR:
        verdict = "linear at the end"
    return {"exponent": exponent, "last_exponent": last, "verdict": verdict}
