"""Model weights: what there is, where to get it, and how to load it without running anything from the file.

Importing this package loads no torch; `load_model` does, on its first call.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..modeling.config import ResidualRule
    from ..modeling.interface import PromptableModel

__all__ = ["load_model"]


def load_model(
    name_or_path: str | Path = "default",
    device: str = "auto",
    *,
    cache_dir: str | Path | None = None,
    residual: ResidualRule | None = None,
    decoder_from: str | Path | None = None,
) -> PromptableModel:
    """A network with its weights, in eval mode, float32, on a device that was proved to work.

    Args:
        name_or_path: a name of the manifest (`default`, `fastsam3d`, `sam-med3d-turbo`), a name given at import,
            or a `.safetensors`, `.pth` or `.pt` file in any published layout.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps"; see `devices.choose_device`.
        cache_dir: where imported weights are; by default FASTSAM3D_CACHE or the system's cache folder.
        residual: override of the residual rule ("pre" or "normed"), which no file states; by default chosen by
            architecture.
        decoder_from: for a file that holds only an image encoder: a full model of the same width to take the
            prompt encoder and the decoder from.

    Raises:
        WeightsError: unknown name, missing, damaged, unsafe or incomplete file, or other names and shapes than
            the network's; the message names the first five.
        DeviceError: the device asked for is not there or too small.
    """
    from .loading import load_model as load

    return load(name_or_path, device, cache_dir=cache_dir, residual=residual, decoder_from=decoder_from)
