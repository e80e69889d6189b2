"""What a process that has just started needs: run as `python -m FastSAM3DCore.bench.fresh`, prints one line of JSON.

In a process of its own, because start-up, first calls and peak memory cannot be measured in one that has done more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypedDict

from ..errors import FastSAM3DError

if TYPE_CHECKING:
    from .end_to_end import Reopened

__all__ = ["FreshStart", "fresh_start", "run_module"]


class FreshStart(TypedDict):
    """Milliseconds and megabytes of a new process that opens a scan and clicks; None where it is not known.

    `import_ms` torch and the product; `load_ms` the bundled weights, memory-mapped; `trained_weights` whether
    they were there; `scan` an `EndToEnd` as a dict; `reopened` as the class of that name, None unless asked
    for; `base_mb` resident memory with torch imported and nothing done; `scan_mb` the scan's voxels; `held_mb`
    resident memory after the clicks of `scan`; `peak_mb` its largest value until then, everything included (on
    CUDA the device memory that torch reserved).
    """

    import_ms: float
    load_ms: float
    trained_weights: bool
    scan: dict[str, Any]
    reopened: Reopened | None
    base_mb: float | None
    scan_mb: float
    held_mb: float | None
    peak_mb: float | None


def fresh_start(
    device: str,
    scan: tuple[int, int, int] = (512, 512, 400),
    clicks: int = 12,
    *,
    threads: int | None = None,
    dtype: str | None = None,
    spacing_mm: float = 0.8,
    reopened: bool = False,
) -> FreshStart:
    """Start a process that loads the default network, opens a made-up abdomen and clicks an organ in it.

    Args:
        device: as torch names it.
        scan: voxels along i, j, k.
        clicks: after the first.
        threads: of the CPU; torch decides if None.
        dtype: what to compute in, as torch names it; the device's fastest if None.
        spacing_mm: voxel size of the scan.
        reopened: measure first clicks on the scan taken in anew, too.

    Raises:
        FastSAM3DError: the process failed; its last line says how.
    """
    wanted = {"device": device, "scan": scan, "clicks": clicks, "threads": threads, "dtype": dtype}
    wanted |= {"spacing_mm": spacing_mm, "reopened": reopened}
    result: FreshStart = run_module("FastSAM3DCore.bench.fresh", wanted)
    return result


def run_module(module: str, wanted: dict[str, Any], *, folder: Path | None = None) -> Any:
    """Run `python -m module '{...}'` in a process of its own and read the JSON on its last line.

    Args:
        module: importable from the folder that holds FastSAM3DCore.
        wanted: what the module is to do; its only argument, as JSON.
        folder: another folder to import from.

    Raises:
        FastSAM3DError: the process failed; its last line says how.
    """
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, str(folder or ""), os.environ.get("PYTHONPATH", ""))))
    command = [sys.executable, "-m", module, json.dumps(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]
        raise FastSAM3DError(f"A fresh process could not be measured: {reason}. Run `fastsam3d doctor`.")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _measure(wanted: dict[str, Any]) -> FreshStart:
    start = perf_counter()
    import torch

    if wanted["threads"] is not None:
        torch.set_num_threads(wanted["threads"])
    from dataclasses import asdict

    from ..engine import Engine
    from ..session import LocalSession
    from .end_to_end import click_session, reopen
    from .memory import peak_resident_mb, resident_mb
    from .networks import default_network
    from .phantom import abdomen

    device = torch.device(wanted["device"])
    imported = perf_counter()
    base = resident_mb()
    model, trained = default_network(device)
    loaded = perf_counter()
    volume, organ = abdomen(tuple(wanted["scan"]), wanted["spacing_mm"])
    session = LocalSession(Engine(model, device, dtype=wanted["dtype"] and getattr(torch, wanted["dtype"])))
    figures = click_session(session, volume, organ, wanted["clicks"])
    peak = torch.cuda.max_memory_reserved(device) / 2**20 if device.type == "cuda" else peak_resident_mb()
    held = resident_mb()
    return {
        "import_ms": 1000 * (imported - start),
        "load_ms": 1000 * (loaded - imported),
        "trained_weights": trained,
        "scan": asdict(figures),
        "reopened": reopen(session, volume, organ) if wanted["reopened"] else None,
        "base_mb": base,
        "scan_mb": volume.array_kji.nbytes / 2**20,
        "held_mb": held,
        "peak_mb": peak,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(json.loads(sys.argv[1]))) + "\n")
