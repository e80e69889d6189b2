"""What a run shows and leaves behind: a live line, a CSV table and a picture of the curves."""

from __future__ import annotations

import csv
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["Curves", "Reporter", "plot_curves"]

logger = logging.getLogger(__name__)
COLUMNS = ["step", "targets", "seconds", "size", "rate", "loss", "first_dice", "last_dice"]
_LINE_SECONDS = 20.0


class Curves:
    """The CSV table of a run; resuming drops rows after the checkpoint, so the curve has no overlaps."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept: list[dict[str, str]] = []
        if path.exists():
            with path.open(newline="") as stream:
                kept = [row for row in csv.DictReader(stream) if int(row["step"]) < step]
        self._stream = path.open("w", newline="")
        self._writer = csv.DictWriter(self._stream, COLUMNS)
        self._writer.writeheader()
        self._writer.writerows(kept)

    def add(self, row: dict[str, float]) -> None:
        """Append a step."""
        self._writer.writerow(row)

    def flush(self) -> None:
        """Make the rows safe."""
        self._stream.flush()

    def close(self) -> None:
        """Flush and close."""
        self._stream.close()


class Reporter:
    """A live table on a terminal, a plain line every twenty seconds elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        # Only here and in the table: a machine that is there for its card trains without it.
        from rich.console import Console
        from rich.live import Live

        self.console = console or Console()
        self._live = Live(console=self.console, refresh_per_second=2) if self.console.is_terminal else None
        self._said = -_LINE_SECONDS
        self._smooth: dict[str, float] = {}
        if self._live is not None:
            self._live.start()

    def step(self, row: dict[str, float], progress: float) -> None:
        """Report a step; losses and scores are shown as running means."""
        for key in ("loss", "first_dice", "last_dice"):
            old = self._smooth.get(key, math.nan)
            # Distillation has no Dice before its last stage.
            self._smooth[key] = row[key] if math.isnan(old) else 0.98 * old + 0.02 * row[key]
        if self._live is not None:
            self._live.update(self._table(row, progress))
        elif row["seconds"] - self._said >= _LINE_SECONDS:
            self._said = row["seconds"]
            self.say(
                f"step {int(row['step'])}  {100 * progress:.1f}%  targets {int(row['targets'])}  "
                f"loss {self._smooth['loss']:.3f}  dice {_shown(self._smooth['first_dice'])} -> "
                f"{_shown(self._smooth['last_dice'])}  rate {row['rate']:.2e}  {row['seconds']:.0f} s"
            )

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Stop drawing."""
        if self._live is not None:
            self._live.stop()

    def _table(self, row: dict[str, float], progress: float) -> Table:
        from rich.table import Table

        table = Table(title=f"training {100 * progress:.1f} %")
        for name in ("step", "targets", "loss", "dice, first prompt", "dice, last prompt", "rate", "seconds"):
            table.add_column(name, justify="right")
        table.add_row(
            f"{int(row['step'])}",
            f"{int(row['targets'])}",
            *(_shown(self._smooth[k]) for k in ("loss", "first_dice", "last_dice")),
            f"{row['rate']:.2e}",
            f"{row['seconds']:.0f}",
        )
        return table


def _shown(value: float) -> str:
    """A figure, or a dash while there is none."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def plot_curves(table: Path, picture: Path) -> None:
    """Draw loss and Dice of a CSV table as PNG, as running means."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    if len(rows) < 2:
        logger.info("no curve yet: %d steps", len(rows))
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    steps = [int(r["step"]) for r in rows]
    for axis, keys in ((left, ["loss"]), (right, ["first_dice", "last_dice"])):
        for key in keys:
            axis.plot(steps, _running([float(r[key]) for r in rows]), label=key.replace("_", " "))
        axis.set_xlabel("step")
        axis.legend()
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(picture, dpi=100)
    plt.close(figure)


def _running(values: list[float]) -> list[float]:
    weight = min(0.98, 1 - 1 / max(2.0, len(values) / 30))
    out, mean = [], values[0]
    for value in values:
        mean = value if math.isnan(mean) else weight * mean + (1 - weight) * value
        out.append(mean)
    return out
