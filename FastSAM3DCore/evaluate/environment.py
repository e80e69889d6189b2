"""What the figures of a run depend on."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__

__all__ = ["describe_environment", "where_and_when"]


def describe_environment(device: str | None) -> dict[str, Any]:
    """Date, machine and versions; `device` is what was asked for, None if no network runs."""
    versions = {"fastsam3d": __version__, "python": platform.python_version()}
    for package in ("numpy", "torch", "SimpleITK"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    about: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "processor": _processor(),
        "versions": versions,
        "device": None,
        "threads": None,
    }
    if device is not None:
        import torch

        from ..devices import choose_device

        about |= {"device": choose_device(device).description, "threads": torch.get_num_threads()}
    return about


def where_and_when(about: dict[str, Any]) -> str:
    """Threads (of each process), processor and day of a run, for the line below a table."""
    threads = f"{about['threads']} thread{'' if about['threads'] == 1 else 's'}"
    return f"{threads} of {about['processor']}, {about['date'][:10]}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
