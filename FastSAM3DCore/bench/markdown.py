"""The reports as Markdown, written by a command between two marks of a document, so that no figure is typed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..io.atomic import write_text
from .chart import caption, time_words
from .words import busy_note, mb

__all__ = ["BENCH", "GROWTH", "bench_markdown", "growth_markdown", "insert_markdown"]

BENCH, GROWTH = "fastsam3d bench", "fastsam3d bench --growth"


def insert_markdown(path: Path, name: str, text: str) -> None:
    """Put text between `<!-- begin: name -->` and `<!-- end: name -->` of a file; a new file gets the marks as well.

    Raises:
        OutputError: the file exists and lacks the marks, or cannot be read or written.
    """
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    try:
        old = path.read_text(encoding="utf-8") if path.exists() else f"{begin}\n{end}\n"
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"{path} cannot be read ({error}); give another file.") from error
    before, found, rest = old.partition(begin + "\n")
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise OutputError(f"{path} has no lines '{begin}' and '{end}'; add them where the table is to go.")
    write_text(path, f"{before}{begin}\n{text.strip()}\n{end}{after}")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    lines = [head, ("---", *("---:" for _ in head[1:])), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bench_markdown(report: dict[str, Any]) -> str:
    """The figures of `run_bench` as tables, with machine and date."""
    encode, click, whole, ratios = report["encode"], report["click"], report["end_to_end"], report["ratios"]
    default, floors = report["default"], report["floors"]
    slices = f"2D SAM ViT-B, {encode['sam2d_slices']} slices"
    if encode["sam2d_extrapolated"]:
        slices += f" (extrapolated from {encode['sam2d_slices_timed']})"
    networks = table(
        ("one crop of {0} x {0} x {0}".format(report["crop"]), "encode", "click", "student is faster by"),
        [
            ("FastSAM3D student, ours", cell(encode["ours_ms"]), cell(click["ours_ms"]), ""),
            ("the same, plain code", cell(encode["plain_ms"]), cell(click["plain_ms"]),
             f"{factor(ratios['encode_vs_plain'])} / {factor(ratios['click_vs_plain'])}"),
            ("SAM-Med3D teacher as published", cell(encode["teacher_published_ms"]), "",
             factor(ratios["encode_vs_teacher_published"])),
            (slices, cell(encode["sam2d_slices_ms"]), "", factor(ratios["encode_vs_sam2d_slices"])),
            ("bundled network, mask at full resolution", cell(default["encode_ms"]), cell(default["click_ms"]), ""),
            (f"bundled network on its own {default['own_crop']['size']}^3", cell(default["own_crop"]["encode_ms"]),
             cell(default["own_crop"]["click_ms"]), ""),
            ("floor of the student here", *(cell(floors["student"][f"{kind}_ms"]) for kind in ("encode", "click")), ""),
        ],
    )  # fmt: skip
    stages = [name for name in ("crop", "resample", "encode", "decode", "paste") if name in whole["first_split_ms"]]
    clicks = table(
        (f"scan of {' x '.join(map(str, whole['scan']))}", "click to mask", *stages),
        [
            ("first click of a new process", cell(whole["first_click_ms"]), *split(whole["first_split_ms"], stages)),
            (
                "first click on the next scan",
                cell(whole["first_click_again_ms"]),
                *split(whole["first_click_again_split_ms"], stages),
            ),
            (
                "the same, prefetched",
                cell(whole["first_click_prefetched_ms"]),
                *split(whole["first_click_prefetched_split_ms"], stages),
            ),
            ("second click, looking closer", cell(whole["second_click_ms"]), *split(whole["second_split_ms"], stages)),
            ("every further click", cell(whole["warm_click_ms"]), *split(whole["split_ms"], stages)),
        ],
    )
    attention = table(
        ("attention, tokens", "dense", "sparse", "dense, memory", "sparse, memory"),
        [
            (
                f"{row['tokens']:,}",
                cell(row["dense_ms"]),
                cell(row["sparse_ms"]),
                mb(row["dense_mb"]),
                mb(row["sparse_mb"]),
            )
            for row in report["attention"]
        ],
    )
    memory, agreement = report["memory"], report["agreement"]
    rates = "; ".join(
        f"{name} {row['crops_per_second']:.3g} crops of {row['crop']}^3 per second in batches of {row['batch']}"
        for name, row in report["throughput"].items()
    )
    rest = (
        f"Model load {cell(report['model_load']['load_ms']['median'])}; memory at most {mb(memory['peak_mb'])} "
        f"({mb(memory['of_which_imports_mb'])} imports, {mb(memory['of_which_scan_mb'])} the scan); {rates}. Against "
        f"float32 in the same run: Dice {agreement['dice']:.4f}, largest logit difference {agreement['max_abs']:.2g}."
    )
    return "\n\n".join([f"{caption(report)}.", networks, clicks, attention, rest, *busy_note(report)])


def growth_markdown(report: dict[str, Any]) -> str:
    """The fitted powers of `run_growth` and the largest sizes, with machine and date."""
    rows: list[tuple[str, ...]] = []
    for part, size in (("volumes", "voxels"), ("clicks", "clicks"), ("segments", "segments")):
        measured = report[part]["rows"]
        for cost, growth in report[part]["growth"].items():
            shown = cost.replace("_cpu", "")  # the power is of processor time, the figures are what people wait for
            known = [(row[size], row[shown]) for row in measured if row[shown] is not None]
            if growth["exponent"] is None or not known:
                continue
            unit = mb if cost.endswith("_mb") else cell
            name = shown.removesuffix("_ms").removesuffix("_mb").replace("_", " ")
            rows.append(
                (f"{name} by {size}", *(f"{unit(value)} at {count:,}" for count, value in (known[0], known[-1])),
                 f"{growth['exponent']:.2f}", f"{growth['last_exponent']:.2f}", growth["verdict"])
            )  # fmt: skip
    head = ("cost", "smallest", "largest", "power", "power at the end", "")
    leak = report["clicks"]["leak_mb_per_round"]
    rest = "" if leak is None else f"Kept after opening, clicking and undoing everything: {leak:+.2f} MB a round."
    return "\n\n".join(filter(None, [f"{caption(report)}.", table(head, rows), rest, *busy_note(report)]))


def split(stages: dict[str, float], names: list[str]) -> tuple[str, ...]:
    return tuple(cell(stages[name]) if stages.get(name) else "" for name in names)


def cell(value: float | None) -> str:
    return "not measured" if value is None else time_words(value)


def factor(ratio: float | None) -> str:
    return "not measured" if ratio is None else f"{ratio:,.1f}x"
