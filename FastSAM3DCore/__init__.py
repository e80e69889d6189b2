"""FastSAM3D: interactive 3D segmentation of medical scans.

Importing this package loads neither torch nor numpy; names are resolved on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

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
