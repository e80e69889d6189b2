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
from typing import TypedDict

from ..errors import FastSAM3DError

__all__ = ["FreshStart", "fresh_start"]


class FreshStart(TypedDict):
    """Milliseconds and megabytes of a new process with the default network; None where it is not known.

    `import_ms` torch and the product; `load_ms` the weights; `first_encode_ms`, `first_click_ms` the first calls;
    `base_mb` resident memory with torch imported; `peak_mb` its largest value, everything included (on CUDA the
    device memory that torch reserved).
    """

    import_ms: float
    load_ms: float
    first_encode_ms: float
    first_click_ms: float
    base_mb: float | None
    peak_mb: float | None


def fresh_start(device: str, size: int = 128) -> FreshStart:
    """Start a process that loads the default network, encodes a crop of size^3 and answers a click.

    Raises:
        FastSAM3DError: the process failed; its last line says how.
    """
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
    command = [sys.executable, "-m", "FastSAM3DCore.bench.fresh", device, str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise FastSAM3DError(f"A fresh process could not be measured: {reason}. Run `fastsam3d doctor`.")
    result: FreshStart = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _measure(device_name: str, size: int) -> FreshStart:
    start = perf_counter()
    import torch

    from .memory import peak_resident_mb, resident_mb
    from .networks import Clicked, Runner, default_network
    from .timing import synchronise

    device = torch.device(device_name)
    imported = perf_counter()
    base = resident_mb()
    model, _ = default_network(device)
    loaded = perf_counter()
    runner = Runner(model, device)
    embedding = runner.encode(torch.randn(1, 1, size, size, size))
    synchronise(device)
    encoded = perf_counter()
    runner.decode(embedding, Clicked.on(size, size // model.traits.mask_stride, device))
    synchronise(device)
    clicked = perf_counter()
    cuda = device.type == "cuda"
    return {
        "import_ms": 1000 * (imported - start),
        "load_ms": 1000 * (loaded - imported),
        "first_encode_ms": 1000 * (encoded - loaded),
        "first_click_ms": 1000 * (clicked - encoded),
        "base_mb": base,
        "peak_mb": torch.cuda.max_memory_reserved(device) / 2**20 if cuda else peak_resident_mb(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(sys.argv[1], int(sys.argv[2]))) + "\n")
