"""A contact sheet of training scenes with their targets outlined."""

from __future__ import annotations

from pathlib import Path

from ..io.atomic import atomic_path
from ..modeling.hires.intensity import two_channels
from .config import TrainConfig
from .data.draw import Draw
from .data.engine import DataEngine

__all__ = ["draw_contact_sheet"]

_COLOURS = ("tab:red", "tab:cyan", "yellow", "tab:green", "magenta")


def draw_contact_sheet(engine: DataEngine, config: TrainConfig, path: Path, scenes: int = 40) -> None:
    """Draw `scenes` samples as the network sees them, mid-slice of the first target.

    Args:
        engine: where scenes come from.
        config: crop sizes are drawn from its plans.
        path: PNG, PDF or SVG to write.
        scenes: how many.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    columns = 8
    rows = -(-scenes // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2 * columns, 2.2 * rows), squeeze=False)
    draw = Draw(config.seed, 0)
    for number, axis in enumerate(axes.ravel()):
        axis.axis("off")
        if number >= scenes:
            continue
        size = draw.choice(config.plans).size
        scene = engine.scene(number, (size, size, size))
        image = two_channels(scene.image[None, None])[0, number % 2].cpu().numpy()
        slab = int(scene.targets[0].sum((1, 2)).argmax())
        axis.imshow(image[slab], cmap="gray", interpolation="nearest")
        for mask, colour in zip(scene.targets.cpu().numpy(), _COLOURS, strict=False):
            if mask[slab].any() and not mask[slab].all():
                axis.contour(mask[slab], [0.5], colors=colour, linewidths=0.9)
        axis.set_title(f"{scene.kind} {size}", fontsize=8)
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=70)
    plt.close(figure)
