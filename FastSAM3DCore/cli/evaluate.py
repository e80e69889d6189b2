"""fastsam3d evaluate: score a model with simulated clicks, beside what a user has without it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..bench.markdown import insert_markdown
from ..errors import PromptError
from ..evaluate.cases import find_cases
from ..evaluate.markdown import CHALLENGE, CLICKS, results_markdown
from ..evaluate.report import check_plot, plot_results, results_table, write_csv
from ..evaluate.runner import NO_MODEL, Settings, evaluate_cases, load_finished
from ..io import check_writable
from ..protocol import SegmentationSession
from .feedback import progress, show_messages
from .segmenting import local_session

__all__ = ["Protocol", "SplitsOption", "evaluate", "parse_clicks", "run_evaluation"]

SplitsOption = Annotated[
    Path, typer.Option("--splits", help="JSON with the lists train and held_out, as Resources/training/splits.json.")
]


class Protocol(StrEnum):
    """How the user is simulated."""

    CLICKS = "clicks"
    CVPR2025 = "cvpr2025"


def evaluate(
    folder: Annotated[Path, typer.Argument(help="Holds <case>/{image.nii.gz, label.nii.gz, labels.json}.")],
    model: Annotated[str, typer.Option(help=f"Model name or weights file; {NO_MODEL}: only the baselines.")] = (
        "default"
    ),
    clicks: Annotated[str, typer.Option(help="At which numbers of clicks to score.")] = "1,3,5,10",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all results here (JSON).")] = None,
    csv_path: Annotated[Path | None, typer.Option("--csv", help="Write one line per structure here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw Dice per click here (PNG, PDF or SVG).")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write a table here, between the marks if the file has them.")
    ] = None,
    cases: Annotated[str, typer.Option(metavar="GLOB", help="Only cases whose names match.")] = "*",
    max_structures: Annotated[int | None, typer.Option(min=1, help="At most this many structures per case.")] = None,
    protocol: Annotated[Protocol, typer.Option(help="clicks, or the challenge's box and five clicks.")] = (
        Protocol.CLICKS
    ),
    baseline: Annotated[bool, typer.Option(help="Also score region growing and geodesic distance.")] = True,
    jobs: Annotated[int, typer.Option(min=1, help="Processes; each holds its own model.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the results in --json.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Simulate clicks on labelled scans and score the masks: Dice, surface Dice (NSD, 2 mm), seconds per click.

    The first click lies deepest inside the structure, each next one deepest inside the largest error.
    """
    settings = Settings(
        model,
        device,
        parse_clicks(clicks),
        protocol.value,
        baseline and protocol is Protocol.CLICKS,
        max_structures,
    )
    with show_messages():
        if markdown is not None:
            check_writable(markdown)
        results = run_evaluation(folder, settings, local_session, cases, jobs, json_path, csv_path, plot, resume)
        if markdown is not None:
            name = CHALLENGE if protocol is Protocol.CVPR2025 else CLICKS
            insert_markdown(markdown, name, results_markdown(results))
    Console().print(results_table(results))


def parse_clicks(text: str) -> tuple[int, ...]:
    """`1,3,5,10` as sorted numbers.

    Raises:
        PromptError: not positive whole numbers.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and 0 < int(part) <= 1000 for part in parts):
        raise PromptError(f"--clicks {text!r}: give numbers of clicks, as in 1,3,5,10.")
    return tuple(sorted({int(part) for part in parts}))


def run_evaluation(
    folder: Path,
    settings: Settings,
    session_factory: Callable[[str, str], SegmentationSession],
    pattern: str = "*",
    jobs: int = 1,
    json_path: Path | None = None,
    csv_path: Path | None = None,
    plot: Path | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Evaluate the cases of a folder and write the results; every path is checked first.

    Raises:
        FastSAM3DError: nothing to evaluate, unreadable cases, or a place that cannot be written.
    """
    if settings.model == NO_MODEL and not settings.baseline:
        raise PromptError("There is nothing to evaluate: no model and no baseline.")
    if resume and json_path is None:
        raise PromptError("--resume needs --json: the results to go on with.")
    for path in (json_path, csv_path):
        if path is not None:
            check_writable(path)
    if plot is not None:
        check_plot(plot)
    found = find_cases(folder, pattern)
    finished = load_finished(json_path, settings) if resume and json_path else None
    known = set(finished["finished_cases"]) if finished else set()
    with progress() as bar:
        task = bar.add_task("Cases", total=len(found), completed=sum(case.name in known for case in found))

        def advance(name: str) -> None:
            bar.update(task, advance=1, description=name)

        results = evaluate_cases(
            found, settings, session_factory, jobs=jobs, output=json_path, finished=finished, on_case=advance
        )
    if csv_path is not None:
        write_csv(csv_path, results)
    if plot is not None:
        plot_results(plot, results)
    return results
