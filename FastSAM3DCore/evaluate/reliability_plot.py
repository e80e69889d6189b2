"""A reliability diagram: what was predicted against what was so, before and after calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..io.atomic import atomic_path

__all__ = ["plot_reliability"]


def plot_reliability(path: Path, results: dict[str, Any]) -> None:
    """Draw what `calibrate` returned as PNG, PDF or SVG; dots are as large as their share of the voxels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    for number, name in enumerate(("before", "after")):
        axis = figure.add_subplot(1, 2, number + 1)
        part = results[name]
        predicted, observed = ([row[key] for row in part["bins"]] for key in ("predicted", "observed"))
        sizes = [12 + 500 * row["share"] for row in part["bins"]]
        axis.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        axis.plot(predicted, observed, color="#1f77b4", linewidth=1.4)
        axis.scatter(predicted, observed, s=sizes, color="#1f77b4", alpha=0.65, linewidths=0)
        found = results["calibration"]
        note = "" if name == "before" else f", temperatures {found['temperature']:.2f} / {found['outside']:.2f}"
        axis.set_title(f"{name}{note}: ECE {part['ece']:.3f}", fontsize=10)
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1)
        axis.set_aspect("equal")
        axis.set_xlabel("predicted probability")
        axis.grid(alpha=0.25)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    figure.axes[0].set_ylabel("share inside the structure")
    figure.suptitle(
        f"Voxels within {results['band_mm']:g} mm of the mask's border, {results['after']['masks']} masks of "
        f"{results['measured_on']['structures']} structures never trained on",
        fontsize=9,
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
