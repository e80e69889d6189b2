"""One run of the bench: every measurement of DESIGN 5, in one process, on one machine."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Any

import torch

from .. import __version__
from ..devices import cpu_name
from ..errors import FastSAM3DError
from ..precision import fast_dtype
from .attention import attention_scaling
from .compute import (
    LEAST_DICE,
    Networks,
    agreement,
    count_gflop,
    time_batches,
    time_clicks,
    time_encoders,
    time_own_crop,
    time_sam2d,
)
from .end_to_end import EndToEnd, click_through
from .fresh import fresh_start
from .method import describe_methods
from .phantom import abdomen
from .timing import Timing

__all__ = ["STAGES", "BenchPlan", "check_agreement", "quick_plan", "run_bench"]

# How often `run_bench` calls `on_stage`.
STAGES = 8


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """How much to measure.

    Attributes:
        size: crop size, voxels per axis.
        sam_size, sam_depth, sam_slices: the 2D network and the stack it is scaled to.
        sam_timed: slices that are really run.
        scan: voxels along i, j, k of the scan to click on.
        clicks: warm clicks.
        tokens: sizes of the attention comparison; the device's usual ones if None.
        seconds: time for the encoders; clicks and attention get shares of it.
    """

    size: int = 128
    sam_size: int = 1024
    sam_depth: int = 12
    sam_slices: int = 128
    sam_timed: int = 1
    scan: tuple[int, int, int] = (512, 512, 400)
    clicks: int = 12
    tokens: tuple[int, ...] | None = None
    seconds: float = 40.0


def quick_plan() -> BenchPlan:
    """Everything once and small: to see that the bench works here. Its figures mean nothing."""
    return BenchPlan(
        size=32, sam_size=224, sam_depth=1, sam_slices=32, scan=(96, 96, 80), clicks=3, tokens=(64, 512), seconds=1.0
    )


def run_bench(
    device: torch.device, plan: BenchPlan | None = None, on_stage: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure everything.

    Args:
        device: where to compute.
        plan: how much; the full bench by default.
        on_stage: called with a few words before each part.

    Returns:
        The report as DESIGN 5 lays it out, with spreads and methods beside it; what was not measured is None.
    """
    plan = plan or BenchPlan()
    begin = _StageClock(on_stage)
    begin("fresh process")
    fresh = fresh_start(str(device), plan.size)
    begin("networks")
    networks = Networks.build(device, plan.size)
    begin("correctness against float32")
    agreed = agreement(networks)
    gflop = count_gflop(networks)
    begin("clicks")
    clicks = time_clicks(networks, seconds=0.3 * plan.seconds)
    begin("encoders, ours and published")
    encoders = time_encoders(networks, seconds=plan.seconds)
    per_second = time_batches(networks)
    own_crop = time_own_crop(networks, seconds=0.1 * plan.seconds)
    begin("a 2D SAM, slice by slice")
    sam = time_sam2d(
        device, slices=plan.sam_slices, image_size=plan.sam_size, depth=plan.sam_depth, timed=plan.sam_timed
    )
    begin("clicks on a whole scan")
    volume, organ = abdomen(plan.scan)
    whole = click_through(networks.default, device, volume, organ, plan.clicks)
    begin("sparse and dense attention")
    half = torch.bfloat16 if device.type == "cuda" else torch.float32
    attention = attention_scaling(device, plan.tokens, dtype=half, seconds=0.15 * plan.seconds)
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "precision": str(fast_dtype(device)).removeprefix("torch."),
        "crop": plan.size,
        "encode": {
            "ours_ms": encoders["ours"].median_ms,
            "plain_ms": median(encoders, "plain"),
            "teacher_published_ms": median(encoders, "teacher_published"),
            "sam2d_slices_ms": sam,
        },
        "click": {"ours_ms": clicks["ours"].median_ms, "plain_ms": median(clicks, "plain")},
        "end_to_end": end_to_end(whole),
        "attention": attention,
        "memory": {"peak_mb": fresh["peak_mb"]},
        "agreement": agreed["student"],
        "default": {
            "trained_weights": networks.default_is_trained,
            "encode_ms": encoders["default"].median_ms,
            "click_ms": clicks["default"].median_ms,
            "agreement": agreed["default"],
            "own_crop": {
                "size": networks.default.traits.crop_size,
                "encode_ms": own_crop["encode"].median_ms,
                "click_ms": own_crop["click"].median_ms,
            },
        },
        "teacher_ours_ms": encoders["teacher"].median_ms,
        "throughput": {"crops_per_second": per_second},
        "fresh_process": fresh,
        "gflop": gflop,
        "spread": {"encode": spreads(encoders), "click": spreads(clicks), "end_to_end": asdict(whole)},
        "ratios": ratios(encoders, clicks, sam),
        "ratios_of_processor_time": processor_ratios(encoders, clicks),
        "seconds": begin.done(),
        "machine": machine(),
        "method": describe_methods(size=plan.size, slices=plan.sam_slices, pixels=plan.sam_size, timed=plan.sam_timed),
    }


class _StageClock:
    """Tells which stage begins, and how long each took."""

    def __init__(self, on_stage: Callable[[str], None]) -> None:
        self._on_stage = on_stage
        self._starts: list[tuple[str, float]] = []

    def __call__(self, stage: str) -> None:
        self._starts.append((stage, perf_counter()))
        self._on_stage(stage)

    def done(self) -> dict[str, float]:
        """Seconds per stage, and of all."""
        ends = [start for _, start in self._starts[1:]] + [perf_counter()]
        seconds = {stage: end - start for (stage, start), end in zip(self._starts, ends, strict=True)}
        return {**seconds, "all": sum(seconds.values())}


def end_to_end(whole: EndToEnd) -> dict[str, Any]:
    """The end-to-end block of the report."""
    return {
        "scan": list(whole.shape_ijk),
        "first_click_ms": whole.first_ms,
        "warm_click_ms": whole.warm_ms,
        "split_ms": whole.split_ms,
        "first_split_ms": whole.first_split_ms,
        "set_image_ms": whole.set_image_ms,
    }


def disagreements(report: dict[str, Any]) -> list[str]:
    """What makes the run's speed worthless: fast answers that are not the float32 answers."""
    found = {"student": report["agreement"], "default": report["default"]["agreement"]}
    return [
        f"{name}: Dice {values['dice']:.3f} with float32 is below {LEAST_DICE}"
        for name, values in found.items()
        if not values["dice"] >= LEAST_DICE
    ]


def median(timings: dict[str, Timing], name: str) -> float | None:
    return timings[name].median_ms if name in timings else None


def spreads(timings: dict[str, Timing]) -> dict[str, dict[str, float]]:
    """Median, quartiles, number of runs and first call of everything timed."""
    return {name: asdict(timing) for name, timing in timings.items()}


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


def device_name(device: torch.device) -> str:
    """The processor or card, as people call it."""
    if device.type == "cuda":
        return f"{device}: {torch.cuda.get_device_name(device)}"
    return f"{device}: {cpu_name() if device.type == 'cpu' else 'Apple GPU'}"


def machine() -> dict[str, str]:
    """When and with which versions."""
    versions = {"fastsam3d": __version__, "torch": torch.__version__, "python": platform.python_version()}
    for package in ("numpy", "SimpleITK", "triton"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    cuda = torch.version.cuda or "none"
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": date, "system": platform.platform(), "cpu": cpu_name(), "cuda": cuda, **versions}


def check_agreement(report: dict[str, Any]) -> None:
    """Raise if the speed was bought with wrong answers.

    Raises:
        FastSAM3DError: see `disagreements`.
    """
    wrong = disagreements(report)
    if wrong:
        raise FastSAM3DError(f"The fast answers are wrong, so the times mean nothing. {'; '.join(wrong)}.")
