"""Training runs of seconds: a tiny network, its config, and the curve a run leaves."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

from FastSAM3DCore.modeling.hires import HiresConfig
from FastSAM3DCore.training.config import SizePlan, TrainConfig

TINY = HiresConfig(
    name="tiny", stem=8, middle=16, width=32, heads=2, depth=4, attention_from=0, window=0, decoder=(8, 16, 32)
)


def tiny_config(output: Path, **changes: object) -> TrainConfig:
    base = TrainConfig(
        output=str(output),
        network="custom",
        custom=TINY,
        plans=(SizePlan(size=16, crops=2, targets=2),),
        steps=40,
        warmup=5,
        ema=0.9,
        single_click_steps=0,
        checkpoint_seconds=1e9,
        export_seconds=0,
        bfloat16=False,
    )
    return dataclasses.replace(base, **changes)


def losses(folder: Path) -> list[tuple[str, str]]:
    with (folder / "curves.csv").open(newline="") as stream:
        return [(row["step"], row["loss"]) for row in csv.DictReader(stream)]
