"""The one JSON file that describes a training run."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ..errors import FastSAM3DError
from ..modeling.hires.config import HiresConfig, student_config, teacher_config

__all__ = ["ConfigError", "DistillPlan", "SizePlan", "TrainConfig"]

T = TypeVar("T")


class ConfigError(FastSAM3DError, ValueError):
    """A training configuration cannot be used."""


@dataclass(frozen=True, slots=True)
class SizePlan:
    """Batches of one crop size.

    Attributes:
        size: voxels per axis, a multiple of 8.
        crops: crops per batch.
        targets: masks per crop, sharing its encoding.
        weight: how often, relative to the other plans in force.
        start: first step this plan is in force.
        stop: first step it is not; null for never.
    """

    size: int = 32
    crops: int = 8
    targets: int = 3
    weight: float = 1.0
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class DistillPlan:
    """Layer-wise progressive distillation.

    Attributes:
        teacher: checkpoint or exported weights of the teacher.
        stages: share of the budget of each stage; one per student block, then encoder output, then end to end.
        one_stage: skip the progressive stages and match the encoder output only (the ablation).
        feature_weight: of the feature loss in the last, end-to-end stage.
    """

    teacher: str = ""
    stages: tuple[float, ...] = (0.05, 0.05, 0.06, 0.06, 0.06, 0.07, 0.15, 0.5)
    one_stage: bool = False
    feature_weight: float = 0.3


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything a run depends on; a run is repeatable from it (but for `deadline`).

    Attributes:
        output: folder of checkpoint, curves and exported weights.
        network: "teacher", "student" or "custom".
        custom: the network if `network` is "custom".
        data: folder with labelmaps/, scans/ and unlabelled/; empty for random shapes only.
        splits: JSON file naming training cases; empty for no scans.
        mix: weight of each kind of scene.
        plans: crop sizes.
        steps: optimiser steps; the schedule's length unless `deadline` is set.
        deadline: local wall-clock end as ISO time; the schedule then follows the clock.
        optimizer: "adamw", or "muon" (matrices and kernels; AdamW for the rest).
        learning_rate: peak.
        warmup: steps.
        decay: share of the schedule over which the rate falls to zero at the end.
        weight_decay: AdamW's.
        ema: decay of the averaged weights.
        single_click_steps: steps at the start with one or two prompts per sample.
        max_clicks: corrective clicks at most.
        box_share: samples whose first prompt is a box.
        mask_share: samples that start from a degraded mask.
        reuse: probability that a scene is one met before.
        pool: scenes kept of each crop size to be met again; a resumed run makes them again first.
        seed: of data and prompts.
        bfloat16: autocast, on devices that are faster in it.
        initial: weights to start from; empty for fresh ones.
        checkpoint_seconds: between checkpoints.
        export_seconds: between exports of the averaged weights; 0 for at checkpoints only.
        evaluate_seconds: between looks at the held-out crops; 0 for never.
        distill: plan of `fastsam3d distill`; null for plain training.
    """

    output: str = "training-run"
    network: str = "student"
    custom: HiresConfig = field(default_factory=HiresConfig)
    data: str = ""
    splits: str = ""
    mix: dict[str, float] = field(default_factory=lambda: {"shapes": 1.0})
    plans: tuple[SizePlan, ...] = (SizePlan(),)
    steps: int = 1000
    deadline: str = ""
    optimizer: str = "adamw"
    learning_rate: float = 1.5e-3
    warmup: int = 40
    decay: float = 0.25
    weight_decay: float = 0.02
    ema: float = 0.998
    single_click_steps: int = 300
    max_clicks: int = 6
    box_share: float = 0.35
    mask_share: float = 0.15
    reuse: float = 0.5
    pool: int = 64
    seed: int = 0
    bfloat16: bool = True
    initial: str = ""
    checkpoint_seconds: float = 120.0
    export_seconds: float = 600.0
    evaluate_seconds: float = 0.0
    distill: DistillPlan | None = None

    @property
    def model(self) -> HiresConfig:
        """The network that is trained."""
        known = {"teacher": teacher_config(), "student": student_config(), "custom": self.custom}
        return known[self.network]

    @classmethod
    def load(cls, path: Path) -> TrainConfig:
        """Read a JSON file.

        Raises:
            ConfigError: if the file is missing, is not JSON, has unknown keys or impossible values.
        """
        try:
            values = json.loads(path.read_text())
        except OSError as error:
            raise ConfigError(f"cannot read {path} ({error.strerror}); pass the path of a training config") from error
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path} is not JSON: {error}") from error
        config = _build(cls, values, "the config")
        config.check()
        return config

    def to_json(self) -> str:
        """The whole configuration, defaults included."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    def check(self) -> None:
        """Reject values that cannot work.

        Raises:
            ConfigError: with the key and what to do.
        """
        if self.network not in ("teacher", "student", "custom"):
            raise ConfigError(f"network must be teacher, student or custom, not {self.network!r}")
        if self.optimizer not in ("adamw", "muon"):
            raise ConfigError(f"optimizer must be adamw or muon, not {self.optimizer!r}")
        if not self.plans or any(p.size % 8 or p.size < 16 or p.crops < 1 or p.targets < 1 for p in self.plans):
            raise ConfigError("plans need sizes that are multiples of 8 (16 at least) and at least one crop and target")
        if not any(p.start == 0 for p in self.plans):
            raise ConfigError("no plan starts at step 0; give one plan start 0")
        if self.steps < 1 or self.warmup < 1 or not 0 < self.decay <= 1:
            raise ConfigError("steps and warmup must be at least 1 and decay in (0, 1]")
        if self.pool < 1:
            raise ConfigError("pool must be at least 1")
        unknown = set(self.mix) - {"shapes", "anatomy", "brains", "lesions", "scans", "supervoxels"}
        if unknown:
            raise ConfigError(f"unknown kinds of scenes {sorted(unknown)} in mix")


def _build(cls: type[T], values: Any, where: str) -> T:
    """A dataclass from JSON values; nested dataclasses and tuples of them included."""
    if not isinstance(values, dict):
        raise ConfigError(f"{where} must be a JSON object")
    hints = get_type_hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - names)
    if unknown:
        raise ConfigError(f"unknown keys {unknown} in {where}; known are {sorted(names)}")
    built: dict[str, Any] = {}
    for key, value in values.items():
        if key == "plans":
            built[key] = tuple(_build(SizePlan, item, f"plans[{n}]") for n, item in enumerate(value))
        elif key == "distill":
            built[key] = None if value is None else _build(DistillPlan, value, "distill")
        elif key == "custom":
            built[key] = _build(HiresConfig, value, "custom")
        elif isinstance(value, list):
            built[key] = tuple(value)
        else:
            if hints[key] in (int, float, str, bool) and not _fits(value, hints[key]):
                raise ConfigError(f"{where}: {key} must be {hints[key].__name__}, not {value!r}")
            built[key] = value
    return cls(**built)


def _fits(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
