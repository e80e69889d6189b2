"""FastSAM3D: interactive 3D segmentation of medical scans.

Importing this package loads neither torch nor numpy; names are resolved on first use.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# How torch's threads wait for each other is fixed when torch is loaded, and everything of ours that loads it comes
# through here. By default they spin, which on cores shared with a viewer or another job keeps the very thread they
# wait for from running: a click of 0.3 s then took 3 to 4 s, an encode of 0.6 s 6 s (two cores, two busy processes).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Public name -> module that defines it.
_EXPORTS = {
    "CancelledError": "errors",
    "DeviceError": "errors",
    "FastSAM3DError": "errors",
    "ImageError": "errors",
    "MaskUpdate": "types",
    "OutputError": "errors",
    "PromptError": "errors",
    "RemoteError": "errors",
    "Volume": "types",
    "VoxelBox": "types",
    "WeightsError": "errors",
    "load_model": "weights",
    "open_session": "session",
}

__all__ = [
    "CancelledError",
    "DeviceError",
    "FastSAM3DError",
    "ImageError",
    "MaskUpdate",
    "OutputError",
    "PromptError",
    "RemoteError",
    "Volume",
    "VoxelBox",
    "WeightsError",
    "load_model",
    "open_session",
]

if TYPE_CHECKING:
    from .errors import (
        CancelledError,
        DeviceError,
        FastSAM3DError,
        ImageError,
        OutputError,
        PromptError,
        RemoteError,
        WeightsError,
    )
    from .session import open_session
    from .types import MaskUpdate, Volume, VoxelBox
    from .weights import load_model


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
