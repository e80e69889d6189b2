"""Evaluation results as a table on the terminal, as CSV and as a picture."""

from __future__ import annotations

import csv
import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ..errors import OutputError
from ..extras import how_to_install
from ..io.atomic import atomic_path, check_writable, write_text

__all__ = ["check_plot", "methods_of", "plot_results", "results_table", "write_csv"]

PICTURES = (".png", ".pdf", ".svg")
COLORS = {"model": "#1f77b4", "geodesic": "#d17a22", "region growing": "#8a8a8a"}


def results_table(results: dict[str, Any]) -> Table:
    """Means by group: one line each for the model and the baselines, 80 columns wide."""
    methods = methods_of(results)
    steps = list(next(iter(methods.values()))["mean"]["dice"]) if methods else []
    title = "Dice and NSD (2 mm) by number of clicks, mean over structures; median s per click"
    challenge = [part["mean"] for part in methods.values() if "by_case" in part["mean"]]
    if challenge:
        steps = [steps[0], steps[-1]]
        title = "Dice and NSD (2 mm) of the box, after the last click, and their areas over the clicks; s per click"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    if challenge:
        table.caption, table.caption_justify = _challenge_line(challenge[0]["by_case"]), "left"
    table.add_column("group (structures)", no_wrap=True)
    for step in [*("box" if step == "0" else step for step in steps), *(["AUC"] if challenge else [])]:
        table.add_column(step, justify="right", no_wrap=True)
    table.add_column("first", justify="right", no_wrap=True)
    table.add_column("next", justify="right", no_wrap=True)
    groups = sorted({name for part in methods.values() for name in part["groups"]})
    for group in [*groups, "all"]:
        means = {name: part["mean"] if group == "all" else part["groups"].get(group) for name, part in methods.items()}
        count = max((mean["structures"] for mean in means.values() if mean), default=0)
        table.add_row(f"{group} ({count})", style="bold")
        for name, mean in means.items():
            if mean and mean["structures"]:
                _add_row(table, name, mean, steps)
    return table


def _add_row(table: Table, method: str, mean: dict[str, Any], steps: list[str]) -> None:
    scores = [f"{mean['dice'][step]:.2f} {mean['nsd'][step]:.2f}".replace("0.", ".") for step in steps]
    if "dice_auc" in mean:
        scores.append(f"{mean['dice_auc']:.2f} {mean['nsd_auc']:.2f}")
    seconds = (mean["seconds"]["first_click_median"], mean["seconds"]["next_click_median"])
    times = ["-" if value is None else f"{value:.2f}" for value in seconds]
    table.add_row(f"  {Path(method).name[:18]}", *scores, *times)


def _challenge_line(scores: dict[str, float]) -> str:
    dice, nsd = (f"{scores[f'{name}_final']:.3f} final, {scores[f'{name}_auc']:.3f} AUC" for name in ("dice", "nsd"))
    return f"As the challenge counts, mean over scans: Dice {dice}; NSD {nsd} (of 4)"


def methods_of(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> {cases, mean, groups}, the model first."""
    methods = {}
    if results["cases"]:
        methods[results["model"]] = {key: results[key] for key in ("cases", "mean", "groups")}
    return methods | (results["baseline"] or {})


def write_csv(path: Path, results: dict[str, Any]) -> None:
    """One line for each structure and method, atomically."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    methods = methods_of(results)
    steps = list(next(iter(methods.values()))["mean"]["dice"]) if methods else []
    scores = [f"{metric}_{step}" for metric in ("dice", "nsd") for step in steps]
    writer.writerow(["method", "case", "group", "structure", "voxels", *scores, "first_click_s", "next_click_s"])
    for name, part in methods.items():
        for row in part["cases"]:
            values = [row[metric][step] for metric in ("dice", "nsd") for step in steps]
            seconds = row["seconds"]
            later = sum(seconds[1:]) / len(seconds[1:]) if len(seconds) > 1 else ""
            about = [row[key] for key in ("case", "group", "structure", "voxels")]
            writer.writerow([name, *about, *values, seconds[0] if seconds else "", later])
    write_text(path, buffer.getvalue())


def check_plot(path: Path) -> None:
    """Refuse a plot that could not be made, before the work.

    Raises:
        OutputError: another ending than the known ones, matplotlib is not installed, or the place cannot be written.
    """
    if path.suffix.lower() not in PICTURES:
        raise OutputError(f"{path.name} must end in {', '.join(PICTURES[:-1])} or {PICTURES[-1]}.")
    if find_spec("matplotlib") is None:
        raise OutputError(f"A plot needs matplotlib; {how_to_install('plot')}")
    check_writable(path)


def plot_results(path: Path, results: dict[str, Any]) -> None:
    """Mean Dice after each click, a small chart per group and one for all, model and baselines together."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    methods = methods_of(results)
    groups = ["all", *sorted({name for part in methods.values() for name in part["groups"]})]
    columns = min(4, len(groups))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.6 * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).reshape(-1)
    for axis, group in zip(axes, groups, strict=False):
        _plot_group(axis, group, methods, str(results["model"]))
    for axis in axes[len(groups) :]:
        axis.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=max(1, len(labels)), frameon=False)
    figure.supylabel("mean Dice")
    figure.supxlabel("clicks")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _plot_group(axis: Any, group: str, methods: dict[str, dict[str, Any]], model: str) -> None:
    count = 0
    for name, part in methods.items():
        mean = part["mean"] if group == "all" else part["groups"].get(group)
        if not mean or not mean["structures"]:
            continue
        count = mean["structures"]
        curve = mean["dice_per_click"]
        first = 0 if "0" in mean["dice"] else 1
        key = "model" if name == model else name
        style = "-o" if key == "model" else "--"
        clicks = list(range(first, first + len(curve)))
        axis.plot(clicks, curve, style, color=COLORS.get(key), markersize=3, linewidth=1.6, label=name)
    axis.set_title(f"{group} (n = {count})", fontsize=9)
    axis.set_ylim(0, 1)
    axis.grid(alpha=0.25)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
