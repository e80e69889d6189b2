"""What a person waits for: from a click on a whole scan to the changed part of the mask, by stage."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter, process_time
from typing import TypedDict, TypeVar

import numpy as np
import torch

from ..engine import Engine
from ..modeling.interface import PromptableModel
from ..session import LocalSession
from ..types import MaskUpdate, Volume
from .phantom import Organ

__all__ = ["EndToEnd", "Reopened", "click_session", "click_through", "clicks_around", "middle_of", "reopen", "timed"]

Point = tuple[float, float, float]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """Milliseconds of clicks on one scan.

    Attributes:
        shape_ijk: voxels of the scan.
        set_image_ms: taking the scan in.
        first_ms: the first click of all: finding the zoom, encoding, following the border, and whatever the process
            does once (threads, memory, kernels).
        warm_ms: median of the clicks after the first.
        warm_low_ms, warm_high_ms: their quartiles.
        warm_all_ms: every one of them.
        set_image_cpu_ms, first_cpu_ms, warm_cpu_ms: the processor time of the same on all threads, a median again: what
            is left of a comparison on a machine that others keep busy.
        split_ms: median of each stage over the warm clicks; a stage most clicks do without has a median of zero.
        split_mean_ms: mean of each stage over the warm clicks.
        first_split_ms, second_split_ms: each stage of the first click, and of the first warm one.
        voxels: foreground after all clicks.
    """

    shape_ijk: tuple[int, int, int]
    set_image_ms: float
    first_ms: float
    warm_ms: float
    warm_low_ms: float
    warm_high_ms: float
    set_image_cpu_ms: float
    first_cpu_ms: float
    warm_cpu_ms: float
    warm_all_ms: list[float] = field(default_factory=list)
    split_ms: dict[str, float] = field(default_factory=dict)
    split_mean_ms: dict[str, float] = field(default_factory=dict)
    first_split_ms: dict[str, float] = field(default_factory=dict)
    second_split_ms: dict[str, float] = field(default_factory=dict)
    voxels: int = 0


def middle_of(organ: Organ, volume: Volume) -> Point:
    """The voxel (i, j, k) in the middle of an organ."""
    i, j, k = (round(c * n) for c, n in zip(organ.centre, volume.shape_ijk, strict=True))
    return (i, j, k)


def clicks_around(organ: Organ, volume: Volume, count: int) -> list[tuple[Point, bool]]:
    """Clicks inside and outside an organ's border in turn, the same every time: (voxel (i, j, k), positive)."""
    shape = np.asarray(volume.shape_ijk)
    centre, radius = np.asarray(organ.centre) * shape, np.asarray(organ.radius) * shape
    generator = np.random.default_rng(0)
    found: list[tuple[Point, bool]] = []
    for number in range(count):
        inside = number % 2 == 0
        direction = generator.normal(size=3)
        direction *= (0.75 if inside else 1.3) / np.linalg.norm(direction)
        i, j, k = np.clip((centre + direction * radius).round(), 0, shape - 1).tolist()
        found.append(((i, j, k), inside))
    return found


def click_through(
    model: PromptableModel, device: torch.device, volume: Volume, organ: Organ, clicks: int = 12
) -> EndToEnd:
    """Click an organ of a scan in a session of its own; see `click_session`."""
    session = LocalSession(Engine(model, device))
    try:
        return click_session(session, volume, organ, clicks)
    finally:
        session.close()


def click_session(session: LocalSession, volume: Volume, organ: Organ, clicks: int = 12) -> EndToEnd:
    """Click an organ of a scan once in its middle, then inside and outside near its border in turn.

    Args:
        session: with no scan yet.
        volume: the scan.
        organ: what is clicked in it.
        clicks: after the first; two or more.
    """
    middle = middle_of(organ, volume)
    _, taken_in, taken_in_cpu = timed(partial(session.set_image, volume))
    first, first_ms, first_cpu = timed(partial(session.add_point, middle))
    times: list[float] = []
    busy: list[float] = []
    stages: list[dict[str, float]] = []
    for point, positive in clicks_around(organ, volume, clicks):
        update, elapsed, worked = timed(partial(session.add_point, point, positive=positive))
        times.append(elapsed)
        busy.append(worked)
        stages.append(stages_of(update))
    voxels = int(session.mask().sum())
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    names = sorted({name for stage in stages for name in stage})
    return EndToEnd(
        shape_ijk=volume.shape_ijk,
        set_image_ms=taken_in,
        first_ms=first_ms,
        warm_ms=median,
        warm_low_ms=low,
        warm_high_ms=high,
        set_image_cpu_ms=taken_in_cpu,
        first_cpu_ms=first_cpu,
        warm_cpu_ms=statistics.median(busy),
        warm_all_ms=times,
        split_ms={name: statistics.median(stage.get(name, 0.0) for stage in stages) for name in names},
        split_mean_ms={name: statistics.fmean(stage.get(name, 0.0) for stage in stages) for name in names},
        first_split_ms=stages_of(first),
        second_split_ms=stages[0],
        voxels=voxels,
    )


class Reopened(TypedDict):
    """First clicks of a process that has clicked before, on the same scan taken in anew, in milliseconds.

    `again_ms` as it comes; `prefetched_ms` after the crops under the cursor were embedded in the background; and the
    stages of both.
    """

    again_ms: float
    again_split_ms: dict[str, float]
    prefetched_ms: float
    prefetched_split_ms: dict[str, float]


def reopen(session: LocalSession, volume: Volume, organ: Organ) -> Reopened:
    """Take a scan in anew and click an organ's middle, without and with a prefetch before."""
    middle = middle_of(organ, volume)
    session.set_image(volume)
    first, again, _ = timed(partial(session.add_point, middle))
    session.set_image(volume)
    session.prefetch(middle)
    second, prefetched, _ = timed(partial(session.add_point, middle))
    return {
        "again_ms": again,
        "again_split_ms": stages_of(first),
        "prefetched_ms": prefetched,
        "prefetched_split_ms": stages_of(second),
    }


def stages_of(update: MaskUpdate) -> dict[str, float]:
    """Milliseconds of each stage of one prompt."""
    return {name: 1000 * seconds for name, seconds in update.seconds.items() if name != "total"}


def timed(call: Callable[[], Result]) -> tuple[Result, float, float]:
    """What a call returns, its milliseconds on the clock, and those of processor time on all threads."""
    start, busy = perf_counter(), process_time()
    result = call()
    return result, 1000 * (perf_counter() - start), 1000 * (process_time() - busy)
