"""What sparse attention gives and takes in the real network on real crops, as tokens become finer.

The same weights run with sparse and with dense attention: nothing is trained anew, so the kind of attention that the
weights were trained with has an advantage; weights trained either way therefore belong in the table. The crops hold
the same structures at every size, sampled finer, so that more voxels mean more tokens for the same view.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from ..bench.memory import peak_growth_mb
from ..bench.timing import compare
from ..errors import ImageError
from ..evaluate.environment import describe_environment, where_and_when
from ..modeling.hires import HiresModel, build_hires, load_hires
from .holdout import HeldOutCrop, clicked_dice, held_out_crops

__all__ = ["attention_markdown", "study_attention", "with_window"]

WINDOW = 4  # of weights that were trained with dense attention
PATCH = 8
KINDS = ("sparse", "dense")
CPU = torch.device("cpu")


def with_window(model: HiresModel, window: int) -> HiresModel:
    """The same weights with another window; 0 is dense attention."""
    other = build_hires(dataclasses.replace(model.config, window=window))
    other.load_state_dict(model.state_dict())
    return other.eval()


def study_attention(
    candidates: list[tuple[str, str]],
    scans: Path,
    cases: list[str],
    *,
    sizes: tuple[int, ...] = (64, 128, 256),
    crops: int = 12,
    clicks: int = 3,
    dtype: torch.dtype = torch.float32,
    seconds: float = 6.0,
    on_part: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Score and time sparse and dense attention on the CPU.

    Args:
        candidates: name and weights file of networks of the project's own family.
        scans: folder of cases.
        cases: held-out ones.
        sizes: voxels per axis of the crops; (size / 8)^3 tokens.
        crops: of each size at most this many, one per case.
        clicks: simulated per crop.
        dtype: bfloat16 or float32.
        seconds: of timing for each row.
        on_part: called after each kind of attention of each size.

    Raises:
        ImageError: the cases hold no structure large enough.
        WeightsError: not weights of this family.
    """
    models = [(name, load_hires(Path(path))) for name, path in candidates]
    rows = []
    for size in sizes:
        chosen = held_out_crops(scans, cases, size, 1)[:crops]
        if not chosen:
            raise ImageError(f"{scans} holds none of the cases to study, or no structure in them is large enough.")
        for name, model in models:
            trained = model.config.window
            pair = dict(zip(KINDS, (with_window(model, trained or WINDOW), with_window(model, 0)), strict=True))
            row = _row(pair, chosen, clicks, dtype, seconds, on_part)
            rows.append({"name": name, "trained": "sparse" if trained else "dense", "crop_size": size} | row)
    return {"clicks": clicks, "rows": rows, "environment": describe_environment("cpu")}


def _row(
    pair: dict[str, HiresModel],
    crops: list[HeldOutCrop],
    clicks: int,
    dtype: torch.dtype,
    seconds: float,
    on_part: Callable[[str], None],
) -> dict[str, Any]:
    half = dtype == torch.bfloat16
    dice: dict[str, list[list[float]]] = {}
    for kind, model in pair.items():
        dice[kind] = [clicked_dice(model, crop, clicks, half) for crop in crops]
        on_part(f"{kind}, {crops[0].image.shape[0]} voxels")
    gains = [a[-1] - b[-1] for a, b in zip(dice["sparse"], dice["dense"], strict=True)]
    image = crops[0].image[None, None]
    calls = {kind: _encoder(model, image, dtype) for kind, model in pair.items()}
    times = compare(calls, CPU, seconds=seconds, least=2)
    # Memory last: measuring it changes how the CPU allocator works.
    memory = {kind: peak_growth_mb(call, CPU) for kind, call in calls.items()}
    return {
        "tokens": (image.shape[-1] // PATCH) ** 3,
        "crops": len(crops),
        "dtype": str(dtype).removeprefix("torch."),
        "dice": {kind: [round(fmean(c), 4) for c in zip(*table, strict=True)] for kind, table in dice.items()},
        "difference": round(fmean(gains), 4),
        "standard_error": round(stdev(gains) / sqrt(len(gains)), 4) if len(gains) > 1 else 0.0,
        "encode_ms": {kind: round(timing.median_ms, 1) for kind, timing in times.items()},
        "encode_mb": {kind: None if value is None else round(value) for kind, value in memory.items()},
    }


def _encoder(model: HiresModel, image: torch.Tensor, dtype: torch.dtype) -> Callable[[], Any]:
    def encode() -> Any:
        with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return model.encode(image)

    return encode


def attention_markdown(results: dict[str, Any]) -> str:
    """The table for the documentation."""
    clicks = results["clicks"]
    lines = [
        (
            "| weights | trained with | crop | tokens | Dice sparse / dense | sparse - dense (standard error) "
            "| encode ms sparse / dense | encode MB sparse / dense |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        dice, ms, mb = row["dice"], row["encode_ms"], row["encode_mb"]
        memory = " / ".join("-" if mb[kind] is None else f"{mb[kind]:.0f}" for kind in KINDS)
        lines.append(
            f"| {row['name']} | {row['trained']} | {row['crop_size']}^3 | {row['tokens']} "
            f"| {dice['sparse'][-1]:.3f} / {dice['dense'][-1]:.3f} "
            f"| {row['difference']:+.3f} ({row['standard_error']:.3f}) "
            f"| {ms['sparse']:.0f} / {ms['dense']:.0f} | {memory} |"
        )
    first = results["rows"][0]
    lines += [
        "",
        (
            f"Dice after {clicks} clicks, {first['crops']} structures of as many held-out scans, the view set by the "
            f"answer; {first['dtype']}, {where_and_when(results['environment'])}."
        ),
    ]
    return "\n".join(lines) + "\n"
