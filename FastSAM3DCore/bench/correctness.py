"""Correctness in the same run as the speed, and the arithmetic behind it: a fast wrong answer fails the bench."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from math import prod
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .compute import Networks, as_written
from .networks import Clicked, Runner

__all__ = ["LEAST_DICE", "Agreement", "agreement", "compared", "count_gflop", "counter"]

# A fast answer whose mask has less overlap than this with the float32 answer is wrong, and the bench fails.
LEAST_DICE = 0.98


class Agreement(TypedDict):
    """How far fast logits are from the float32 reference: largest difference, and Dice of the masks above zero."""

    max_abs: float
    dice: float


def agreement(networks: Networks) -> dict[str, Agreement]:
    """Logits of a click, in the fast precision, against float32: "student" (plain code) and "default" (same code)."""
    results = {}
    for name, model, plain in (
        ("student", networks.student, networks.plain),
        ("default", networks.default, None),
    ):
        clicked = networks.clicked(model)
        runner = Runner(model, networks.device)
        fast = runner.decode(runner.encode(networks.image), clicked)
        results[name] = compared(fast, exact_logits(networks, model if plain is None else plain, clicked))
    return results


def exact_logits(networks: Networks, model: Any, clicked: Clicked) -> Tensor:
    """Float32 logits by eager code."""

    def run() -> Any:
        embedding = model.encode(networks.image)
        return model.decode(embedding, clicked.points, clicked.labels, clicked.mask)[0]

    logits: Tensor = as_written(networks.device, run)()
    return logits


def compared(fast: Tensor, exact: Tensor) -> Agreement:
    """Largest difference of logits, and Dice of the masks they give."""
    fast, exact = fast.float().cpu(), exact.float().cpu()
    mine, right = fast > 0, exact > 0
    total = int(mine.sum()) + int(right.sum())
    dice = 1.0 if total == 0 else 2.0 * int((mine & right).sum()) / total
    return {"max_abs": float((fast - exact).abs().max()), "dice": dice}


def counter() -> FlopCounterMode:
    """A counter of arithmetic that knows oneDNN's convolutions too, which torch does not count by itself."""

    def convolution(x: Sequence[int], weight: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
        # weight (C_out, C_in / groups, kernel): a multiplication and an addition per weight and voxel that comes out
        return 2 * out_shape[0] * prod(out_shape[2:]) * prod(weight)

    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mkldnn_convolution: convolution})


def count_gflop(networks: Networks) -> dict[str, dict[str, float]]:
    """Arithmetic of encode and decode per network, in GFLOP (a multiply-add is two), counted on eager code."""
    counts = {}
    for name, model in (("student", networks.student), ("teacher", networks.teacher), ("default", networks.default)):
        clicked = networks.clicked(model)
        # torch counts no arithmetic in its fused CPU attention, so the CPU runs it as plain products here.
        plain = sdpa_kernel(SDPBackend.MATH) if networks.device.type == "cpu" else nullcontext()
        with torch.no_grad(), plain:
            with counter() as encoding:
                embedding = model.encode(networks.image)
            with counter() as decoding:
                model.decode(embedding, clicked.points, clicked.labels, clicked.mask)
        counts[name] = {
            "encode": encoding.get_total_flops() / 1e9,
            "click": decoding.get_total_flops() / 1e9,
        }
    return counts
