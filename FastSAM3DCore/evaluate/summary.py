"""Means over structures, overall and by group of cases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

__all__ = ["summarise"]

SCALARS = ("dice_final", "nsd_final", "dice_auc", "nsd_auc", "dice_auc_normalised", "nsd_auc_normalised")


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`mean` over all structures and `groups` with the mean of each group.

    Each mean has `structures`, `dice` and `nsd` by number of clicks, `dice_per_click`, and the median seconds
    of first and later clicks; those of the challenge also have `by_case`, where structures are averaged within each
    case first, as the challenge does. Means of nothing are empty.
    """
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["group"]].append(row)
    return {"mean": _mean(rows), "groups": {name: _mean(groups[name]) for name in sorted(groups)}}


def _mean(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if not rows:
        return {"structures": 0, "dice": {}, "nsd": {}}
    mean: dict[str, Any] = {"structures": len(rows)}
    for metric in ("dice", "nsd"):
        mean[metric] = {step: round(fmean(row[metric][step] for row in rows), 4) for step in rows[0][metric]}
    steps = zip(*(row["dice_per_click"] for row in rows), strict=True)
    mean["dice_per_click"] = [round(fmean(values), 4) for values in steps]
    for scalar in SCALARS:
        if scalar in rows[0]:
            mean[scalar] = round(fmean(row[scalar] for row in rows), 4)
    if SCALARS[0] in rows[0]:
        mean["by_case"] = _by_case(rows)
    first = [row["seconds"][0] for row in rows if row["seconds"]]
    later = [value for row in rows for value in row["seconds"][1:]]
    mean["seconds"] = {
        "first_click_median": round(median(first), 4) if first else None,
        "next_click_median": round(median(later), 4) if later else None,
    }
    return mean


def _by_case(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    cases: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        cases[row["case"]].append(row)
    return {
        scalar: round(fmean(fmean(row[scalar] for row in part) for part in cases.values()), 4) for scalar in SCALARS
    }
