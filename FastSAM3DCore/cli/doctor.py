"""fastsam3d doctor: what this machine has, proved where it can be, and what to do about what it lacks."""

from __future__ import annotations

import json
import os
import platform
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from .. import __version__
from ..extras import EXTRAS, how_to_install
from .feedback import working

__all__ = ["Finding", "State", "doctor", "examine"]

GIB = 2**30
LEAST_MEMORY_GIB, LEAST_DISK_GIB = 4.0, 1.0


class State(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"  # something optional is missing, or slow
    PROBLEM = "problem"  # the product cannot work like this


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `advice` says what to do and is empty when there is nothing to do."""

    what: str
    state: State
    detail: str
    advice: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder of imported weights; default FASTSAM3D_CACHE.")
    ] = None,
) -> None:
    """Check this machine: devices (each runs a kernel), memory, weights, disk, optional parts.

    Exit code 0 if the product can work, 1 if not.
    """
    with working("Examining this machine"):
        findings = list(examine(cache))
    works = all(finding.state is not State.PROBLEM for finding in findings)
    if as_json:
        typer.echo(json.dumps({"works": works, "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        _print(findings)
    raise typer.Exit(0 if works else 1)


def _print(findings: list[Finding]) -> None:
    marks = {State.OK: "[green]ok[/]", State.NOTE: "[yellow]note[/]", State.PROBLEM: "[red]problem[/]"}
    table = Table(box=None, show_header=False, padding=(0, 1))
    for finding in findings:
        text = finding.detail + (f" -> {finding.advice}" if finding.advice else "")
        table.add_row(marks[finding.state], finding.what, text.replace("[", "\\["))
    Console().print(table)


def examine(cache: Path | None = None) -> Iterator[Finding]:
    """All findings, in the order of the report."""
    yield Finding(
        "version", State.OK, f"fastsam3d {__version__}, Python {platform.python_version()}, {platform.platform()}"
    )
    yield from _devices()
    yield _memory()
    yield _weights(cache)
    yield from _storage(cache)
    yield from _extras()


def _devices() -> Iterator[Finding]:
    try:
        import torch

        from ..devices import describe_devices
    except (ImportError, OSError) as error:  # OSError: a shared library of torch does not load
        advice = "install it again: pip install --force-reinstall torch"
        yield Finding("torch", State.PROBLEM, f"cannot be loaded ({error})", advice)
        return
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} processors"
    yield Finding("torch", State.OK, f"{torch.__version__}, {threads}")
    for report in describe_devices():
        if report.usable:
            yield Finding(report.name, State.OK, report.description)
        else:
            state = State.PROBLEM if report.name == "cpu" else State.NOTE
            yield Finding(report.name, state, report.description, report.advice)


def _memory() -> Finding:
    total = _total_memory_gib()
    if total is None:
        return Finding("memory", State.NOTE, "size unknown on this system")
    if total < LEAST_MEMORY_GIB:
        advice = f"large CT scans need up to 3 GB for this program alone; {LEAST_MEMORY_GIB:g} GB are advised"
        return Finding("memory", State.NOTE, f"{total:.1f} GB", advice)
    return Finding("memory", State.OK, f"{total:.1f} GB")


def _total_memory_gib() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _weights(cache: Path | None) -> Finding:
    from ..errors import FastSAM3DError
    from ..weights.cache import WeightsCache, cache_folder
    from ..weights.verify import verify_weights

    advice = "or give --model a weights file"
    try:
        found = verify_weights(WeightsCache(cache_folder(cache)), ["default"])
    except FastSAM3DError as error:
        return Finding("default weights", State.PROBLEM, str(error), advice)
    if any(entry.ok is False for entry in found) or not found:
        return Finding("default weights", State.PROBLEM, "; ".join(e.detail for e in found) or "missing", advice)
    return Finding("default weights", State.OK, "; ".join(entry.detail for entry in found))


def _storage(cache: Path | None) -> Iterator[Finding]:
    from ..weights.cache import cache_folder

    folder = cache_folder(cache)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    probe = existing / f".{uuid.uuid4().hex[:12]}.tmp"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        advice = "set FASTSAM3D_CACHE to a folder that can be written; needed only for downloads"
        yield Finding("cache", State.NOTE, f"{folder} cannot be written ({error.strerror})", advice)
    else:
        yield Finding("cache", State.OK, str(folder))
    free = shutil.disk_usage(existing).free / GIB
    enough = free >= LEAST_DISK_GIB
    yield Finding(
        "disk", State.OK if enough else State.NOTE, f"{free:.1f} GB free", "" if enough else "free some space"
    )


def _extras() -> Iterator[Finding]:
    for extra, modules in EXTRAS.items():
        if find_spec(modules[0]):
            yield Finding(extra, State.OK, "installed")
        else:
            yield Finding(extra, State.NOTE, "not installed (optional)", how_to_install(extra))
