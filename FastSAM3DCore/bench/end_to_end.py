"""What a person waits for: from a click on a whole scan to the changed part of the mask, by stage."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch

from ..engine import Engine
from ..modeling.interface import PromptableModel
from ..session import LocalSession
from ..types import Volume
from .phantom import Organ

__all__ = ["EndToEnd", "click_through"]


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """Milliseconds of clicks on one scan.

    Attributes:
        shape_ijk: voxels of the scan.
        set_image_ms: taking the scan in.
        first_ms: the first click: finding the zoom, encoding, following the border.
        warm_ms: median of the clicks after it.
        warm_low_ms, warm_high_ms: their quartiles.
        split_ms: median of each stage over the warm clicks.
        first_split_ms: each stage of the first click.
        voxels: foreground after all clicks.
    """

    shape_ijk: tuple[int, int, int]
    set_image_ms: float
    first_ms: float
    warm_ms: float
    warm_low_ms: float
    warm_high_ms: float
    split_ms: dict[str, float] = field(default_factory=dict)
    first_split_ms: dict[str, float] = field(default_factory=dict)
    voxels: int = 0


def click_through(
    model: PromptableModel, device: torch.device, volume: Volume, organ: Organ, clicks: int = 12
) -> EndToEnd:
    """Click an organ of a scan once in its middle, then inside and outside near its border in turn."""
    session = LocalSession(Engine(model, device))
    start = perf_counter()
    session.set_image(volume)
    taken_in = 1000 * (perf_counter() - start)
    shape = np.asarray(volume.shape_ijk)
    centre, radius = np.asarray(organ.centre) * shape, np.asarray(organ.radius) * shape
    start = perf_counter()
    first = session.add_point(tuple(centre.round().tolist()))
    first_ms = 1000 * (perf_counter() - start)
    generator = np.random.default_rng(0)
    times: list[float] = []
    stages: list[dict[str, float]] = []
    for number in range(clicks):
        inside = number % 2 == 0
        direction = generator.normal(size=3)
        direction *= (0.75 if inside else 1.3) / np.linalg.norm(direction)
        point = np.clip((centre + direction * radius).round(), 0, shape - 1)
        start = perf_counter()
        update = session.add_point(tuple(point.tolist()), positive=inside)
        times.append(1000 * (perf_counter() - start))
        stages.append(update.seconds)
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    names = sorted({name for stage in stages for name in stage} - {"total"})
    split = {name: 1000 * statistics.median(stage.get(name, 0.0) for stage in stages) for name in names}
    voxels = int(session.mask().sum())
    session.close()
    return EndToEnd(
        volume.shape_ijk, taken_in, first_ms, median, low, high, split,
        {name: 1000 * seconds for name, seconds in first.seconds.items() if name != "total"}, voxels,
    )  # fmt: skip
