"""fastsam3d compare: tables that set networks, or kinds of attention, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..bench.markdown import insert_markdown
from ..errors import PromptError
from ..evaluate.selection import cases_of_split, spread_over_groups
from ..io import check_writable
from ..io.atomic import write_text
from .evaluate import SplitsOption, parse_clicks
from .feedback import progress, show_messages
from .segmenting import local_session

__all__ = ["compare_app"]

MODELS, ATTENTION = "fastsam3d compare models", "fastsam3d compare attention"

compare_app = typer.Typer(
    help="Tables that set networks, or kinds of attention, side by side.", add_completion=False, rich_markup_mode=None
)

FolderArgument = Annotated[Path, typer.Argument(help="Holds <case>/{image.nii.gz, label.nii.gz, labels.json}.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write all figures here (JSON).")]
MarkdownOption = Annotated[
    Path | None, typer.Option("--markdown", help="Write the table here, between the marks if the file has them.")
]


@compare_app.command("models")
def models(
    folder: FolderArgument,
    candidates: Annotated[list[str], typer.Argument(metavar="NAME=MODEL...", help="The first is set against.")],
    splits: SplitsOption,
    clicks: Annotated[str, typer.Option(help="At which numbers of clicks to score.")] = "1,3,5,10",
    per_group: Annotated[int, typer.Option(min=1, help="Of each group of cases at most this many.")] = 3,
    max_structures: Annotated[int, typer.Option(min=1, help="At most this many structures per case.")] = 2,
    crop: Annotated[int, typer.Option(min=16, help="Voxels per axis of the crop that is timed.")] = 64,
    jobs: Annotated[int, typer.Option(min=1, help="Processes; each holds its own model.")] = 1,
    json_path: JsonOption = None,
    markdown: MarkdownOption = None,
) -> None:
    """Dice by clicks on held-out scans, parameters, operations and milliseconds of several weights."""
    from ..evaluate.compare import Candidate, compare_models, comparison_markdown

    with show_messages():
        steps, chosen = parse_clicks(clicks), [Candidate(*parse_candidate(text)) for text in candidates]
        _check(json_path, markdown)
        cases = spread_over_groups(cases_of_split(folder, splits, "held_out"), per_group)
        with progress() as bar:
            task = bar.add_task("Cases", total=len(cases) * len(chosen))
            results = compare_models(
                chosen, cases, local_session, _on_cpu, clicks=steps, max_structures=max_structures, crop_size=crop,
                dtype=_fast_dtype(), jobs=jobs, on_case=lambda name: bar.update(task, advance=1, description=name),
            )  # fmt: skip
    _show(results, comparison_markdown(results), MODELS, json_path, markdown)


@compare_app.command("attention")
def attention(
    folder: FolderArgument,
    candidates: Annotated[list[str], typer.Argument(metavar="NAME=WEIGHTS...", help="Weights of the own family.")],
    splits: SplitsOption,
    sizes: Annotated[str, typer.Option(help="Voxels per axis of the crops; tokens are an eighth.")] = "64,128,256",
    crops: Annotated[int, typer.Option(min=1, help="Held-out crops of each size.")] = 12,
    clicks: Annotated[int, typer.Option(min=1, help="Clicks per crop.")] = 3,
    json_path: JsonOption = None,
    markdown: MarkdownOption = None,
) -> None:
    """Dice, milliseconds and memory of the same weights with sparse and with dense attention, by number of tokens."""
    from ..training.attention_study import attention_markdown, study_attention

    with show_messages():
        chosen = [parse_candidate(text) for text in candidates]
        sides = parse_clicks(sizes)
        if any(side % 8 or side < 16 for side in sides):
            raise PromptError(f"--sizes {sizes!r}: crops need sides that are multiples of 8, 16 at least.")
        _check(json_path, markdown)
        cases = [case.name for case in spread_over_groups(cases_of_split(folder, splits, "held_out"), 1)]
        with progress() as bar:
            task = bar.add_task("Crops", total=len(sides) * len(chosen) * 2)
            results = study_attention(
                chosen, folder, cases, sizes=sides, crops=crops, clicks=clicks, dtype=_fast_dtype(),
                on_part=lambda name: bar.update(task, advance=1, description=name),
            )  # fmt: skip
    _show(results, attention_markdown(results), ATTENTION, json_path, markdown)


def parse_candidate(text: str) -> tuple[str, str]:
    """`NAME=MODEL`, or a model alone, as name and model.

    Raises:
        PromptError: one of the two is empty.
    """
    name, found, model = text.partition("=")
    if not found:
        name, model = Path(text).stem, text
    if not name or not model:
        raise PromptError(f"{text!r}: give NAME=MODEL, as in student=student.safetensors.")
    return name, model


def _check(*paths: Path | None) -> None:
    for path in paths:
        if path is not None:
            check_writable(path)


def _on_cpu(model: str) -> Any:
    from ..weights import load_model

    return load_model(model, "cpu")


def _fast_dtype() -> Any:
    import torch

    from ..precision import fast_dtype

    return fast_dtype(torch.device("cpu"))


def _show(results: dict[str, Any], table: str, name: str, json_path: Path | None, markdown: Path | None) -> None:
    if json_path is not None:
        write_text(json_path, json.dumps(results, indent=1) + "\n")
    if markdown is not None:
        insert_markdown(markdown, name, table)
    Console().print(table, highlight=False, soft_wrap=True, markup=False)
