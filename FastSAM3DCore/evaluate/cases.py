"""Labelled scans on disk: FOLDER/<case>/{image.nii.gz, label.nii.gz, labels.json}."""

from __future__ import annotations

import fnmatch
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..io import load_labels, load_volume
from ..types import Volume

__all__ = ["LEAST_VOXELS", "Case", "Structure", "find_cases", "group_of"]

LEAST_VOXELS = 100


@dataclass(frozen=True, slots=True)
class Structure:
    """One labelled structure of a case."""

    name: str
    label: int
    voxels: int


@dataclass(frozen=True, slots=True)
class Case:
    """A folder with a scan and its labels."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    def load(self) -> tuple[Volume, NDArray[np.int64]]:
        """The scan, and its label map indexed [k, j, i].

        Raises:
            ImageError: a file cannot be read, or the two do not lie on one grid.
        """
        volume = load_volume(self.folder / "image.nii.gz")
        labels = load_labels(self.folder / "label.nii.gz")
        drift = np.abs(volume.ijk_to_ras - labels.ijk_to_ras).max()
        if volume.array_kji.shape != labels.array_kji.shape or drift > 0.1 * min(volume.spacing_ijk):
            raise ImageError(f"{self.name}: image and label map are not on one grid; resample one of them.")
        return volume, labels.array_kji

    def structures(self, labels_kji: NDArray[np.int64], at_most: int | None = None) -> list[Structure]:
        """The structures large enough to score, by label; `at_most` takes them evenly spread over the labels."""
        values, counts = np.unique(labels_kji, return_counts=True)
        names = self._names()
        found = [
            Structure(names.get(int(value), f"label {int(value)}"), int(value), int(count))
            for value, count in zip(values, counts, strict=True)
            if value != 0 and count >= LEAST_VOXELS
        ]
        if at_most is not None and len(found) > at_most:
            chosen = np.unique(np.linspace(0, len(found) - 1, at_most).round().astype(int))
            found = [found[n] for n in chosen]
        return found

    def _names(self) -> dict[int, str]:
        path = self.folder / "labels.json"
        if not path.is_file():
            return {}
        try:
            return {int(value): str(name) for value, name in json.loads(path.read_text(encoding="utf-8")).items()}
        except (ValueError, AttributeError, UnicodeDecodeError) as error:
            raise ImageError(f"{path} is not a JSON object of label numbers to names.") from error


def find_cases(folder: Path, pattern: str = "*") -> list[Case]:
    """The cases of a folder whose names match a glob pattern, by name.

    Raises:
        ImageError: no such folder, or no case in it.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder; give one with <case>/image.nii.gz and <case>/label.nii.gz.")
    cases = [
        Case(path)
        for path in sorted(folder.iterdir())
        if fnmatch.fnmatch(path.name, pattern)
        and (path / "image.nii.gz").is_file()
        and (path / "label.nii.gz").is_file()
    ]
    if not cases:
        raise ImageError(f"{folder} holds no case named {pattern!r} with image.nii.gz and label.nii.gz.")
    return cases


def group_of(case: str) -> str:
    """The family of a case: its name up to the first part, from the third on, that holds a digit.

    `ct_sarcoma_001` -> `ct_sarcoma`, `mr_cine_hf-i-01_ph07` -> `mr_cine`, `mr_t1_sarcoma_002` -> `mr_t1_sarcoma`.
    """
    parts = case.split("_")
    cut = next((n for n, part in enumerate(parts) if n >= 2 and re.search(r"\d", part)), len(parts))
    return "_".join(parts[:cut])
