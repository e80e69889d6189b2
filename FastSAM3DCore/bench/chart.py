"""The bench as one picture: encoders, clicks, where an end-to-end click goes, attention against tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FastSAM3DError
from ..extras import how_to_install
from ..io.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["GREY", "OURS", "caption", "draw_chart", "new_figure"]

OURS, GREY, FLOOR = "#1f6fb2", "#a9b4bf", "#c0504d"
# Stages as sessions name them, and what people read.
STAGES = {
    "crop": ("crop, resample", "#8fb8de"),
    "resample": ("resample", "#5d96c8"),
    "encode": ("encode", OURS),
    "decode": ("decode", "#e08a3c"),
    "paste": ("resample back, paste", "#7a9e5b"),
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure.

    Raises:
        FastSAM3DError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FastSAM3DError(f"A chart needs matplotlib; {how_to_install('plot')}") from error
    return Figure(figsize=(width, height), layout="constrained")


def caption(report: dict[str, Any]) -> str:
    """Machine, precision, versions and date in one line."""
    about = report["machine"]
    return (
        f"{report['device']}, {report['threads']} threads, {report['precision']}, torch {about['torch']}, "
        f"fastsam3d {about['fastsam3d']}, {about['date'][:10]}"
    )


def draw_chart(report: dict[str, Any], target: Path) -> None:
    """Draw a report of `run_bench` to a PNG.

    Raises:
        FastSAM3DError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    figure = new_figure(13, 8.5)
    axes = figure.subplots(2, 2)
    _bars(axes[0, 0], f"Encode one crop of {report['crop']} x {report['crop']} x {report['crop']}", encode_rows(report))
    _bars(axes[0, 1], "Click on an encoded crop of the same size", click_rows(report))
    _stages(axes[1, 0], report["end_to_end"])
    _attention(axes[1, 1], report["attention"])
    figure.suptitle("fastsam3d bench", fontsize=14, x=0.01, ha="left")
    figure.supxlabel(caption(report), fontsize=9, color="#555555", x=0.01, ha="left")
    with atomic_path(target) as partial:
        figure.savefig(partial, dpi=110)


def encode_rows(report: dict[str, Any]) -> list[tuple[str, float | None, bool]]:
    """(label, milliseconds, ours) of the encoders."""
    encode = report["encode"]
    timed, slices = encode.get("sam2d_slices_timed"), encode.get("sam2d_slices")
    how = f"{timed} of {slices} slices timed" if encode.get("sam2d_extrapolated") else f"{slices} slices"
    return [
        ("bundled network", report["default"]["encode_ms"], True),
        ("FastSAM3D student", encode["ours_ms"], True),
        ("FastSAM3D student,\nplain code", encode["plain_ms"], False),
        ("SAM-Med3D teacher,\nas published", encode["teacher_published_ms"], False),
        (f"2D SAM slice by slice\n({how})", encode["sam2d_slices_ms"], False),
    ]


def click_rows(report: dict[str, Any]) -> list[tuple[str, float | None, bool]]:
    """(label, milliseconds, ours) of the decoders."""
    return [
        ("bundled network\n(full-resolution mask)", report["default"]["click_ms"], True),
        ("FastSAM3D student\n(mask at 1/4)", report["click"]["ours_ms"], True),
        ("FastSAM3D student,\nplain code (mask at 1/4)", report["click"]["plain_ms"], False),
    ]


def time_words(milliseconds: float) -> str:
    """Three digits and a unit that fits."""
    if milliseconds < 999.5:
        return f"{milliseconds:.3g} ms"
    if milliseconds < 120_000:
        return f"{milliseconds / 1000:.3g} s"
    return f"{milliseconds / 60_000:.3g} min"


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _bars(axes: Axes, title: str, rows: list[tuple[str, float | None, bool]]) -> None:
    measured = [(label, float(value), ours) for label, value, ours in rows if value is not None]
    labels, values = [row[0] for row in measured], [row[1] for row in measured]
    bars = axes.barh(labels, values, height=0.6, color=[OURS if row[2] else GREY for row in measured])
    axes.bar_label(bars, [f" {time_words(value)}" for value in values], fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 3, max(values) * 8)
    axes.set_xlabel("milliseconds, logarithmic", fontsize=8, color="#555555")
    axes.tick_params(axis="y", labelsize=9)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=11, loc="left")
    _plain(axes)


def scan_rows(whole: dict[str, Any]) -> list[tuple[str, float, dict[str, float]]]:
    """(label, milliseconds, stages) of the clicks on a whole scan."""
    rows = [("first click\nof a new process", whole["first_click_ms"], whole["first_split_ms"])]
    for kind, label in (("again", "first click\non the next scan"), ("prefetched", "first click,\nprefetched")):
        if whole[f"first_click_{kind}_ms"] is not None:
            rows.append((label, whole[f"first_click_{kind}_ms"], whole[f"first_click_{kind}_split_ms"]))
    rows.append(("second click,\nlooking closer", whole["second_click_ms"], whole["second_split_ms"]))
    return [*rows, ("every further click", whole["warm_click_ms"], whole["split_ms"])]


def _stages(axes: Axes, whole: dict[str, Any]) -> None:
    rows = scan_rows(whole)
    shown: set[str] = set()
    for place, (_, total, split) in enumerate(rows):
        left = 0.0
        for stage, (words, colour) in STAGES.items():
            width = split.get(stage, 0.0)
            if width > 0:
                axes.barh(place, width, 0.6, left=left, color=colour, label=None if words in shown else words)
                shown.add(words)
            left += width
        rest = max(0.0, total - left)
        axes.barh(place, rest, 0.6, left=left, color="#dddddd", label=None if "other" in shown else "other")
        shown.add("other")
        axes.text(max(left, total), place, f" {time_words(total)}", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize=9)
    axes.set_xlim(0, 1.2 * max(row[1] for row in rows))
    axes.set_xlabel("milliseconds", fontsize=8, color="#555555")
    axes.invert_yaxis()
    scan = " x ".join(str(n) for n in whole["scan"])
    axes.set_title(f"Click on a whole scan of {scan}, bundled network", fontsize=11, loc="left")
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.45, -0.13), ncols=5)
    _plain(axes)


def _attention(axes: Axes, rows: list[dict[str, Any]]) -> None:
    kinds = (("dense_ms", "dense", GREY, "-"), ("sparse_ms", "sparse", OURS, "-"))
    for key, label, colour, line in (*kinds, ("sparse_floor_ms", "floor of the sparse one", FLOOR, ":")):
        points = [(row["tokens"], row[key]) for row in rows if row.get(key) is not None]
        if not points:
            continue
        axes.plot(*zip(*points, strict=True), line, marker="o" if line == "-" else None, color=colour, label=label)
        if line == "-":
            above = key == "dense_ms"
            for tokens, value in points:
                offset = (0, 7 if above else -14)
                axes.annotate(
                    time_words(value), (tokens, value), offset, textcoords="offset points", ha="center", fontsize=8
                )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.margins(x=0.1, y=0.15)
    axes.set_xticks([row["tokens"] for row in rows], [f"{row['tokens']:,}" for row in rows])
    axes.set_xlabel("tokens", fontsize=8, color="#555555")
    axes.set_ylabel("milliseconds, logarithmic", fontsize=8, color="#555555")
    axes.set_title("Attention: every token with every token, and sparse", fontsize=11, loc="left")
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    _plain(axes)
