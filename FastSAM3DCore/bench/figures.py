"""From timings to the figures of the report: medians, spreads, ratios, and what makes a run worthless."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..errors import FastSAM3DError
from .correctness import LEAST_DICE
from .fresh import FreshStart
from .timing import Timing

__all__ = [
    "BENCH_FORMAT",
    "check_agreement",
    "disagreements",
    "end_to_end",
    "median",
    "memory",
    "processor_ratios",
    "ratios",
    "spread_of",
    "spreads",
]

# What a report of `run_bench` says of itself; another number where the keys that are shown have changed.
BENCH_FORMAT = "fastsam3d-bench/1"


def median(timings: dict[str, Timing], name: str) -> float | None:
    """Milliseconds, or None if it was not timed."""
    return timings[name].median_ms if name in timings else None


def spreads(timings: dict[str, Timing]) -> dict[str, dict[str, float]]:
    """Median, quartiles, number of runs and first call of everything timed."""
    return {name: asdict(timing) for name, timing in timings.items()}


def spread_of(values: Sequence[float]) -> dict[str, float]:
    """Median, extremes and number of a few values."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "runs": len(values)}


def end_to_end(starts: Sequence[FreshStart]) -> dict[str, Any]:
    """The end-to-end block of the report, from fresh processes: medians over them."""
    scans = [start["scan"] for start in starts]
    reopened = [start["reopened"] for start in starts if start["reopened"] is not None]

    def middle(figure: str) -> float:
        return statistics.median(float(scan[figure]) for scan in scans)

    def stages(which: str, among: Sequence[Any] = scans) -> dict[str, float]:
        names = sorted({name for scan in among for name in scan[which]})
        return {name: statistics.median(scan[which].get(name, 0.0) for scan in among) for name in names}

    return {
        "scan": list(scans[0]["shape_ijk"]),
        "first_click_ms": middle("first_ms"),
        "second_click_ms": statistics.median(scan["warm_all_ms"][0] for scan in scans),
        "warm_click_ms": statistics.median(ms for scan in scans for ms in scan["warm_all_ms"]),
        "split_ms": stages("split_ms"),
        "split_mean_ms": stages("split_mean_ms"),
        "first_split_ms": stages("first_split_ms"),
        "second_split_ms": stages("second_split_ms"),
        "set_image_ms": middle("set_image_ms"),
        "first_click_again_split_ms": stages("again_split_ms", reopened),
        "first_click_prefetched_split_ms": stages("prefetched_split_ms", reopened),
        "first_click_again_ms": statistics.median(r["again_ms"] for r in reopened) if reopened else None,
        "first_click_prefetched_ms": statistics.median(r["prefetched_ms"] for r in reopened) if reopened else None,
    }


def memory(starts: Sequence[FreshStart]) -> dict[str, float | None]:
    """Memory of a session on the scan: the largest over the processes, and what it consists of."""
    peaks = [start["peak_mb"] for start in starts if start["peak_mb"] is not None]
    held = [start["held_mb"] for start in starts if start["held_mb"] is not None]
    base = [start["base_mb"] for start in starts if start["base_mb"] is not None]
    return {
        "peak_mb": max(peaks, default=None),
        "held_mb": max(held, default=None),
        "of_which_imports_mb": max(base, default=None),
        "of_which_scan_mb": starts[0]["scan_mb"],
    }


def ratios(encoders: dict[str, Timing], clicks: dict[str, Timing], sam_ms: float) -> dict[str, float | None]:
    """How many times faster ours is, within this run."""
    ours = encoders["ours"].median_ms
    plain, teacher, plain_click = (
        median(encoders, "plain"),
        median(encoders, "teacher_published"),
        median(clicks, "plain"),
    )
    return {
        "encode_vs_plain": None if plain is None else plain / ours,
        "encode_vs_teacher_published": None if teacher is None else teacher / ours,
        "encode_vs_sam2d_slices": sam_ms / ours,
        "click_vs_plain": None if plain_click is None else plain_click / clicks["ours"].median_ms,
    }


def processor_ratios(encoders: dict[str, Timing], clicks: dict[str, Timing]) -> dict[str, float | None]:
    """The same by processor time, which other programs on the machine disturb less."""
    return {
        f"{part}_vs_{other}": times[other].cpu_ms / times["ours"].cpu_ms if other in times else None
        for part, times, other in (
            ("encode", encoders, "plain"), ("encode", encoders, "teacher_published"), ("click", clicks, "plain"),
        )
    }  # fmt: skip


def disagreements(report: dict[str, Any]) -> list[str]:
    """What makes the run's speed worthless: fast answers that are not the float32 answers."""
    found = {"student": report["agreement"], "default": report["default"]["agreement"]}
    return [
        f"{name}: Dice {values['dice']:.3f} with float32 is below {LEAST_DICE}"
        for name, values in found.items()
        if not values["dice"] >= LEAST_DICE
    ]


def check_agreement(report: dict[str, Any]) -> None:
    """Raise if the speed was bought with wrong answers.

    Raises:
        FastSAM3DError: see `disagreements`.
    """
    wrong = disagreements(report)
    if wrong:
        raise FastSAM3DError(f"The fast answers are wrong, so the times mean nothing. {'; '.join(wrong)}.")
