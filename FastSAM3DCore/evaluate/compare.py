"""Several weights side by side: Dice by clicks on the same structures, and what each costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import prod, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..bench.timing import compare
from ..modeling.interface import PromptableModel
from .cases import Case
from .environment import describe_environment, where_and_when
from .runner import SessionFactory, Settings, evaluate_cases

__all__ = ["Candidate", "Cost", "compare_models", "comparison_markdown"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A column heading and the model or weights file behind it."""

    name: str
    model: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network costs on one cubic crop.

    Attributes:
        parameters: of the whole network.
        encode_gflop, decode_gflop: two per multiply-add of matrix products and convolutions, once per crop and once
            per prompt.
        encode_ms, decode_ms: medians; all networks took turns, so that other work on the machine slowed all alike.
    """

    parameters: int
    encode_gflop: float
    decode_gflop: float
    encode_ms: float
    decode_ms: float


def compare_models(
    candidates: list[Candidate],
    cases: list[Case],
    session_factory: SessionFactory,
    load: Callable[[str], PromptableModel],
    *,
    clicks: tuple[int, ...] = (1, 3, 5, 10),
    max_structures: int | None = None,
    crop_size: int = 64,
    dtype: torch.dtype = torch.float32,
    jobs: int = 1,
    on_case: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Score and cost every candidate on the CPU.

    Args:
        candidates: the first is what the others are set against.
        cases: to click on.
        session_factory: (model, device) -> session.
        load: model -> network on the CPU in evaluation mode, for its cost.
        clicks: at which numbers of clicks to score.
        max_structures: of each case at most this many.
        crop_size: voxels per axis of the crop that costs are given for.
        dtype: what convolutions compute in while timed.
        jobs: processes for the scores.
        on_case: called after each case of each candidate.
    """
    costs = measure_costs({c.name: load(c.model) for c in candidates}, crop_size, dtype)
    rows: list[dict[str, Any]] = []
    first: list[dict[str, Any]] = []
    for candidate in candidates:
        settings = Settings(candidate.model, "cpu", clicks, baseline=False, max_structures=max_structures)
        results = evaluate_cases(cases, settings, session_factory, jobs=jobs, on_case=on_case)
        first = first or results["cases"]
        mean = results["mean"]
        rows.append(
            {
                "name": candidate.name,
                "model": Path(candidate.model).name,
                "dice": mean["dice"],
                "nsd": mean["nsd"],
                "difference": paired_difference(first, results["cases"]) if rows else None,
                "groups": {group: part["dice"] for group, part in results["groups"].items()},
                "cost": asdict(costs[candidate.name]),
            }
        )
    return {
        "structures": len(first),
        "cases": sorted({row["case"] for row in first}),
        "clicks": list(clicks),
        "crop_size": crop_size,
        "dtype": str(dtype).removeprefix("torch."),
        "models": rows,
        "environment": describe_environment("cpu"),
    }


def paired_difference(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By number of clicks: mean difference of Dice over structures, and its standard error over cases.

    Structures of one scan resemble each other, so scans are what is counted as independent.
    """
    out = {}
    for step in ours[0]["dice"] if ours else ():
        cases: dict[str, list[float]] = {}
        for a, b in zip(ours, theirs, strict=True):
            cases.setdefault(a["case"], []).append(b["dice"][step] - a["dice"][step])
        every = [value for part in cases.values() for value in part]
        means = [fmean(part) for part in cases.values()]
        error = stdev(means) / sqrt(len(means)) if len(means) > 1 else 0.0
        out[step] = {"mean": round(fmean(every), 4), "standard_error": round(error, 4)}
    return out


@torch.inference_mode()
def measure_costs(models: dict[str, Any], size: int, dtype: torch.dtype, seconds: float = 4.0) -> dict[str, Cost]:
    """Parameters, operations and milliseconds of each network on a crop of size^3 with three clicks and a mask."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 1, size, size, size, generator=generator)
    points, labels = torch.rand(1, 3, 3, generator=generator) * (size - 1), torch.tensor([[1, 0, 1]])
    calls: dict[str, Callable[[], Any]] = {}
    flops: dict[str, list[float]] = {}
    for name, model in models.items():
        stride = model.traits.mask_stride
        mask = torch.randn(1, 1, *[size // stride] * 3, generator=generator)
        embedding = model.encode(image)

        def encode(model: Any = model) -> Any:
            with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                return model.encode(image)

        def decode(model: Any = model, embedding: Any = embedding, mask: torch.Tensor = mask) -> Any:
            with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                return model.decode(embedding, points, labels, mask)

        calls |= {f"encode {name}": encode, f"decode {name}": decode}
        flops[name] = [gflop(encode), gflop(decode)]
    times = compare(calls, torch.device("cpu"), seconds=seconds * len(models))
    return {
        name: Cost(
            parameters=parameter_count(model),
            encode_gflop=round(flops[name][0], 2),
            decode_gflop=round(flops[name][1], 2),
            encode_ms=round(times[f"encode {name}"].median_ms, 1),
            decode_ms=round(times[f"decode {name}"].median_ms, 1),
        )
        for name, model in models.items()
    }


def parameter_count(model: nn.Module) -> int:
    """All weights of a network."""
    return sum(parameter.numel() for parameter in model.parameters())


def gflop(call: Callable[[], Any]) -> float:
    """Billions of operations of a call, by torch's counter.

    Attention is written out for the count, and oneDNN's convolution counted here: the counter knows neither of the
    CPU's own operators.
    """
    own = {torch.ops.aten.mkldnn_convolution: _convolution_flops}
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=own) as counter:
        call()
    return float(counter.get_total_flops()) / 1e9


def _convolution_flops(_x: Any, weight: torch.Size, *_: Any, out_shape: torch.Size, **__: Any) -> int:
    """(B, C, ...) outputs, each a sum over the kernel and the input channels of its group."""
    return 2 * prod(out_shape) * prod(weight[1:])


def comparison_markdown(results: dict[str, Any]) -> str:
    """The table for the documentation."""
    clicks = " / ".join(map(str, results["clicks"]))
    size, first = results["crop_size"], results["models"][0]["name"]
    lines = [
        (
            f"| network | Dice at {clicks} clicks | against {first} (standard error) | parameters "
            "| GFLOP encode / click | ms encode / click |"
        ),
        "|---|---|---|---|---|---|",
    ]
    for row in results["models"]:
        cost, difference = row["cost"], row["difference"]
        dice = " / ".join(_short(value) for value in row["dice"].values())
        against = (
            ""
            if difference is None
            else " / ".join(f"{value['mean']:+.3f} ({value['standard_error']:.3f})" for value in difference.values())
        )
        lines.append(
            f"| {row['name']} | {dice} | {against} | {cost['parameters'] / 1e6:.2f} M "
            f"| {cost['encode_gflop']:.1f} / {cost['decode_gflop']:.1f} "
            f"| {cost['encode_ms']:.0f} / {cost['decode_ms']:.0f} |"
        )
    lines += [
        "",
        (
            f"{results['structures']} structures of {len(results['cases'])} scans never trained on; crops of {size}^3 "
            f"voxels, {results['dtype']}, {where_and_when(results['environment'])}."
        ),
    ]
    return "\n".join(lines) + "\n"


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)
