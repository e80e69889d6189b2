"""One session clicked many times: run as `python -m FastSAM3DCore.bench.many_clicks`, prints one line of JSON.

In a process of its own, so that its memory is the session's and nothing else's.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

from .fresh import run_module

if TYPE_CHECKING:
    from ..session import LocalSession

__all__ = ["ManyClicks", "many_clicks"]


class ManyClicks(TypedDict):
    """What many clicks cost.

    `click_ms` each click, `click_cpu_ms` its processor time on all threads; `memory_mb` what the process holds
    beyond its imports after so many of them as asked for, scan and network included; `undo_ms` taking all of
    them back, per click; `rounds_mb` what it holds after each round of opening the scan, clicking and undoing
    everything: the same after every round where nothing leaks. None where the system does not tell.
    """

    click_ms: list[float]
    click_cpu_ms: list[float]
    memory_mb: list[float | None]
    undo_ms: float
    rounds_mb: list[float | None]


def many_clicks(
    device: str,
    scan: tuple[int, int, int],
    counts: Sequence[int],
    *,
    spacing_mm: float,
    rounds: int = 4,
    round_clicks: int = 20,
    threads: int | None = None,
    dtype: str | None = None,
) -> ManyClicks:
    """Click an organ of a made-up abdomen over and over.

    Args:
        device: as torch names it.
        scan: voxels along i, j, k.
        counts: numbers of clicks in one session, rising, after which to look at the memory; the last one is the end.
        spacing_mm: voxel size.
        rounds: of opening, clicking, undoing, to find leaks.
        round_clicks: clicks in each of them.
        threads: of the CPU; torch decides if None.
        dtype: what to compute in, as torch names it; the device's fastest if None.

    Raises:
        FastSAM3DError: the process failed.
    """
    wanted = {"device": device, "scan": scan, "counts": list(counts), "spacing_mm": spacing_mm}
    wanted |= {"rounds": rounds, "round_clicks": round_clicks, "threads": threads, "dtype": dtype}
    result: ManyClicks = run_module("FastSAM3DCore.bench.many_clicks", wanted)
    return result


def undo_all(session: LocalSession) -> None:
    """Take everything back."""
    while session.can_undo:
        session.undo()


def _measure(wanted: dict[str, Any]) -> ManyClicks:
    import torch

    if wanted["threads"] is not None:
        torch.set_num_threads(wanted["threads"])
    from ..engine import Engine
    from ..session import LocalSession
    from .end_to_end import Point, clicks_around, timed
    from .memory import resident_mb, settle_memory
    from .networks import default_network
    from .phantom import abdomen

    device = torch.device(wanted["device"])
    base = resident_mb()

    def held() -> float | None:
        gc.collect()
        settle_memory()
        now = resident_mb()
        return None if now is None or base is None else now - base

    dtype = wanted["dtype"] and getattr(torch, wanted["dtype"])
    session = LocalSession(Engine(default_network(device)[0], device, dtype=dtype))
    volume, organ = abdomen(tuple(wanted["scan"]), wanted["spacing_mm"])
    points = clicks_around(organ, volume, wanted["counts"][-1])

    def click(some: Sequence[tuple[Point, bool]]) -> list[tuple[float, float]]:
        return [timed(partial(session.add_point, point, positive=positive))[1:] for point, positive in some]

    session.set_image(volume)
    times: list[tuple[float, float]] = []
    memory: list[float | None] = []
    for count in wanted["counts"]:
        times += click(points[len(times) : count])
        memory.append(held())
    undo_ms = timed(partial(undo_all, session))[1] / max(1, len(points))
    rounds: list[float | None] = []
    for _ in range(wanted["rounds"]):
        session.set_image(volume)
        click(points[: wanted["round_clicks"]])
        undo_all(session)
        rounds.append(held())
    session.close()
    clock, processor = ([pair[which] for pair in times] for which in (0, 1))
    return {
        "click_ms": clock,
        "click_cpu_ms": processor,
        "memory_mb": memory,
        "undo_ms": undo_ms,
        "rounds_mb": rounds,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(json.loads(sys.argv[1]))) + "\n")
