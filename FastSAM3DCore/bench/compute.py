"""The network part of the bench: encode and click, ours against the plain reference, in turn on the same inputs."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypedDict

import torch
from torch import Tensor

from .networks import Clicked, Runner, default_network, own_crop_size, plain_network, published_networks
from .sam2d import Sam2DEncoder
from .timing import LONG_MS, Timing, compare, run_once

__all__ = [
    "Networks",
    "Sam2DTiming",
    "Throughput",
    "as_written",
    "time_batches",
    "time_clicks",
    "time_encoders",
    "time_own_crop",
    "time_sam2d",
]


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

    @property
    def own_crop(self) -> int:
        """Voxels per axis of the crops that sessions cut for the default network."""
        return own_crop_size(self.default, self.device)

    def clicked(self, model: Any) -> Clicked:
        """Two clicks and a mask at the resolution a network decodes to."""
        return Clicked.on(self.size, self.size // model.traits.mask_stride, self.device)


class Sam2DTiming(TypedDict):
    """A stack of slices through a 2D network, in milliseconds.

    `stack_ms` is the time of all `slices` if they were run, and otherwise (`extrapolated`) the mean of the
    `slices_timed` ones times `slices`; `slice_ms` is their median, `slice_low_ms` and `slice_high_ms` the extremes.
    """

    slices: int
    slices_timed: int
    extrapolated: bool
    slice_ms: float
    slice_low_ms: float
    slice_high_ms: float
    stack_ms: float


class Throughput(TypedDict):
    """Crops of crop^3 encoded per second in batches: median, and what the slower and faster quartile give."""

    crop: int
    batch: int
    crops_per_second: float
    low: float
    high: float
    runs: int


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


def time_sam2d(
    device: torch.device, *, slices: int, image_size: int = 1024, depth: int = 12, timed: int | None = None
) -> Sam2DTiming:
    """Time a 2D SAM's encoder over a stack of slices, slice after slice.

    Args:
        device: where to compute.
        slices: of the stack.
        image_size: pixels along each side of a slice.
        depth: blocks of the network.
        timed: how many slices are really run, all different; all of them if None. The first is a slice like the
            others when it takes more than LONG_MS, and warm-up otherwise.
    """
    model = Sam2DEncoder(image_size, depth).to(device).eval()
    count = slices if timed is None else min(timed, slices)
    calls = as_written(device, lambda: model(torch.rand(1, 3, image_size, image_size)))
    elapsed: list[float] = [run_once(calls, device)[0]]
    if elapsed[0] <= LONG_MS:
        elapsed.clear()
    while len(elapsed) < count:
        elapsed.append(run_once(calls, device)[0])
    extrapolated = count < slices
    return {
        "slices": slices,
        "slices_timed": count,
        "extrapolated": extrapolated,
        "slice_ms": statistics.median(elapsed),
        "slice_low_ms": min(elapsed),
        "slice_high_ms": max(elapsed),
        "stack_ms": slices * statistics.fmean(elapsed) if extrapolated else sum(elapsed),
    }


def time_own_crop(networks: Networks, *, seconds: float) -> dict[str, Timing]:
    """The default network on crops as sessions cut them, which are smaller: "encode" and "click"."""
    model, size = networks.default, networks.own_crop
    runner, image = Runner(model, networks.device), torch.randn(1, 1, size, size, size, device=networks.device)
    clicked = Clicked.on(size, size // model.traits.mask_stride, networks.device)
    calls = {"encode": partial(runner.encode, image), "click": partial(runner.decode, runner.encode(image), clicked)}
    return compare(calls, networks.device, seconds=seconds)


def time_batches(networks: Networks, *, batch: int = 4, seconds: float = 4.0) -> dict[str, Throughput]:
    """Crops per second when several are waiting: the "student" on full crops, the "default" on its own."""
    found: dict[str, Throughput] = {}
    for name, model, size in (
        ("student", networks.student, networks.size),
        ("default", networks.default, networks.own_crop),
    ):
        runner = Runner(model, networks.device)
        images = torch.randn(batch, 1, size, size, size, device=networks.device)
        timing = compare({"": partial(runner.encode, images)}, networks.device, seconds=seconds / 2, least=2)[""]
        found[name] = {
            "crop": size,
            "batch": batch,
            "crops_per_second": 1000.0 * batch / timing.median_ms,
            "low": 1000.0 * batch / timing.high_ms,
            "high": 1000.0 * batch / timing.low_ms,
            "runs": timing.runs,
        }
    return found
