"""One run of the bench: every measurement of DESIGN 5, on one machine, in one go."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch

from . import figures
from .attention import HEAD_DIM, HEADS, WINDOW, attention_scaling
from .compute import Networks, time_batches, time_clicks, time_encoders, time_own_crop, time_sam2d
from .correctness import agreement, count_gflop
from .floors import Ceilings, attention_floor_ms, measure_ceilings, network_floors
from .fresh import FreshStart, fresh_start
from .machine import device_name, machine, precision_name
from .method import describe_methods
from .networks import Runner

__all__ = ["STAGES", "BenchPlan", "quick_plan", "run_bench"]

# How often `run_bench` calls `on_stage`, fresh processes beside.
STAGES = 7


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """How much to measure.

    Attributes:
        size: crop size, voxels per axis.
        sam_size, sam_depth, sam_slices: the 2D network and the stack it goes through.
        sam_timed: slices that are really run on a CPU; elsewhere all are.
        scan: voxels along i, j, k of the scan to click on.
        clicks: warm clicks per process.
        starts: fresh processes that open the scan.
        tokens: sizes of the attention comparison; the device's usual ones if None.
        product, copy_mb: sizes for the measured ceilings; enough for the device if None.
        seconds: time for the encoders; clicks and attention get shares of it.
    """

    size: int = 128
    sam_size: int = 1024
    sam_depth: int = 12
    sam_slices: int = 128
    sam_timed: int = 2
    scan: tuple[int, int, int] = (512, 512, 400)
    clicks: int = 12
    starts: int = 3
    tokens: tuple[int, ...] | None = None
    product: int | None = None
    copy_mb: int | None = None
    seconds: float = 40.0

    @property
    def stages(self) -> int:
        """How often `run_bench` tells of a stage."""
        return STAGES + self.starts


def quick_plan() -> BenchPlan:
    """Everything once and small: to see that the bench works here. Its figures mean nothing."""
    return BenchPlan(
        size=32, sam_size=224, sam_depth=1, sam_slices=32, scan=(96, 96, 80), clicks=3, starts=1, tokens=(64, 512),
        product=256, copy_mb=4, seconds=1.0,
    )  # fmt: skip


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
    about = machine()
    starts = _fresh_starts(device, plan, begin)
    begin("networks")
    networks = Networks.build(device, plan.size)
    begin("correctness against float32")
    agreed = agreement(networks)
    gflop = count_gflop(networks)
    begin("clicks")
    clicks = time_clicks(networks, seconds=0.3 * plan.seconds)
    begin("encoders, ours and published")
    encoders = time_encoders(networks, seconds=plan.seconds)
    begin("batches")
    throughput = time_batches(networks, seconds=0.1 * plan.seconds)
    own_crop = time_own_crop(networks, seconds=0.1 * plan.seconds)
    begin("a 2D SAM, slice by slice")
    sam = time_sam2d(
        device,
        slices=plan.sam_slices,
        image_size=plan.sam_size,
        depth=plan.sam_depth,
        timed=plan.sam_timed if device.type == "cpu" else None,
    )
    begin("floors, sparse and dense attention")
    ceilings = measure_ceilings(device, side=plan.product, megabytes=plan.copy_mb, seconds=0.02 * plan.seconds)
    floors = {name: _floors(networks, name, gflop[name], ceilings) for name in ("student", "teacher", "default")}
    attention = _attention(device, plan, ceilings)
    return {
        "format": figures.BENCH_FORMAT,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "precision": precision_name(device),
        "crop": plan.size,
        "encode": {
            "ours_ms": encoders["ours"].median_ms,
            "plain_ms": figures.median(encoders, "plain"),
            "teacher_published_ms": figures.median(encoders, "teacher_published"),
            "sam2d_slices_ms": sam["stack_ms"],
            "sam2d_slices": sam["slices"],
            "sam2d_slices_timed": sam["slices_timed"],
            "sam2d_extrapolated": sam["extrapolated"],
        },
        "click": {"ours_ms": clicks["ours"].median_ms, "plain_ms": figures.median(clicks, "plain")},
        "end_to_end": figures.end_to_end(starts),
        "attention": attention,
        "memory": figures.memory(starts),
        "agreement": agreed["student"],
        "default": {
            "trained_weights": networks.default_is_trained,
            "encode_ms": encoders["default"].median_ms,
            "click_ms": clicks["default"].median_ms,
            "agreement": agreed["default"],
            "own_crop": {
                "size": networks.own_crop,
                "encode_ms": own_crop["encode"].median_ms,
                "click_ms": own_crop["click"].median_ms,
            },
        },
        "teacher_ours_ms": encoders["teacher"].median_ms,
        "throughput": throughput,
        "model_load": {
            "load_ms": figures.spread_of([start["load_ms"] for start in starts]),
            "import_ms": figures.spread_of([start["import_ms"] for start in starts]),
        },
        "gflop": gflop,
        "floors": {"tflops": ceilings.tflops, "gigabytes_per_second": ceilings.gigabytes_per_second, **floors},
        "ratios": figures.ratios(encoders, clicks, sam["stack_ms"]),
        "ratios_of_processor_time": figures.processor_ratios(encoders, clicks),
        "spread": {
            "encode": figures.spreads(encoders),
            "click": figures.spreads(clicks),
            "own_crop": figures.spreads(own_crop),
            "sam2d": sam,
            "fresh_processes": starts,
        },
        **begin.done(),
        "machine": about,
        "method": describe_methods(
            size=plan.size, own=networks.own_crop, pixels=plan.sam_size, sam=sam, starts=plan.starts
        ),
    }


def _fresh_starts(device: torch.device, plan: BenchPlan, begin: Callable[[str], None]) -> list[FreshStart]:
    """Processes that open the scan, one after the other."""
    starts = []
    for number in range(plan.starts):
        begin(f"a whole scan in a fresh process, {number + 1} of {plan.starts}")
        starts.append(
            fresh_start(
                str(device),
                plan.scan,
                plan.clicks,
                threads=torch.get_num_threads(),
                dtype=precision_name(device),
                reopened=True,
            )
        )
    return starts


def _floors(networks: Networks, name: str, gflop: dict[str, float], ceilings: Ceilings) -> dict[str, float]:
    """Floors of one network on one crop: "encode_ms" and "click_ms"."""
    model = getattr(networks, name)
    runner = Runner(model, networks.device)
    embedding = runner.encode(networks.image)
    logits = runner.decode(embedding, networks.clicked(model))
    found = network_floors(model, gflop, networks.image, embedding, logits, ceilings)
    return {f"{kind}_ms": value for kind, value in found.items()}


def _attention(device: torch.device, plan: BenchPlan, ceilings: Ceilings) -> list[dict[str, Any]]:
    """Dense and sparse attention by number of tokens, the floor of the sparse one beside."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    rows = attention_scaling(device, plan.tokens, dtype=dtype, seconds=0.1 * plan.seconds)
    return [
        {
            **row,
            "sparse_floor_ms": attention_floor_ms(
                row["tokens"], HEADS, HEAD_DIM, WINDOW, ceilings, element_bytes=dtype.itemsize
            ),
        }
        for row in rows
    ]


class _StageClock:
    """Tells which stage begins, and how long each took, on the clock and of processor time."""

    def __init__(self, on_stage: Callable[[str], None]) -> None:
        self._on_stage = on_stage
        self._names: list[str] = []
        self._marks: list[tuple[float, float]] = []

    def __call__(self, stage: str) -> None:
        self._names.append(stage)
        self._marks.append(self._now())
        self._on_stage(stage)

    def done(self) -> dict[str, dict[str, float]]:
        """Per stage and of all: `seconds` and `processor_seconds`."""
        marks = [*self._marks, self._now()]
        found = {}
        for which, name in enumerate(("seconds", "processor_seconds")):
            spent = [after[which] - before[which] for before, after in pairwise(marks)]
            found[name] = {**dict(zip(self._names, spent, strict=True)), "all": sum(spent)}
        return found

    @staticmethod
    def _now() -> tuple[float, float]:
        """Seconds on the clock, and those that this process and the ended ones it started worked."""
        return perf_counter(), sum(os.times()[:4])
