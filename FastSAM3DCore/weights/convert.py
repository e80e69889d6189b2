"""Write weights as safetensors: only tensors and strings, mapped instead of unpickled."""

from __future__ import annotations

from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from ..errors import OutputError, WeightsError
from ..modeling.build import build_sam3d
from ..modeling.config import ResidualRule
from ..modeling.hires import load_hires
from .checkpoint import read_checkpoint, read_metadata
from .files import atomic_target
from .loading import HIRES, checked_config, with_decoder

__all__ = ["architecture_of", "convert_weights"]


def convert_weights(
    source: Path,
    target: Path,
    *,
    half: bool = False,
    residual: ResidualRule | None = None,
    decoder_from: Path | None = None,
    extra: dict[str, str] | None = None,
) -> str:
    """Write a full model as safetensors, after checking that it fits its network strictly.

    Args:
        source: any layout that `read_checkpoint` takes.
        target: a `.safetensors` path; written atomically.
        half: store float16 (half the size; loading gives float32 again).
        residual: residual rule to store; by default the stored one, else chosen by architecture.
        decoder_from: full model to complete an encoder-only source with.
        extra: further strings to store.

    Returns:
        The architecture: "fastsam3d-hires", "fastsam3d" or "sam-med3d".

    Raises:
        WeightsError: the source is unusable or does not fit its network, or its numbers are not finite in the type
            asked for.
        OutputError: the target cannot be written; nothing is left behind.
    """
    if target.suffix != ".safetensors":
        raise OutputError(f"{target.name}: converted weights are safetensors files; let the name end in .safetensors.")
    metadata = read_metadata(source)
    if metadata.get("arch") == HIRES:
        architecture, state = HIRES, dict(load_hires(source).state_dict())
    else:
        checkpoint = read_checkpoint(source)
        if decoder_from is not None:
            checkpoint = with_decoder(checkpoint, read_checkpoint(decoder_from))
        config = checked_config(checkpoint, source.name, residual)
        state = dict(build_sam3d(config, checkpoint.state).state_dict())
        architecture = architecture_of(skip_blocks=config.skip_blocks)
        metadata = {"arch": architecture, "residual": config.residual}
    metadata = {"format": "pt", **metadata, **(extra or {})}
    save_atomically(to_type(state, torch.float16 if half else torch.float32), target, metadata)
    return architecture


def architecture_of(*, skip_blocks: int) -> str:
    """The manifest's word for a published network."""
    return "fastsam3d" if skip_blocks else "sam-med3d"


def to_type(state: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors in one type, packed.

    Raises:
        WeightsError: a number is not finite in it.
    """
    converted = {}
    for name, tensor in state.items():
        converted[name] = tensor.detach().to(dtype).contiguous()
        if not bool(converted[name].isfinite().all()):
            advice = "convert without --half" if bool(tensor.isfinite().all()) else "the file is damaged; get it again"
            raise WeightsError(f"{name} holds numbers that are not finite as {dtype}; {advice}.")
    return converted


def save_atomically(state: dict[str, Tensor], target: Path, metadata: dict[str, str]) -> None:
    with atomic_target(target) as temporary:
        try:
            save_file(state, temporary, metadata)
        except safetensors.SafetensorError as error:
            raise OutputError(
                f"{target} cannot be written ({error}); free some space or choose another place."
            ) from error
