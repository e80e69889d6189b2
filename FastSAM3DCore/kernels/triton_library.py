"""Load Triton so that it can live beside software OpenGL."""

from __future__ import annotations

import importlib.util
import os
import sys
from functools import lru_cache

__all__ = ["load_triton"]


@lru_cache(maxsize=1)  # asked at every call of the attention
def load_triton() -> bool:
    """Import Triton if it is installed; True if it is there.

    Mesa's software renderer and Triton each bring an LLVM. Where views were rendered first, a plain `import triton`
    binds to Mesa's and crashes the process; with RTLD_DEEPBIND it binds to its own. Call this ahead of anything that
    may import Triton: the kernels, and whatever makes torch import its compiler.
    """
    if "triton" in sys.modules:
        return True
    if importlib.util.find_spec("triton") is None:
        return False
    before = sys.getdlopenflags() if hasattr(sys, "getdlopenflags") else 0
    deep = getattr(os, "RTLD_DEEPBIND", 0)  # glibc alone has it
    if deep:
        sys.setdlopenflags(before | deep)
    try:
        # The library itself, not just the package, so that no later import finds it unbound.
        importlib.import_module("triton._C.libtriton")
    except ImportError:
        return False
    finally:
        if deep:
            sys.setdlopenflags(before)
    return True
