"""What the figures were made on: the processor or card, the date and the versions."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import torch

from .. import __version__
from ..devices import cpu_name
from ..precision import fast_dtype

__all__ = ["busy_cores", "device_name", "machine", "precision_name"]


def device_name(device: torch.device) -> str:
    """The processor or card, as people call it."""
    if device.type == "cuda":
        return f"{device}: {torch.cuda.get_device_name(device)}"
    return f"{device}: {cpu_name() if device.type == 'cpu' else 'Apple GPU'}"


def precision_name(device: torch.device) -> str:
    """What this process computes in on a device; the processes it starts for measuring are told to do the same.

    On a CPU the choice is measured, and a busy machine may choose differently a second later.
    """
    return str(fast_dtype(device)).removeprefix("torch.")


def machine() -> dict[str, str | int | float | None]:
    """When, where and with which versions."""
    versions = {"fastsam3d": __version__, "torch": torch.__version__, "python": platform.python_version()}
    for package in ("numpy", "SimpleITK", "triton"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "cuda": torch.version.cuda or "none",
        "busy_cores_before": busy_cores(),
        **versions,
    }


def busy_cores() -> float | None:
    """How many cores other programs kept busy in the last minute; None where the system does not say.

    Times of a run that began with more than half a core busy are longer than they need be.
    """
    try:
        return round(os.getloadavg()[0], 1)
    except (AttributeError, OSError):
        return None
