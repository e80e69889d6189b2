"""Peak memory, measured where it is used: allocator statistics on CUDA, the kernel's high-water mark on the CPU."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .timing import synchronise

__all__ = ["available_mb", "peak_growth_mb", "peak_resident_mb", "resident_mb", "settle_memory"]

MEBIBYTE = 2**20
M_MMAP_THRESHOLD = -3  # mallopt(3)
RETURNED_AT_ONCE = 64 * 1024


def peak_growth_mb(call: Callable[[], Any], device: torch.device) -> float | None:
    """How much memory a call needs beyond what is there before it, results included; None where nobody tells.

    On the CPU large blocks are returned to the system as soon as they are freed from the first call on (glibc), so
    that memory left from earlier calls does not hide what this one needs. That makes later timings of this process
    a little slower: time first.
    """
    gc.collect()
    if device.type == "cuda":
        synchronise(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        synchronise(device)
        return float(torch.cuda.max_memory_allocated(device) - before) / MEBIBYTE
    if device.type != "cpu" or not _return_memory_at_once():
        return None
    before_mb = resident_mb()
    if before_mb is None or not _restart_high_water():
        return None
    call()
    peak = peak_resident_mb()
    return None if peak is None else max(0.0, peak - before_mb)


def resident_mb() -> float | None:
    """Memory of this process now, on Linux."""
    return _status("VmRSS")


def peak_resident_mb() -> float | None:
    """Largest memory of this process so far, on Linux."""
    return _status("VmHWM")


def available_mb() -> float | None:
    """Memory that programs can still take without swapping, on Linux."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else None


def settle_memory() -> bool:
    """Give what was freed back to the system (glibc), so that resident memory is what is held; whether that worked."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim"):
        return False
    library.malloc_trim(0)
    return True


def _status(field: str) -> float | None:
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else None


def _restart_high_water() -> bool:
    """Let the high-water mark start from the present; whether that worked."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    peak, now = peak_resident_mb(), resident_mb()
    return peak is not None and now is not None and peak - now < 16


def _return_memory_at_once() -> bool:
    """Make glibc map large blocks one by one and give the rest back; False where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        return False
    done = bool(library.mallopt(M_MMAP_THRESHOLD, RETURNED_AT_ONCE))
    library.malloc_trim(0)
    return done
