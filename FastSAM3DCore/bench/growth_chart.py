"""The growth report as one picture: time above, memory below; scans, clicks and segments from left to right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.atomic import atomic_path
from .chart import OURS, caption, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_growth_chart"]

COLOURS = (OURS, "#e08a3c", "#7a9e5b")
LABELS = {
    "set_image_ms": "open",
    "first_click_ms": "first click",
    "warm_click_ms": "further click",
    "memory_mb": "memory",
    "together_ms": "all so far",
    "latest_ms": "one click, median of ten",
    "click_ms": "one click, median of ten",
    "switch_ms": "go to another segment",
}


def draw_growth_chart(report: dict[str, Any], target: Path) -> None:
    """Draw a report of `run_growth` to a PNG.

    Raises:
        FastSAM3DError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    figure = new_figure(15, 8.5)
    axes = figure.subplots(2, 3)
    volumes, clicks, segments = report["volumes"], report["clicks"], report["segments"]
    _panel(axes[0, 0], volumes, "voxels", ("set_image_ms", "first_click_ms", "warm_click_ms"), "Time by size of scan")
    _panel(axes[1, 0], volumes, "voxels", ("memory_mb",), "Memory by size of scan")
    _panel(axes[0, 1], clicks, "clicks", ("together_ms", "latest_ms"), "Time by number of clicks")
    _panel(axes[1, 1], clicks, "clicks", ("memory_mb",), "Memory by number of clicks")
    _panel(axes[0, 2], segments, "segments", ("together_ms", "click_ms"), "Time by number of segments")
    _panel(axes[1, 2], segments, "segments", ("memory_mb",), "Memory by number of segments")
    for row in volumes["rows"]:
        if row["not_measured"] is not None:
            note = f"{' x '.join(map(str, row['scan']))}: {row['not_measured']}"
            axes[1, 0].text(0.02, 0.02, note, transform=axes[1, 0].transAxes, fontsize=8)
    title = "fastsam3d bench --growth        dotted: linear; powers fitted to processor time and to memory"
    figure.suptitle(title, fontsize=13, x=0.01, ha="left")
    figure.supxlabel(caption(report), fontsize=9, color="#555555", x=0.01, ha="left")
    with atomic_path(target) as partial:
        figure.savefig(partial, dpi=100)


def _panel(axes: Axes, part: dict[str, Any], size: str, costs: tuple[str, ...], title: str) -> None:
    axes.set_title(title, fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    rows = part["rows"]
    if not rows:
        axes.text(0.5, 0.5, f"not measured: {part['not_measured']}", ha="center", transform=axes.transAxes, fontsize=9)
        axes.set_axis_off()
        return
    for cost, colour in zip(costs, COLOURS, strict=False):
        points = [(row[size], row[cost]) for row in rows if row[cost] is not None and row[cost] > 0]
        if not points:
            continue
        label = LABELS[cost]
        growth = part["growth"].get(cost) or part["growth"].get(cost.replace("_ms", "_cpu_ms"))
        if growth is not None and growth["exponent"] is not None:
            label += f": power {growth['exponent']:.2f}, at the end {growth['last_exponent']:.2f}"
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, color=colour, label=label)
        x, y = points[-1]
        start = points[0][0]
        axes.plot((start, x), (y * start / x, y), ":", color=colour, linewidth=1, alpha=0.6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    sizes = [row[size] for row in rows]
    names = [f"{n}^3" if n**3 == row[size] else f"{row[size]:,}" for row in rows for n in [round(row[size] ** (1 / 3))]]
    axes.set_xticks(sizes, names if size == "voxels" else [f"{n}" for n in sizes], fontsize=8)
    axes.minorticks_off()
    axes.set_ylabel("megabytes" if costs == ("memory_mb",) else "milliseconds", fontsize=8, color="#555555")
    axes.set_xlabel(size, fontsize=8, color="#555555")
    values = [row[cost] for row in rows for cost in costs if row[cost] is not None and row[cost] > 0]
    axes.set_ylim(min(values, default=0.1) / 3, max(values, default=1.0) * 10)
    axes.legend(fontsize=8, frameon=False, loc="best")
