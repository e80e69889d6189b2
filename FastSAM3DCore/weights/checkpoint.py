"""Read a weights file of any published layout, without executing anything from it.

A `.pth` file is a pickle, and unpickling runs what the pickle names. Only torch's restricted unpickler is used,
with three harmless classes allowed in addition, because the published FastSAM3D checkpoint contains them:
`argparse.Namespace` (training arguments), `collections.Counter` (scheduler state) and `torch.device`.
"""

from __future__ import annotations

import argparse
import collections
import pickle
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from ..errors import WeightsError

__all__ = ["Checkpoint", "read_checkpoint", "read_metadata"]

HARMLESS = (argparse.Namespace, collections.Counter, torch.device)
NESTING = ("model_state_dict", "model", "state_dict")
WRAPPER = "module."
ENCODER = "image_encoder."
ENCODER_ONLY_MARK = "patch_embed.proj.weight"

# What torch and zipfile raise on damaged files, seen when flipping and cutting bytes of real ones.
DAMAGE = (
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights by published name, and the strings stored with them.

    Attributes:
        state: names as in `Sam3D.state_dict()`.
        metadata: of a safetensors file; empty for pickles.
    """

    state: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def is_encoder_only(self) -> bool:
        """Whether the file holds an image encoder and nothing else."""
        return bool(self.state) and all(name.startswith(ENCODER) for name in self.state)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read weights, unwrapped from whatever surrounds them.

    Accepts safetensors and torch files: full models, encoders alone (with or without the `image_encoder.`
    prefix), bare or under `model_state_dict`, `model` or `state_dict`, with or without `module.`.

    Raises:
        WeightsError: missing, unreadable, damaged, unsafe, or no weights inside.
    """
    metadata: dict[str, str] = {}
    kind = kind_of_file(path)
    if kind == "safetensors":
        state, metadata = read_safetensors(path)
    else:
        state = find_state(read_pickle(path, mapped=kind == "zip"), path)
    while state and all(name.startswith(WRAPPER) for name in state):
        state = {name.removeprefix(WRAPPER): tensor for name, tensor in state.items()}
    if ENCODER_ONLY_MARK in state:
        state = {ENCODER + name: tensor for name, tensor in state.items()}
    for name, tensor in state.items():
        if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
            raise WeightsError(f"{path.name}: {name} is not a plain array of real numbers; this is no weights file.")
    return Checkpoint(state, metadata)


def read_metadata(path: Path) -> dict[str, str]:
    """The strings stored with a safetensors file, without reading its weights; empty for other files.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    if kind_of_file(path) != "safetensors":
        return {}
    try:
        with safetensors.safe_open(path, framework="pt") as archive:
            return dict(archive.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise damaged(path, error) from error


def kind_of_file(path: Path) -> str:
    """ "zip" (torch), "pickle" (old torch) or "safetensors", by content.

    Raises:
        WeightsError: missing, empty, or none of them.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise WeightsError(f"{path} cannot be read ({reason}); check the path.") from error
    if not head:
        raise WeightsError(f"{path} is empty; download it again.")
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    # Ahead of the pickles, since a header's length may start with their first byte. No pickled weights pass for a
    # header: where its length has zeros and its text a brace, they have torch's magic number or opcodes.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**31:
        return "safetensors"
    if head.startswith(b"\x80"):
        return "pickle"
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a Git LFS pointer, not the weights; fetch the real file (git lfs pull).")
    if head.lstrip().startswith(b"<"):
        raise WeightsError(f"{path} is a web page, not weights; a login or proxy page was saved instead of the file.")
    raise WeightsError(f"{path} is neither a torch nor a safetensors file; choose a .pth, .pt or .safetensors file.")


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as archive:
            names = list(archive.keys())
            return {name: archive.get_tensor(name) for name in names}, dict(archive.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise damaged(path, error) from error


def read_pickle(path: Path, *, mapped: bool) -> Any:
    """Unpickle under torch's restrictions; nothing outside a short list of classes is looked up.

    Args:
        mapped: map the file instead of reading it: optimiser state, twice the weights, is then never loaded.
    """
    try:
        with torch.serialization.safe_globals(list(HARMLESS)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error)) or re.search(r"Trying to \w+ ([\w.]+)", str(error))
        what = f"it refers to {named[1]}" if named else "its contents are not only weights"
        raise WeightsError(
            f"{path} was refused: {what}. Nothing in it was run. Use a file from a source you trust, "
            "saved as weights only."
        ) from error
    except (OSError, *DAMAGE) as error:
        raise damaged(path, error) from error


def find_state(content: Any, path: Path) -> dict[str, Tensor]:
    """The mapping from names to tensors inside whatever was pickled."""
    for _ in range(len(NESTING) + 1):
        if not isinstance(content, Mapping):
            break
        if content and all(isinstance(name, str) and isinstance(t, Tensor) for name, t in content.items()):
            return {name: tensor.detach() for name, tensor in content.items()}
        content = next((content[key] for key in NESTING if isinstance(content.get(key), Mapping)), None)
    raise WeightsError(
        f"{path} holds no weights: neither a state dict nor one under {', '.join(NESTING)}. "
        "Choose a checkpoint of a SAM-Med3D or FastSAM3D network."
    )


def damaged(path: Path, error: BaseException) -> WeightsError:
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]
    return WeightsError(f"{path} is damaged or cut short ({line.rstrip('.')}); get it again.")
