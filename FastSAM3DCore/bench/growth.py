"""`fastsam3d bench --growth`: time and memory against the size of a scan, the clicks made and the segments drawn."""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from ..extras import how_to_install
from .fresh import FreshStart, fresh_start, run_module
from .machine import device_name, machine, precision_name
from .many_clicks import ManyClicks, many_clicks
from .memory import available_mb
from .scaling import fit_growth

__all__ = ["GROWTH_FORMAT", "GrowthPlan", "quick_growth_plan", "run_growth", "worse_than_linear"]

# What a report of `run_growth` says of itself.
GROWTH_FORMAT = "fastsam3d-bench-growth/1"
# The part of the body that every scan shows, so that larger scans are finer ones of the same organ.
FIELD_OF_VIEW_MM = 409.6
# int16 voxels and int8 logits are 3 bytes; taking the scan in, flags of a box and the mask need some more.
BYTES_PER_VOXEL = 6
SLICER_LAYER = Path(__file__).parents[2] / "Testing" / "mrml" / "bench_segments.py"
# What resident memory may differ from round to round, MB, before it is called a leak.
LEAK_MB = 4.0


@dataclass(frozen=True, slots=True)
class GrowthPlan:
    """How far to go.

    Attributes:
        scans: voxels along i, j, k, smallest first.
        scan_clicks: warm clicks on each.
        repeats: fresh processes per scan.
        clicks: in one session, on a scan of `clicks_on`.
        rounds: of opening, clicking and undoing, to find leaks.
        segments: in one segmentation of the Slicer layer, on a scan of `segments_on`.
    """

    scans: tuple[tuple[int, int, int], ...] = tuple((n, n, n) for n in (128, 256, 384, 512, 768, 1024))
    scan_clicks: int = 8
    repeats: int = 1
    clicks: int = 200
    clicks_on: tuple[int, int, int] = (256, 256, 256)
    rounds: int = 4
    segments: int = 100
    segments_on: tuple[int, int, int] = (192, 192, 192)

    @property
    def stages(self) -> int:
        """How often `run_growth` tells of a stage."""
        return len(self.scans) + 2


def quick_growth_plan() -> GrowthPlan:
    """Everything once and small; its figures mean nothing."""
    scans = ((32, 32, 24), (40, 40, 32), (48, 48, 48))
    return GrowthPlan(
        scans=scans, scan_clicks=2, clicks=6, rounds=2, clicks_on=scans[1], segments=4, segments_on=scans[1]
    )  # fmt: skip


def run_growth(
    device: torch.device, plan: GrowthPlan | None = None, on_stage: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure how costs grow.

    Args:
        device: where the network computes.
        plan: how far; the full one by default.
        on_stage: called with a few words before each part.

    Returns:
        "volumes", "clicks" and "segments", each with its rows and the fitted growth of its costs; "segments" has a
        reason instead where the Slicer layer or Slicer's libraries are not there.
    """
    plan = plan or GrowthPlan()
    about, start = machine(), perf_counter()
    return {
        "format": GROWTH_FORMAT,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "precision": precision_name(device),
        "volumes": _volumes(device, plan, on_stage),
        "clicks": _clicks(device, plan, on_stage),
        "segments": _segments(device, plan, on_stage),
        "machine": about,
        "seconds": perf_counter() - start,
        "method": METHODS,
    }


def worse_than_linear(report: dict[str, Any]) -> list[str]:
    """Every cost that was found to grow faster than it should, or to leak."""
    found = [
        f"{part}: {cost} grows with the power {growth['exponent']:.2f} ({growth['last_exponent']:.2f} at the end)"
        for part in ("volumes", "clicks", "segments")
        for cost, growth in report[part].get("growth", {}).items()
        if growth["verdict"] == "worse than linear"
    ]
    leak = report["clicks"]["leak_mb_per_round"]
    if leak is not None and leak > LEAK_MB:
        found.append(f"clicks: {leak:.1f} MB more after every round of opening, clicking and undoing")
    return found


METHODS = {
    "power": (
        "Cost ~ size^power, fitted over all sizes by least squares of logarithms, and between the last two alone, "
        "which a constant part hides least. Of times the processor time is fitted, on all threads together: other "
        "programs disturb it less. Linear or better: at most 1.1, and 1.25 at the end. Linear at the end: steeper only "
        "among the smaller sizes, and at most 1.1 over the last three."
    ),
    "volumes": (
        f"A made-up abdomen of {FIELD_OF_VIEW_MM:g} mm along every axis, finer and finer, int16, so that the clicked "
        "organ covers the same part of it; one fresh process per size. Memory: the largest the process had beyond its "
        "imports (Python and torch), the scan included."
    ),
    "clicks": (
        "Clicks inside and outside one organ's border in turn, all kept, in one session. Time: of the first n clicks "
        "together. Memory: what the process holds beyond its imports after n clicks, undo history, scan and network "
        "included. Leak: how much more it holds per round of opening the scan, clicking and undoing everything."
    ),
    "segments": (
        "The Slicer layer with the default network: new segment, a click and a refining click, over and over, all "
        "segments kept in one segmentation. Time: of the first n segments together. Memory: what the process holds "
        "beyond an empty segmentation, label maps, prompts and history included."
    ),
}


def _volumes(device: torch.device, plan: GrowthPlan, on_stage: Callable[[str], None]) -> dict[str, Any]:
    rows = []
    for scan in plan.scans:
        on_stage(f"a scan of {' x '.join(map(str, scan))}")
        rows.append(_volume_row(device, scan, plan))
    voxels = [row["voxels"] for row in rows]
    costs = ("set_image_cpu_ms", "first_click_cpu_ms", "warm_click_cpu_ms", "memory_mb")
    return {"rows": rows, "growth": {cost: fit_growth(voxels, [row[cost] for row in rows]) for cost in costs}}


def _volume_row(device: torch.device, scan: tuple[int, int, int], plan: GrowthPlan) -> dict[str, Any]:
    """One size; figures are None, with the reason, where the machine has too little memory for it."""
    row: dict[str, Any] = {"scan": list(scan), "voxels": prod(scan), "not_measured": None}
    kinds = ("set_image", "first_click", "warm_click")
    costs = [f"{kind}{unit}" for unit in ("_ms", "_cpu_ms") for kind in kinds] + ["memory_mb"]
    needed, free = BYTES_PER_VOXEL * prod(scan) / 2**20 + 1024, available_mb()
    if free is not None and needed > free:
        return {**row, **dict.fromkeys(costs), "not_measured": f"needs {needed:,.0f} MB, {free:,.0f} MB are free"}
    starts = [
        fresh_start(
            str(device),
            scan,
            plan.scan_clicks,
            threads=torch.get_num_threads(),
            dtype=precision_name(device),
            spacing_mm=FIELD_OF_VIEW_MM / max(scan),
        )
        for _ in range(plan.repeats)
    ]
    return {
        **row,
        **{f"{kind}_ms": middle(starts, f"{kind.removesuffix('_click')}_ms") for kind in kinds},
        **{f"{kind}_cpu_ms": middle(starts, f"{kind.removesuffix('_click')}_cpu_ms") for kind in kinds},
        "memory_mb": statistics.median(values) if (values := [*filter(None, map(beyond_imports, starts))]) else None,
        "mask_voxels": starts[0]["scan"]["voxels"],
    }


def middle(starts: Sequence[FreshStart], figure: str) -> float:
    """The median over processes of one of their figures on the scan."""
    return statistics.median(float(start["scan"][figure]) for start in starts)


def beyond_imports(start: FreshStart) -> float | None:
    """Megabytes a process needed at most beyond Python and torch."""
    if start["peak_mb"] is None or start["base_mb"] is None:
        return None
    return start["peak_mb"] - start["base_mb"]


def _clicks(device: torch.device, plan: GrowthPlan, on_stage: Callable[[str], None]) -> dict[str, Any]:
    on_stage(f"{plan.clicks} clicks in one session")
    counts = steps(plan.clicks)
    found = many_clicks(
        str(device),
        plan.clicks_on,
        counts,
        spacing_mm=FIELD_OF_VIEW_MM / max(plan.clicks_on),
        rounds=plan.rounds,
        round_clicks=min(20, plan.clicks),
        threads=torch.get_num_threads(),
        dtype=precision_name(device),
    )
    together, together_cpu = list(accumulate(found["click_ms"])), list(accumulate(found["click_cpu_ms"]))
    rows = [
        {
            "clicks": count,
            "together_ms": together[count - 1],
            "together_cpu_ms": together_cpu[count - 1],
            "latest_ms": statistics.median(found["click_ms"][max(0, count - 10) : count]),
            "memory_mb": memory,
        }
        for count, memory in zip(counts, found["memory_mb"], strict=True)
    ]
    growth = {cost: fit_growth(counts, [row[cost] for row in rows]) for cost in ("together_cpu_ms", "memory_mb")}
    return {
        "scan": list(plan.clicks_on),
        "rows": rows,
        "growth": growth,
        "undo_ms": found["undo_ms"],
        "rounds_mb": found["rounds_mb"],
        "leak_mb_per_round": leak(found),
    }


def leak(found: ManyClicks) -> float | None:
    """Megabytes more per round, from the second round on: the first one still grows pools to their size."""
    rounds = [value for value in found["rounds_mb"][1:] if value is not None]
    return (rounds[-1] - rounds[0]) / (len(rounds) - 1) if len(rounds) > 1 else None


def steps(most: int) -> list[int]:
    """1, 2, 5, 10, 20, 50 ... up to `most`."""
    counts = [digit * 10**power for power in range(7) for digit in (1, 2, 5)]
    return [*(count for count in counts if count < most), most]


def _segments(device: torch.device, plan: GrowthPlan, on_stage: Callable[[str], None]) -> dict[str, Any]:
    on_stage(f"{plan.segments} segments in the Slicer layer")
    if not SLICER_LAYER.is_file():
        return {"rows": [], "growth": {}, "not_measured": "it needs a source checkout"}
    if importlib.util.find_spec("slicer") is None:
        return {"rows": [], "growth": {}, "not_measured": f"it needs Slicer's libraries; {how_to_install('web')}"}
    wanted = {"device": str(device), "scan": plan.segments_on, "segments": plan.segments}
    wanted |= {"counts": steps(plan.segments), "threads": torch.get_num_threads()}
    wanted["dtype"] = precision_name(device)
    wanted["spacing_mm"] = FIELD_OF_VIEW_MM / max(plan.segments_on)
    found = run_module("Testing.mrml.bench_segments", wanted, folder=SLICER_LAYER.parents[2] / "FastSAM3DSlicer")
    rows: Sequence[dict[str, Any]] = found["rows"]
    counts = [row["segments"] for row in rows]
    growth = {cost: fit_growth(counts, [row[cost] for row in rows]) for cost in ("together_cpu_ms", "memory_mb")}
    return {"scan": list(plan.segments_on), **found, "growth": growth, "not_measured": None}
