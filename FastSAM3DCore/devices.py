"""Which compute device to use: proved by running a kernel on it, not by asking whether it should be there."""

from __future__ import annotations

import logging
import os
import platform
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from .errors import DeviceError

__all__ = ["ChosenDevice", "DeviceReport", "choose_device", "describe_devices"]

logger = logging.getLogger(__name__)

MEBIBYTE = 2**20


class ChosenDevice(NamedTuple):
    """A device that works, and one line about it."""

    device: torch.device
    description: str


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """What is known about one device.

    Attributes:
        name: "cpu", "cuda:0", "mps", or "cuda" if there is none.
        usable: a kernel ran on it and gave the right numbers.
        description: one line: name, free memory and torch build, or why it cannot be used.
        advice: what to do about a device that cannot be used; empty for one that can.
    """

    name: str
    usable: bool
    description: str
    advice: str = ""


def choose_device(request: str = "auto") -> ChosenDevice:
    """The device to compute on.

    Args:
        request: "auto" (CUDA with the most free memory, then Apple MPS, then CPU), "cpu", "cuda", "cuda:1", "mps".

    Returns:
        The device and one line about it; for a CPU that "auto" fell back to, the line says why.

    Raises:
        DeviceError: unknown name, or a device asked for by name does not work.
    """
    if request == "auto":
        return choose_automatically()
    try:
        device = torch.device(request)
    except RuntimeError as error:
        raise DeviceError(f"Unknown device {request!r}; use auto, cpu, cuda, cuda:1 or mps.") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(f"Device {request!r} is not supported; use auto, cpu, cuda, cuda:1 or mps.")
    if device.type == "cpu":
        device = torch.device("cpu")  # "cpu:0" is no device of its own
    if request == "cuda" and torch.cuda.is_available():
        device = torch.device("cuda", most_free_cuda())
    report = probe(device)
    if not report.usable:
        raise DeviceError(f"{report.description} {report.advice}".strip())
    return ChosenDevice(device, report.description)


def choose_automatically() -> ChosenDevice:
    """The fastest device that proves to work; the CPU always does."""
    reasons = []
    for report in accelerator_reports():
        if report.usable:
            return ChosenDevice(torch.device(report.name), report.description)
        reasons.append(report.description)
    reason = " ".join(reasons)
    logger.info("Computing on the CPU. %s", reason)
    return ChosenDevice(torch.device("cpu"), f"{probe(torch.device('cpu')).description}. {reason}".strip())


def describe_devices() -> list[DeviceReport]:
    """Every kind of device, best first, each proved by a kernel; the CPU last."""
    return [*accelerator_reports(), probe(torch.device("cpu"))]


def accelerator_reports() -> list[DeviceReport]:
    """CUDA devices by free memory, then MPS; a report that says so where there is none."""
    if torch.cuda.is_available():
        order = sorted(range(torch.cuda.device_count()), key=lambda index: -free_cuda_bytes(index))
        reports = [probe(torch.device("cuda", index)) for index in order]
    else:
        reports = [probe(torch.device("cuda"))]
    if torch.backends.mps.is_available():
        reports.append(probe(torch.device("mps")))
    return reports


def probe(device: torch.device) -> DeviceReport:
    """Run one small kernel on a device and describe it."""
    # A CPU-only build raises AssertionError, a driver or architecture mismatch RuntimeError, an operation that
    # the back end lacks NotImplementedError (a RuntimeError too).
    try:
        works = run_kernel(device)
        reason = "a test kernel gave wrong numbers"
    except (RuntimeError, AssertionError) as error:
        works = False
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).split(". ")[0].rstrip(".")
    if works:
        return DeviceReport(str(device), True, describe(device))
    return DeviceReport(str(device), False, f"{device}: not usable ({reason}).", advice_for(device))


def run_kernel(device: torch.device) -> bool:
    """Whether the operations that the networks need give a result that is known.

    Apple's back end lacks some of them in older builds of torch; better to find out here than at the first click.

    Raises:
        RuntimeError, AssertionError: from torch, if the device does not work at all or lacks an operation.
    """
    volume = torch.ones(1, 1, 4, 4, 4, device=device)
    kernel = torch.ones(2, 1, 2, 2, 2, device=device)
    sums = F.conv3d(volume, kernel)  # every output is a sum of 8 ones
    signs = F.layer_norm(torch.stack((sums, -sums), dim=-1), (2,))  # +1 and -1
    total = (signs[..., 0] * sums).sum()  # 8 times the number of outputs
    mean = F.interpolate(F.avg_pool3d(volume, 2), scale_factor=2.0, mode="trilinear").mean()  # 1
    knots = F.group_norm(volume, 1).flatten().cumsum(0).sort().values  # 64 zeros
    place = torch.searchsorted(knots, mean[None]).float().sum()  # behind all of them
    found = torch.stack([total / sums.numel(), mean, place]).cpu()
    return bool(torch.allclose(found, torch.tensor([8.0, 1.0, 64.0]), atol=1e-2))


def describe(device: torch.device) -> str:
    """One line about a device that works."""
    build = f"torch {torch.__version__}"
    if device.type == "cuda":
        index = device.index or 0
        free = free_cuda_bytes(index) // MEBIBYTE
        return f"cuda:{index}: {torch.cuda.get_device_name(index)}, {free} MB free, {build}"
    if device.type == "mps":
        return f"mps: Apple GPU, {build}"
    free_cpu = free_cpu_megabytes()
    memory = f", {free_cpu} MB free" if free_cpu is not None else ""
    return f"cpu: {cpu_name()}, {torch.get_num_threads()} threads{memory}, {build}"


def advice_for(device: torch.device) -> str:
    """What to do about a device that does not work."""
    if device.type == "cuda" and torch.version.cuda is None and torch.version.hip is None:
        return "This torch is built for the CPU; with an NVIDIA GPU, install a CUDA build of torch."
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count() > 0:
        return f"This machine has CUDA devices 0 to {torch.cuda.device_count() - 1}."
    if device.type == "cuda":
        return "Check that an NVIDIA GPU and a driver as new as this torch's CUDA are there (nvidia-smi)."
    return "Use --device auto or --device cpu."


def most_free_cuda() -> int:
    """Index of the CUDA device with the most free memory."""
    return max(range(torch.cuda.device_count()), key=free_cuda_bytes)


def free_cuda_bytes(index: int) -> int:
    """Free memory of a CUDA device; 0 if the driver refuses to say."""
    try:
        return int(torch.cuda.mem_get_info(index)[0])
    except RuntimeError:
        return 0


def free_cpu_megabytes() -> int | None:
    """Free main memory, where the system tells."""
    try:
        return int(os.sysconf("SC_AVPHYS_PAGES")) * int(os.sysconf("SC_PAGE_SIZE")) // MEBIBYTE
    except (AttributeError, ValueError, OSError):
        return None


def cpu_name() -> str:
    """The processor's name, as far as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            for line in info:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        logger.debug("No /proc/cpuinfo here; asking the platform module.")
    return platform.processor() or platform.machine()
