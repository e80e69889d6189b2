"""Which weights a session answers with: name and digest, to be stored with what they made."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ..types import ModelIdentity
from .files import sha256_of
from .loading import find_weights

__all__ = ["identify"]


def identify(name_or_path: str | Path = "default") -> ModelIdentity:
    """Name and SHA-256 of the weights that `load_model` loads.

    The file itself is hashed, once per process (6 MB: 10 ms; 640 MB: about a second), not the manifest believed:
    the digest must say what answered even after a file was replaced.

    Args:
        name_or_path: as in `load_model`.

    Raises:
        WeightsError: as `load_model`.
    """
    path = find_weights(name_or_path, None)
    state = path.stat()
    name = path.name if isinstance(name_or_path, Path) or Path(name_or_path).is_file() else str(name_or_path)
    return ModelIdentity(name, _digest(path, state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=32)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    """SHA-256 of a file; size and time of change are there to miss the cache after a change."""
    del size, mtime_ns
    return sha256_of(path)
