"""The bench as one picture: encoders, clicks, where an end-to-end click goes, attention against tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FastSAM3DError
from ..io.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_chart"]

OURS, OTHERS = "#1f6fb2", "#a9b4bf"
# Stages as sessions name them; "crop" includes resampling.
STAGES = {"crop": "#8fb8de", "encode": OURS, "decode": "#e08a3c", "paste": "#7a9e5b"}


def draw_chart(report: dict[str, Any], target: Path) -> None:
    """Draw a report of `run_bench` to a PNG.

    Raises:
        FastSAM3DError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FastSAM3DError("A chart needs matplotlib; install fastsam3d[plot].") from error
    figure = Figure(figsize=(12, 7.5), layout="constrained")
    axes = figure.subplots(2, 2)
    _bars(axes[0, 0], f"Encode a crop of {report['crop']}^3, ms ({report['precision']})", encode_rows(report))
    _bars(axes[0, 1], f"Click on a crop of {report['crop']}^3, ms", click_rows(report))
    _stages(axes[1, 0], report["end_to_end"])
    _attention(axes[1, 1], report["attention"])
    machine = report["machine"]
    figure.suptitle(
        f"fastsam3d bench  |  {report['device']}, {report['threads']} threads, torch {machine['torch']}, "
        f"{machine['date'][:10]}",
        fontsize=11,
    )
    with atomic_path(target) as partial:
        figure.savefig(partial, dpi=110)


def encode_rows(report: dict[str, Any]) -> list[tuple[str, float | None, bool]]:
    """(label, milliseconds, ours) of the encoders."""
    encode = report["encode"]
    return [
        ("default network, ours", report["default"]["encode_ms"], True),
        ("FastSAM3D student, ours", encode["ours_ms"], True),
        ("FastSAM3D student, plain", encode["plain_ms"], False),
        ("SAM-Med3D teacher, published", encode["teacher_published_ms"], False),
        ("2D SAM, slice by slice", encode["sam2d_slices_ms"], False),
    ]


def click_rows(report: dict[str, Any]) -> list[tuple[str, float | None, bool]]:
    """(label, milliseconds, ours) of the decoders."""
    return [
        ("default network, ours", report["default"]["click_ms"], True),
        ("FastSAM3D student, ours", report["click"]["ours_ms"], True),
        ("FastSAM3D student, plain", report["click"]["plain_ms"], False),
    ]


def _bars(axes: Axes, title: str, rows: list[tuple[str, float | None, bool]]) -> None:
    measured = [(label, value, ours) for label, value, ours in rows if value is not None]
    labels, values = [row[0] for row in measured], [float(row[1]) for row in measured]
    bars = axes.barh(labels, values, height=0.6, color=[OURS if row[2] else OTHERS for row in measured])
    axes.bar_label(bars, [f" {value:,.0f}" if value >= 100 else f" {value:.3g}" for value in values], fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 3, max(values) * 6)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _stages(axes: Axes, whole: dict[str, Any]) -> None:
    rows = {"first click": (whole["first_split_ms"], whole["first_click_ms"])}
    rows["warm click"] = (whole["split_ms"], whole["warm_click_ms"])
    for place, (split, total) in enumerate(rows.values()):
        left = 0.0
        for stage, colour in STAGES.items():
            width = split.get(stage, 0.0)
            axes.barh(place, width, 0.6, left=left, color=colour, label=stage if place == 0 else None)
            left += width
        rest = max(0.0, total - left)
        axes.barh(place, rest, 0.6, left=left, color="#dddddd", label="other" if place == 0 else None)
        axes.text(max(left, total), place, f" {total:,.0f} ms", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_xlim(0, 1.25 * max(whole["first_click_ms"], whole["warm_click_ms"]))
    axes.invert_yaxis()
    scan = " x ".join(str(n) for n in whole["scan"])
    axes.set_title(f"Click on a whole scan of {scan}, ms", fontsize=10, loc="left")
    axes.legend(fontsize=8, ncols=3, frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)


def _attention(axes: Axes, rows: list[dict[str, Any]]) -> None:
    for kind, colour in (("dense", OTHERS), ("sparse", OURS)):
        points = [(row["tokens"], row[f"{kind}_ms"]) for row in rows if row[f"{kind}_ms"] is not None]
        axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=f"{kind} attention")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks([row["tokens"] for row in rows], [f"{row['tokens']:,}" for row in rows])
    axes.set_xlabel("tokens", fontsize=9)
    axes.set_title("Attention, ms", fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
