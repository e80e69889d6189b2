"""Average weights of related runs: one network, better on unseen scans than each of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from ..errors import WeightsError
from ..modeling.hires import load_hires
from .checkpoint import read_metadata
from .convert import save_atomically, to_type
from .loading import HIRES

__all__ = ["average_weights"]


def average_weights(shares: Mapping[Path, float], target: Path) -> None:
    """Write the weighted mean of networks that went on from one another (model soups, Wortsman et al., ICML 2022).

    Args:
        shares: safetensors of the own family, with positive shares of any sum; the first one's metadata is kept.
        target: a `.safetensors` path; float16, written atomically.

    Raises:
        WeightsError: fewer than two files, a share that is not positive, networks that differ, or a damaged one.
        OutputError: the target cannot be written; nothing is left behind.
    """
    if len(shares) < 2 or not all(0 < share < float("inf") for share in shares.values()):
        raise WeightsError("Averaging takes two files or more, each with a share above zero.")
    total = sum(shares.values())
    mean: dict[str, torch.Tensor] = {}
    first: dict[str, str] = {}
    for path, share in shares.items():
        metadata = read_metadata(path)
        if metadata.get("arch") != HIRES or (first and metadata.get("config") != first.get("config")):
            raise WeightsError(f"{path.name} is not of the same network; only runs of one network can be averaged.")
        first = first or metadata
        for name, tensor in load_hires(path).state_dict().items():
            part = tensor.double() * (share / total)
            mean[name] = mean[name] + part if name in mean else part
    parts = " + ".join(f"{share / total:.3g} {path.stem}" for path, share in shares.items())
    save_atomically(to_type(mean, torch.float16), target, {"format": "pt", **first, "averaged": parts})
