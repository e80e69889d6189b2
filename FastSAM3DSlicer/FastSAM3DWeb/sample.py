"""The sample scan: the first of the project's samples that can be had here."""

from __future__ import annotations

from FastSAM3DCore.cli.samples import list_samples, locate
from FastSAM3DCore.io import load_volume
from FastSAM3DCore.types import Volume

__all__ = ["load_sample"]


def load_sample() -> tuple[Volume, str]:
    """The scan and its name; downloads it where the network allows.

    Raises:
        ImageError: there is none, with how to get one.
    """
    sample, path = locate(list_samples())
    return load_volume(path), f"Sample: {sample.description.split(';')[0].rstrip('.')}"
