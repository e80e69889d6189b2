"""The network part of the bench: encode and click, ours against the plain reference, correctness in the same run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .networks import Clicked, Runner, default_network, plain_network, published_networks
from .sam2d import Sam2DEncoder
from .timing import Timing, compare

__all__ = [
    "LEAST_DICE",
    "Agreement",
    "Networks",
    "agreement",
    "count_gflop",
    "time_batches",
    "time_clicks",
    "time_encoders",
    "time_own_crop",
    "time_sam2d",
]

# A fast answer whose mask has less overlap than this with the float32 answer is wrong, and the bench fails.
LEAST_DICE = 0.98


class Agreement(TypedDict):
    """How far fast logits are from the float32 reference: largest difference, and Dice of the masks above zero."""

    max_abs: float
    dice: float


@dataclass(frozen=True, slots=True)
class Networks:
    """Everything that is timed on one crop of size^3; `plain` and `plain_teacher` are None outside a checkout."""

    device: torch.device
    size: int
    image: Tensor
    student: Any
    teacher: Any
    default: Any
    default_is_trained: bool
    plain: Any | None
    plain_teacher: Any | None

    @classmethod
    def build(cls, device: torch.device, size: int) -> Networks:
        """Build all networks, each plain one with the weights of ours."""
        student, teacher = published_networks(device, size)
        default, trained = default_network(device)
        generator = torch.Generator().manual_seed(2)
        image = torch.randn(1, 1, size, size, size, generator=generator).to(device)
        plain, plain_teacher = plain_network(student, device), plain_network(teacher, device)
        return cls(device, size, image, student, teacher, default, trained, plain, plain_teacher)

    def clicked(self, model: Any) -> Clicked:
        """Two clicks and a mask at the resolution a network decodes to."""
        return Clicked.on(self.size, self.size // model.traits.mask_stride, self.device)


def as_written(device: torch.device, call: Callable[[], Any]) -> Callable[[], Any]:
    """A call of plain code: float32, eager; tensors it makes without naming a device belong to this one."""

    def run() -> Any:
        with torch.inference_mode(), device:
            return call()

    return run


def time_encoders(networks: Networks, *, seconds: float) -> dict[str, Timing]:
    """Encode one crop: "ours" and "plain" (student), "teacher", "teacher_published" and "default"."""
    image = networks.image
    calls: dict[str, Callable[[], Any]] = {}
    for name, model in (("ours", networks.student), ("teacher", networks.teacher), ("default", networks.default)):
        runner = Runner(model, networks.device)
        calls[name] = partial(runner.encode, image)
    for name, plain in (("plain", networks.plain), ("teacher_published", networks.plain_teacher)):
        if plain is not None:
            calls[name] = as_written(networks.device, partial(plain.encode, image))
    return compare(calls, networks.device, seconds=seconds, least=2)


def time_clicks(networks: Networks, *, seconds: float) -> dict[str, Timing]:
    """Answer a second click on a cached embedding, with the mask so far: "ours", "plain" and "default"."""
    calls: dict[str, Callable[[], Any]] = {}
    for name, model in (("ours", networks.student), ("default", networks.default)):
        runner, clicked = Runner(model, networks.device), networks.clicked(model)
        calls[name] = partial(runner.decode, runner.encode(networks.image), clicked)
    if networks.plain is not None:
        plain, clicked = networks.plain, networks.clicked(networks.student)
        embedding = as_written(networks.device, lambda: plain.encode(networks.image))()
        calls["plain"] = as_written(
            networks.device, lambda: plain.decode(embedding, clicked.points, clicked.labels, clicked.mask)
        )
    return compare(calls, networks.device, seconds=seconds, least=5)


def time_sam2d(device: torch.device, *, slices: int, image_size: int = 1024, depth: int = 12, timed: int = 1) -> float:
    """Milliseconds a 2D SAM's encoder takes for a stack of slices, from the mean of `timed` of them."""
    model = Sam2DEncoder(image_size, depth).to(device).eval()
    image = torch.randn(1, 3, image_size, image_size, device=device)
    calls = {"slice": as_written(device, lambda: model(image))}
    timing = compare(calls, device, seconds=0.0, least=timed)["slice"]
    return slices * timing.median_ms


def time_own_crop(networks: Networks, *, seconds: float) -> dict[str, Timing]:
    """The default network on crops as sessions cut them, which are smaller: "encode" and "click"."""
    model, size = networks.default, networks.default.traits.crop_size
    runner, image = Runner(model, networks.device), torch.randn(1, 1, size, size, size, device=networks.device)
    clicked = Clicked.on(size, size // model.traits.mask_stride, networks.device)
    calls = {"encode": partial(runner.encode, image), "click": partial(runner.decode, runner.encode(image), clicked)}
    return compare(calls, networks.device, seconds=seconds)


def time_batches(networks: Networks, batch: int = 4) -> float:
    """Crops per second that ours encodes when several are waiting."""
    runner = Runner(networks.student, networks.device)
    images = networks.image.expand(batch, -1, -1, -1, -1).contiguous()
    timing = compare({"": partial(runner.encode, images)}, networks.device, seconds=2.0, least=2)[""]
    return 1000.0 * batch / timing.median_ms


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


def count_gflop(networks: Networks) -> dict[str, dict[str, float]]:
    """Arithmetic of encode and decode per network, in GFLOP (a multiply-add is two), counted on eager code."""
    counts = {}
    for name, model in (("student", networks.student), ("teacher", networks.teacher), ("default", networks.default)):
        clicked = networks.clicked(model)
        # torch counts no arithmetic in its fused CPU attention, so the CPU runs it as plain products here.
        plain = sdpa_kernel(SDPBackend.MATH) if networks.device.type == "cpu" else nullcontext()
        with torch.no_grad(), plain:
            with FlopCounterMode(display=False) as encoding:
                embedding = model.encode(networks.image)
            with FlopCounterMode(display=False) as decoding:
                model.decode(embedding, clicked.points, clicked.labels, clicked.mask)
        counts[name] = {
            "encode": encoding.get_total_flops() / 1e9,
            "click": decoding.get_total_flops() / 1e9,
        }
    return counts
