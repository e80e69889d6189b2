"""fastsam3d train and fastsam3d distill: from a JSON config to weights, resumable to the step."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..training.config import TrainConfig
    from ..training.schedule import Slot

__all__ = ["distill", "train"]

ConfigArgument = Annotated[Path, typer.Argument(help="JSON file of the run; Resources/training has examples.")]
PreviewOption = Annotated[
    Path | None, typer.Option("--preview", help="Write a contact sheet of training samples (PNG, PDF or SVG) and stop.")
]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Start anew even if the output folder has a checkpoint to go on from.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
DeadlineOption = Annotated[
    str | None, typer.Option("--deadline", help="Another end of the schedule, ISO time; replaces the config's.")
]
DataOption = Annotated[
    str | None, typer.Option("--data", help="Folder with labelmaps/, scans/ and unlabelled/; replaces the config's.")
]
OutputOption = Annotated[str | None, typer.Option("--output", help="Folder of the run; replaces the config's.")]
MinutesOption = Annotated[
    float | None,
    typer.Option(
        "--minutes",
        min=0.01,
        help="Stop within this time, with a checkpoint; the schedule stays, and the same command goes on from there.",
    ),
]
StepsOption = Annotated[int | None, typer.Option("--steps", min=1, help="Another length; replaces the config's.")]


def train(
    config: ConfigArgument,
    preview: PreviewOption = None,
    fresh: FreshOption = False,
    device: DeviceOption = "auto",
    deadline: DeadlineOption = None,
    minutes: MinutesOption = None,
    steps: StepsOption = None,
    data: DataOption = None,
    output: OutputOption = None,
) -> None:
    """Train a network on clicks, boxes, scribbles and rough masks; goes on where an earlier run stopped.

    Several GPUs: start with torchrun --nproc-per-node=N -m FastSAM3DCore.cli train CONFIG.
    """
    began = time.time()
    run = _adapted(config, deadline=deadline, steps=steps, data=data, output=output)
    if preview is not None:
        _preview(run, preview)
        return
    from ..training.loop import train as start

    start(run, device, fresh, _slot(began, minutes))


def distill(
    config: ConfigArgument,
    fresh: FreshOption = False,
    device: DeviceOption = "auto",
    deadline: DeadlineOption = None,
    minutes: MinutesOption = None,
    steps: StepsOption = None,
    data: DataOption = None,
    output: OutputOption = None,
) -> None:
    """Distil a student from a trained teacher, layer by layer; goes on where an earlier run stopped."""
    began = time.time()
    from ..training.distill import distill as start

    run = _adapted(config, deadline=deadline, steps=steps, data=data, output=output)
    start(run, device, fresh, _slot(began, minutes))


def _adapted(path: Path, **changes: str | int | None) -> TrainConfig:
    """The config with the options that were given put in."""
    from ..training.config import TrainConfig

    given: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
    return dataclasses.replace(TrainConfig.load(path), **given)


def _slot(began: float, minutes: float | None) -> Slot | None:
    """The time this process gets, the loading of the data included."""
    from ..training.schedule import Slot

    return None if minutes is None else Slot(began, minutes)


def _preview(config: TrainConfig, target: Path) -> None:
    from ..evaluate.report import check_plot
    from ..training.data.engine import DataEngine
    from ..training.preview import draw_contact_sheet

    check_plot(target)
    draw_contact_sheet(DataEngine.of(config), config, target)
    typer.echo(f"wrote {target}")
