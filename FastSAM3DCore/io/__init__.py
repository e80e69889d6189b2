"""Scans, label maps and segmentations on disk. Importing this package loads SimpleITK on first use only."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_EXPORTS = {
    "Segment": "segmentation",
    "StoredSegmentation": "seeds",
    "atomic_path": "atomic",
    "check_writable": "atomic",
    "hidden_native_output": "native",
    "load_labels": "images",
    "load_segmentation": "seeds",
    "load_volume": "images",
    "mask_on_grid": "seeds",
    "save_segmentation": "segmentation",
    "seed_mask": "seeds",
    "write_text": "atomic",
}

__all__ = [
    "Segment",
    "StoredSegmentation",
    "atomic_path",
    "check_writable",
    "hidden_native_output",
    "load_labels",
    "load_segmentation",
    "load_volume",
    "mask_on_grid",
    "save_segmentation",
    "seed_mask",
    "write_text",
]

if TYPE_CHECKING:
    from .atomic import atomic_path, check_writable, write_text
    from .images import load_labels, load_volume
    from .native import hidden_native_output
    from .seeds import StoredSegmentation, load_segmentation, mask_on_grid, seed_mask
    from .segmentation import Segment, save_segmentation


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{module}", __name__), name)
