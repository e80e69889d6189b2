"""Evaluation results as Markdown tables, for documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..bench.markdown import table
from .environment import where_and_when
from .report import methods_of

__all__ = ["CHALLENGE", "CLICKS", "results_markdown"]

CLICKS, CHALLENGE = "fastsam3d evaluate", "fastsam3d evaluate --protocol cvpr2025"


def results_markdown(results: dict[str, Any]) -> str:
    """Means by group of cases, one line per method; and what machine and when."""
    methods = methods_of(results)
    challenge = results["settings"]["protocol"] == "cvpr2025"
    columns = _challenge_columns if challenge else _click_columns
    rows = []
    for group in ["all", *sorted({name for part in methods.values() for name in part["groups"]})]:
        for name, part in methods.items():
            mean = part["mean"] if group == "all" else part["groups"].get(group)
            if mean and mean["structures"]:
                rows.append((f"{group} ({mean['structures']})", Path(name).stem, *columns(mean)))
    steps = list(next(iter(methods.values()))["mean"]["dice"])
    head: tuple[str, ...] = ("group (structures)", "method")
    if challenge:
        head += ("Dice, box", "Dice final", "NSD final", "Dice AUC (of 4)", "NSD AUC (of 4)")
    else:
        head += tuple(f"Dice at {step}" for step in steps) + tuple(f"NSD at {step}" for step in steps)
    note = f"Mean over {len(results['finished_cases'])} scans; {where_and_when(results['environment'])}."
    return table(head, rows) + "\n\n" + "\n".join([*_by_scan(methods), note]) + "\n"


def _click_columns(mean: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{value:.3f}" for metric in ("dice", "nsd") for value in mean[metric].values())


def _challenge_columns(mean: dict[str, Any]) -> tuple[str, ...]:
    keys = ("dice_final", "nsd_final", "dice_auc", "nsd_auc")
    return (f"{mean['dice']['0']:.3f}", *(f"{mean[key]:.3f}" for key in keys))


def _by_scan(methods: dict[str, dict[str, Any]]) -> list[str]:
    """The challenge's own figures: structures averaged within each scan first."""
    lines = []
    for name, part in methods.items():
        if scores := part["mean"].get("by_case"):
            dice, nsd = (f"{scores[f'{m}_final']:.3f} final, {scores[f'{m}_auc']:.3f} AUC" for m in ("dice", "nsd"))
            lines.append(
                f"Averaged within each scan first, as the challenge does: Dice {dice}; NSD {nsd} ({Path(name).stem})."
            )
    return lines
