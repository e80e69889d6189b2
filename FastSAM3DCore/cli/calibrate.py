"""fastsam3d calibrate: make the probability mean what it says, and show how well it does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..bench.markdown import insert_markdown
from ..calibration import METADATA_KEY, Calibration
from ..errors import OutputError
from ..evaluate.calibrate import Dialogues, calibrate, listen
from ..evaluate.report import check_plot
from ..evaluate.selection import calibration_cases, spread_over_groups
from ..evaluate.slices import DoubtingSession
from ..io import check_writable
from ..io.atomic import write_text
from .evaluate import SplitsOption
from .feedback import progress, show_messages

__all__ = ["calibrate_command", "run_calibration"]

CALIBRATE = "fastsam3d calibrate"


def calibrate_command(
    folder: Annotated[Path, typer.Argument(help="Holds <case>/{image.nii.gz, label.nii.gz, labels.json}.")],
    splits: SplitsOption,
    model: Annotated[str, typer.Option(help="Model name or weights file.")] = "default",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the calibrated weights here (.safetensors)."),
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures here (JSON).")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the reliability diagram here (PNG, PDF or SVG).")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write a table here, between the marks if the file has them.")
    ] = None,
    clicks: Annotated[int, typer.Option(min=1, help="Clicks per structure.")] = 5,
    max_structures: Annotated[int, typer.Option(min=1, help="At most this many structures per case.")] = 3,
    per_group: Annotated[
        int | None, typer.Option(min=1, help="Of each group of held-out cases at most this many.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Fit temperatures on the scans a split names for it (else for training), measure them on the others held out.

    Voxels within 10 mm of the mask's border count, after every click. Masks stay what they are.
    """
    with show_messages():
        if markdown is not None:
            check_writable(markdown)
        results = run_calibration(
            folder, splits, model, device, probing_session,
            output=output, json_path=json_path, plot=plot, clicks=clicks, max_structures=max_structures,
            per_group=per_group,
        )  # fmt: skip
        if markdown is not None:
            insert_markdown(markdown, CALIBRATE, _summary(results))
    Console().print(_summary(results), highlight=False, soft_wrap=True)


def probing_session(model: str, device: str) -> DoubtingSession:
    """A session in this process; torch loads here."""
    from ..session import open_session

    return open_session(model, device)


def run_calibration(
    folder: Path,
    splits: Path,
    model: str,
    device: str,
    session_factory: Callable[[str, str], DoubtingSession],
    *,
    output: Path | None = None,
    json_path: Path | None = None,
    plot: Path | None = None,
    clicks: int = 5,
    max_structures: int = 3,
    per_group: int | None = None,
) -> dict[str, Any]:
    """Calibrate and write what was asked for; every path is checked first.

    Raises:
        FastSAM3DError: nothing to calibrate on, unreadable cases or weights, a place that cannot be written.
    """
    for path in (output, json_path):
        if path is not None:
            check_writable(path)
    if output is not None and output.suffix != ".safetensors":
        raise OutputError(f"{output.name}: weights are written as safetensors; let the name end in .safetensors.")
    if plot is not None:
        check_plot(plot)
    fitted, measured = calibration_cases(folder, splits)
    parts = [fitted, spread_over_groups(measured, per_group)]
    applied = applied_calibration(model)
    session = session_factory(model, device)
    heard: list[Dialogues] = []
    try:
        with progress() as bar:
            task = bar.add_task("Cases", total=sum(map(len, parts)))
            for cases in parts:
                heard.append(
                    listen(
                        session, cases, clicks, max_structures, applied,
                        lambda name: bar.update(task, advance=1, description=name),
                    )
                )  # fmt: skip
    finally:
        session.close()
    results = {"model": model} | calibrate(*heard)
    _write(results, model, output, json_path, plot)
    return results


def applied_calibration(model: str) -> Calibration:
    """What the session already applies: the calibration stored with the weights."""
    from ..weights.checkpoint import read_metadata
    from ..weights.loading import find_weights

    return Calibration.from_metadata(read_metadata(find_weights(model, None)))


def _write(results: dict[str, Any], model: str, output: Path | None, json_path: Path | None, plot: Path | None) -> None:
    import json

    if output is not None:
        from ..weights.convert import convert_weights
        from ..weights.loading import find_weights

        extra = {METADATA_KEY: Calibration(**results["calibration"]).to_json()}
        convert_weights(find_weights(model, None), output, half=True, extra=extra)
    if json_path is not None:
        write_text(json_path, json.dumps(results, indent=1) + "\n")
    if plot is not None:
        from ..evaluate.reliability_plot import plot_reliability

        plot_reliability(plot, results)


def _summary(results: dict[str, Any]) -> str:
    before, after, slices, found = results["before"], results["after"], results["slices"], results["calibration"]
    fitted, measured = results["fitted_on"], results["measured_on"]
    lines = [
        "| | before | after |",
        "|---|---|---|",
        *(f"| {label} | {before[key]:.3f} | {after[key]:.3f} |" for label, key in SCORES),
        *(
            f"| ECE after click {n} | {part['before']:.3f} | {part['after']:.3f} |"
            for n, part in results["by_clicks"].items()
        ),
        "",
        (
            f"Temperature {found['temperature']:.2f} inside and {found['outside']:.2f} outside, fitted on "
            f"{fitted['structures']} structures of "
            f"{len(fitted['cases'])} scans, measured on {measured['structures']} structures of "
            f"{len(measured['cases'])} scans never trained on: {after['masks']} masks, voxels within "
            f"{results['band_mm']:g} mm of the mask's border."
        ),
    ]
    if slices["looks"]:
        lines.append(
            f"Slices: rank correlation of uncertainty with wrong voxels {slices['correlation']:.2f} (of mask area "
            f"{slices['by_area']:.2f}); the most uncertain slice has {slices['gain']:.1f} times the mean error and is "
            f"worse than {100 * slices['above']:.0f} % of the slices ({slices['looks']} masks and axes)."
        )
    return "\n".join(lines)


SCORES = (("expected calibration error", "ece"), ("Brier score", "brier"), ("log loss", "log_loss"))
