"""Checkpoints: everything needed to go on as if nothing had happened, in small files that count all at once.

`checkpoint.pt` is an index, a few lines of JSON that name the parts `checkpoint.pt.<generation>.<number>`, their sizes
and their digests; the parts one after the other are the file that `torch.save` would have written. New parts get new
names, and the index is replaced last: until then the old one names the old parts, which are removed only afterwards.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import WeightsError

__all__ = ["PART_BYTES", "load_checkpoint", "random_state", "restore_random_state", "save_checkpoint"]

PART_BYTES = 16_000_000
"""The largest a file of a checkpoint can be, so that small-file stores and transfers take it."""


def random_state() -> dict[str, Any]:
    """States of Python's, numpy's and torch's global generators."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Undo what happened to the generators since `random_state`."""
    random.setstate(state["python"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint: a kill at any moment leaves the old one or the new one, whole.

    Args:
        path: of the index; parts of at most `PART_BYTES` lie beside it.
        state: what `torch.load(weights_only=True)` can read back.
    """
    stream = io.BytesIO()
    torch.save(state, stream)
    content = stream.getbuffer()
    generation = 1 + max((_generation(path, part) for part in _parts_beside(path)), default=0)
    parts = []
    for number, start in enumerate(range(0, len(content), PART_BYTES)):
        piece = content[start : start + PART_BYTES]
        name = f"{path.name}.{generation}.{number}"
        _write(path.with_name(name), piece)
        parts.append({"name": name, "bytes": len(piece), "sha256": hashlib.sha256(piece).hexdigest()})
    partial = path.with_name(path.name + ".partial")
    _write(partial, json.dumps({"parts": parts}, indent=1).encode())
    partial.replace(path)
    _flush_folder(path.parent)  # parts are only removed once the index that does without them is safe
    for part in _parts_beside(path):
        if _generation(path, part) != generation:
            part.unlink(missing_ok=True)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint, of parts or of the one file that earlier versions wrote, without executing anything in it.

    Raises:
        WeightsError: if it, or one of its parts, is missing, cut short or changed.
    """
    try:
        content = _read(path)
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"cannot read checkpoint {path} ({error}); put back all files {path.name}* of it, "
            "or delete them to start afresh"
        ) from error
    return state


def _read(path: Path) -> bytes:
    """The content of a checkpoint, whose index may be replaced meanwhile by a run that goes on."""
    while True:
        index = path.read_bytes()
        if not index.startswith(b"{"):
            return index  # the single file of earlier versions
        try:
            return b"".join(_part(path, entry) for entry in _entries(index))
        except (OSError, ValueError):
            if path.read_bytes() == index:
                raise


def _entries(index: bytes) -> list[dict[str, Any]]:
    parts = json.loads(index).get("parts")
    known = isinstance(parts, list) and all(
        isinstance(entry, dict) and {"name", "bytes", "sha256"} <= set(entry) for entry in parts
    )
    if not known:
        raise ValueError("its index names no parts")
    entries: list[dict[str, Any]] = parts
    return entries


def _part(path: Path, entry: dict[str, Any]) -> bytes:
    part = path.with_name(Path(str(entry["name"])).name)
    if not part.exists():
        raise FileNotFoundError(f"its part {part.name} is missing")
    content = part.read_bytes()
    if len(content) != entry["bytes"] or hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ValueError(f"its part {part.name} is damaged")
    return content


def _parts_beside(path: Path) -> list[Path]:
    return [p for p in path.parent.glob(path.name + ".*") if _generation(path, p) > 0]


def _generation(path: Path, part: Path) -> int:
    """Generation in a part's name, 0 for other files."""
    words = part.name.removeprefix(path.name + ".").split(".")
    return int(words[0]) if len(words) == 2 and all(word.isdecimal() for word in words) else 0


def _write(path: Path, content: bytes | memoryview) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system lets folders be flushed."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
