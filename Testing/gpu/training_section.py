"""The part of the GPU report that trains: targets per second, share of the data, memory, slots that a run takes."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from FastSAM3DCore.bench.timing import synchronise
from FastSAM3DCore.modeling.hires import build_hires, save_hires, teacher_config
from FastSAM3DCore.training.config import SizePlan, TrainConfig
from FastSAM3DCore.training.data.engine import DataEngine, Sources
from FastSAM3DCore.training.distill import DistillTrainer
from FastSAM3DCore.training.loop import Trainer
from FastSAM3DCore.training.schedule import Schedule
from Testing.gpu.scale import Scale

ROOT = Path(__file__).resolve().parents[2]
SLOT_SECONDS = 600.0 * 0.95
NEARLY_OVER = 0.9  # of the schedule: the end-to-end stage of a distillation


def training(device: torch.device, scale: Scale) -> dict[str, Any]:
    """Some steps of each batch of the configs for GPUs, as the commands train and distill would take them."""
    found: dict[str, Any] = {}
    sources = None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save_hires(build_hires(teacher_config()), folder / "teacher.safetensors")
        for name, kind in (("teacher_gpu", Trainer), ("student_gpu", DistillTrainer)):
            config = TrainConfig.load(ROOT / "Resources" / "training" / f"{name}.json")
            sources = sources or sources_of(config, device, scale)
            engine = DataEngine(sources, config.mix, config.seed, device)
            alone = adapted(config, folder)
            rows = [of_plan(kind, alone, engine, plan, scale) for plan in long_run(config, scale)]
            found[name] = {"data": "random shapes" if not sources.anatomy else config.data, "plans": rows}
            found[name] |= whole_run(config, rows)
    found["passed"] = all(row["passed"] for name in ("teacher_gpu", "student_gpu") for row in found[name]["plans"])
    return found


def sources_of(config: TrainConfig, device: torch.device, scale: Scale) -> Sources:
    """The data of both configs, if they are there; a trial does without, since reading them takes longer than it."""
    readable = all(importlib.util.find_spec(name) for name in ("SimpleITK", "scipy"))
    if scale.training_crop or not readable or not Path(config.data).is_dir():
        return Sources()
    return Sources.load(Path(config.data), Path(config.splits), device)


def adapted(config: TrainConfig, folder: Path) -> TrainConfig:
    """The config in a scratch folder; its data come from an engine that is shared."""
    distill = config.distill and dataclasses.replace(config.distill, teacher=str(folder / "teacher.safetensors"))
    return dataclasses.replace(
        config,
        output=str(folder / "run"),
        data="",
        splits="",
        mix={"shapes": 1.0},
        distill=distill,
    )


def long_run(config: TrainConfig, scale: Scale) -> list[SizePlan]:
    """The plans in force at the end, or one small enough for a trial."""
    if scale.training_crop:
        return [SizePlan(size=scale.training_crop, crops=2, targets=2)]
    return [plan for plan in config.plans if plan.stop is None]


def of_plan(
    kind: type[Trainer], config: TrainConfig, engine: DataEngine, plan: SizePlan, scale: Scale
) -> dict[str, Any]:
    """One batch with the longest dialogue, for the memory, then steps as they come, for the time."""
    alone = dataclasses.replace(config, plans=(dataclasses.replace(plan, start=0),))
    row: dict[str, Any] = {"size": plan.size, "crops": plan.crops, "targets": plan.targets, "weight": plan.weight}
    device = engine.device
    trainer = kind(alone, str(device), Silent())
    trainer.pool.engine = engine
    schedule = Schedule.of(alone, trainer.started)
    trainer.step = alone.single_click_steps  # dialogues as in most of the run
    on_card = device.type == "cuda"
    if on_card:
        torch.cuda.reset_peak_memory_stats(device)
    try:
        losses = [longest_dialogue(trainer, schedule)["loss"]]
        data = Stopwatch(trainer.pool.batch, device)
        trainer.pool.batch = data  # type: ignore[method-assign, assignment]
        begin, before = perf_counter(), trainer.seen
        losses += [trainer._one_step(schedule, NEARLY_OVER)["loss"] for _ in range(scale.training_steps)]
        synchronise(device)
        seconds = perf_counter() - begin
    except torch.OutOfMemoryError:
        return {**row, "out_of_memory": True, "passed": False}
    return {
        **row,
        "targets_per_second": (trainer.seen - before) / seconds,
        "seconds_per_step": seconds / scale.training_steps,
        "data_share": data.seconds / seconds,
        "peak_gb": torch.cuda.max_memory_allocated(device) / 1e9 if on_card else None,
        "passed": all(math.isfinite(loss) for loss in losses),
    }


def longest_dialogue(trainer: Trainer, schedule: Schedule) -> dict[str, float]:
    """A step with all the prompts that a dialogue can have; it also compiles and tunes what runs for the first time."""
    most = trainer.config.max_clicks
    trainer._rounds = lambda: most  # type: ignore[method-assign]
    try:
        return trainer._one_step(schedule, NEARLY_OVER)
    finally:
        del trainer._rounds


class Silent:
    """A reporter for steps that are only measured."""

    def say(self, text: str) -> None:
        """Nothing."""

    def step(self, row: dict[str, float], progress: float) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Stopwatch:
    """A call and the time that all calls took, the device's included."""

    def __init__(self, call: Callable[..., Any], device: torch.device) -> None:
        self.call, self.device, self.seconds = call, device, 0.0

    def __call__(self, *arguments: Any) -> Any:
        synchronise(self.device)
        begin = perf_counter()
        made = self.call(*arguments)
        synchronise(self.device)
        self.seconds += perf_counter() - begin
        return made


def whole_run(config: TrainConfig, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds per step over the mixture of plans, and how many slots of ten minutes the config takes."""
    if not all(row["passed"] for row in rows):
        return {"seconds_per_step": None, "slots": None}
    weights = sum(row["weight"] for row in rows)
    seconds = sum(row["weight"] * row["seconds_per_step"] for row in rows) / weights
    return {"seconds_per_step": seconds, "slots": config.steps * seconds / SLOT_SECONDS}
