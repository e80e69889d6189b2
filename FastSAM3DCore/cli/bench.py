"""fastsam3d bench: time encoding and clicks on this machine, or how costs grow."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["bench"]


def bench(
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the full report here.")] = None,
    chart_path: Annotated[Path | None, typer.Option("--chart", "--plot", help="Draw the report here (PNG).")] = None,
    markdown_path: Annotated[
        Path | None, typer.Option("--markdown", help="Write tables here, between the marks if the file has them.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="CPU threads; torch decides if left out.")
    ] = None,
    growth: Annotated[
        bool, typer.Option("--growth", help="Time and memory against size of scan, clicks and segments instead.")
    ] = False,
    from_path: Annotated[
        Path | None, typer.Option("--from", help="Measure nothing; show a report that --json wrote.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A trial run on tiny sizes; its figures mean nothing.")
    ] = False,
) -> None:
    """Time encoding and clicks on this machine, beside the published networks and a 2D SAM.

    Everything runs in turn in one go, with the answers checked against float32; three to four minutes on two cores.
    With --growth: scans of 128^3 to 1024^3 voxels, 200 clicks, 100 segments; about ten minutes, up to 8 GB of memory.
    """
    from ..bench.growth import GROWTH_FORMAT
    from ..io.atomic import check_writable, write_text

    for path in filter(None, (json_path, chart_path, markdown_path)):
        check_writable(path)
    report = read_report(from_path) if from_path is not None else _measure(device, threads, growth=growth, quick=quick)
    if json_path is not None:
        write_text(json_path, json.dumps(report, indent=1) + "\n")
    if report["format"] == GROWTH_FORMAT:
        _show_growth(report, chart_path, markdown_path)
    else:
        _show_bench(report, chart_path, markdown_path)


def _measure(device: str, threads: int | None, *, growth: bool, quick: bool) -> dict[str, Any]:
    import torch

    from ..devices import choose_device
    from .feedback import progress, show_messages

    chosen = choose_device(device).device
    run: Callable[[Callable[[str], None]], dict[str, Any]]
    if threads is not None:
        torch.set_num_threads(threads)
    if growth:
        from ..bench.growth import GrowthPlan, quick_growth_plan, run_growth

        growth_plan = quick_growth_plan() if quick else GrowthPlan()
        stages, run = growth_plan.stages, partial(run_growth, chosen, growth_plan)
    else:
        from ..bench.report import BenchPlan, quick_plan, run_bench

        plan = quick_plan() if quick else BenchPlan()
        stages, run = plan.stages, partial(run_bench, chosen, plan)
    with show_messages(), progress() as bar:
        task = bar.add_task("starting", total=stages)
        begun: list[str] = []

        def on_stage(words: str) -> None:
            bar.update(task, description=words, completed=len(begun))
            begun.append(words)

        report = run(on_stage)
        bar.update(task, completed=stages)
    return report


def _show_bench(report: dict[str, Any], chart_path: Path | None, markdown_path: Path | None) -> None:
    from ..bench.chart import draw_chart
    from ..bench.figures import check_agreement
    from ..bench.markdown import BENCH, bench_markdown, insert_markdown
    from ..bench.words import summary

    if chart_path is not None:
        draw_chart(report, chart_path)
    if markdown_path is not None:
        insert_markdown(markdown_path, BENCH, bench_markdown(report))
    typer.echo(summary(report))
    check_agreement(report)


def _show_growth(report: dict[str, Any], chart_path: Path | None, markdown_path: Path | None) -> None:
    from ..bench.growth import worse_than_linear
    from ..bench.growth_chart import draw_growth_chart
    from ..bench.markdown import GROWTH, growth_markdown, insert_markdown
    from ..bench.words import growth_summary

    if chart_path is not None:
        draw_growth_chart(report, chart_path)
    if markdown_path is not None:
        insert_markdown(markdown_path, GROWTH, growth_markdown(report))
    typer.echo(growth_summary(report))
    for found in worse_than_linear(report):
        typer.echo(f"WORSE THAN LINEAR {found}")


def read_report(path: Path) -> dict[str, Any]:
    """A report that `--json` wrote.

    Raises:
        FastSAM3DError: the file is missing or something else.
    """
    from ..bench.figures import BENCH_FORMAT
    from ..bench.growth import GROWTH_FORMAT
    from ..errors import FastSAM3DError

    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FastSAM3DError(f"{path} is not a report ({error}); give a file that bench --json wrote.") from error
    if not isinstance(report, dict) or report.get("format") not in (BENCH_FORMAT, GROWTH_FORMAT):
        raise FastSAM3DError(f"{path} is not a report of this version; give a file that bench --json wrote.")
    return report
