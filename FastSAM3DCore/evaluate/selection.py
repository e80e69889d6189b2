"""Which cases of a folder count: those a split names, and of each group only so many."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from ..errors import ImageError
from ..splits import read_splits
from .cases import Case, find_cases, group_of

__all__ = ["calibration_cases", "cases_of_split", "spread_over_groups"]


def cases_of_split(folder: Path, splits: Path, part: str) -> list[Case]:
    """The cases of a folder that a split file names under `part`, by name.

    Args:
        folder: holds the cases.
        splits: JSON object with lists of case names, as `Resources/training/splits.json`.
        part: "train", "held_out" or "calibration" (some of the held-out ones, to fit a temperature on).

    Raises:
        ImageError: the file cannot be read, has no such list, or none of its cases is there.
    """
    names = _names(splits, part)
    if names is None:
        raise ImageError(f"{splits} is not a JSON object with a list {part!r} of case names.")
    found = [case for case in find_cases(folder) if case.name in names]
    if not found:
        raise ImageError(f"{folder} holds none of the cases that {splits.name} names under {part!r}.")
    return found


def calibration_cases(folder: Path, splits: Path) -> tuple[list[Case], list[Case]]:
    """Cases to fit a calibration on and cases to measure it on, none in both.

    Networks are surer of scans they were trained on, so the split's "calibration" list is fitted on where there is one,
    and left out of what is measured; else the training cases are.

    Raises:
        ImageError: as `cases_of_split`.
    """
    part = "train" if _names(splits, "calibration") is None else "calibration"
    fitted = cases_of_split(folder, splits, part)
    known = {case.name for case in fitted}
    return fitted, [case for case in cases_of_split(folder, splits, "held_out") if case.name not in known]


def _names(splits: Path, part: str) -> set[str] | None:
    """The names listed under `part`, or None if the file has no such list."""
    names = read_splits(splits).get(part)
    return set(names) if isinstance(names, list) else None


def spread_over_groups(cases: list[Case], at_most: int | None) -> list[Case]:
    """At most so many cases of each group, evenly spread over its names; all without a limit."""
    if at_most is None:
        return cases
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[group_of(case.name)].append(case)
    kept = []
    for members in groups.values():
        places = np.linspace(0, len(members) - 1, min(at_most, len(members))).round().astype(int)
        kept += [members[n] for n in places]
    return sorted(kept, key=lambda case: case.name)
