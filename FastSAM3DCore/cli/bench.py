"""fastsam3d bench: time encoding and clicks on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["bench"]


def bench(
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the full report here.")] = None,
    chart_path: Annotated[Path | None, typer.Option("--chart", help="Draw the report here (PNG).")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="CPU threads; torch decides if left out.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A trial run on tiny sizes; its figures mean nothing.")
    ] = False,
) -> None:
    """Time encoding and clicks on this machine, beside the published networks and a 2D SAM.

    Everything runs in turn in one go, with the answers checked against float32; about four minutes on two cores.
    """
    import torch

    from ..bench.chart import draw_chart
    from ..bench.report import STAGES, BenchPlan, check_agreement, quick_plan, run_bench
    from ..devices import choose_device
    from ..io.atomic import check_writable, write_text
    from .feedback import progress, show_messages

    for path in filter(None, (json_path, chart_path)):
        check_writable(path)
    if threads is not None:
        torch.set_num_threads(threads)
    chosen = choose_device(device)
    with show_messages(), progress() as bar:
        task = bar.add_task("starting", total=STAGES)

        def on_stage(words: str) -> None:
            bar.update(task, description=words, advance=1)

        report = run_bench(chosen.device, quick_plan() if quick else BenchPlan(), on_stage)
    if json_path is not None:
        write_text(json_path, json.dumps(report, indent=1) + "\n")
    if chart_path is not None:
        draw_chart(report, chart_path)
    typer.echo(summary(report))
    check_agreement(report)


def summary(report: dict[str, Any]) -> str:
    """The figures a person asks for first, one per line."""
    encode, click, whole, ratios = report["encode"], report["click"], report["end_to_end"], report["ratios"]
    own = report["default"]["own_crop"]
    scan = "x".join(str(n) for n in whole["scan"])
    lines = [
        f"{report['device']}, {report['threads']} threads, {report['precision']}, torch {report['machine']['torch']}",
        f"encode, student      {ms(encode['ours_ms'])}",
        f"encode, plain code   {ms(encode['plain_ms'])} ({times(ratios['encode_vs_plain'])})",
        f"encode, default      {ms(report['default']['encode_ms'])}",
        f"teacher, published   {ms(encode['teacher_published_ms'])} ({times(ratios['encode_vs_teacher_published'])})",
        f"2D SAM, all slices   {ms(encode['sam2d_slices_ms'])} ({times(ratios['encode_vs_sam2d_slices'])})",
        f"click, student       {ms(click['ours_ms'])}",
        f"click, plain code    {ms(click['plain_ms'])} ({times(ratios['click_vs_plain'])})",
        f"click, default       {ms(report['default']['click_ms'])}",
        f"default, own {own['size']}^3    {ms(own['encode_ms'])} encode, {ms(own['click_ms']).strip()} click",
        f"scan of {scan}: first click {ms(whole['first_click_ms'])}, next {ms(whole['warm_click_ms'])}",
    ]
    lines += [
        f"attention, {row['tokens']:>7,} tokens   sparse {ms(row['sparse_ms'])}   dense {ms(row['dense_ms'])}"
        for row in report["attention"]
    ]
    agreement = report["agreement"]
    lines.append(f"against float32: Dice {agreement['dice']:.4f}, largest difference {agreement['max_abs']:.2g}")
    if not report["default"]["trained_weights"]:
        lines.append("The default network's weights are missing here; it was timed with random ones.")
    return "\n".join(lines)


def ms(value: float | None) -> str:
    """Milliseconds with three digits, or a dash."""
    return f"{'-':>9}   " if value is None else f"{value:>9,.3g} ms" if value < 1000 else f"{value:>9,.0f} ms"


def times(ratio: float | None) -> str:
    """How many times faster ours is."""
    return "not measured" if ratio is None else f"ours {ratio:,.1f} times faster"
