"""From a name or a file to a network that answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ..devices import choose_device
from ..errors import DeviceError, WeightsError
from ..modeling.build import build_encoder, build_sam3d, config_from_shapes, shapes_of
from ..modeling.config import ResidualRule, Sam3DConfig
from ..modeling.image_encoder import ImageEncoder3d
from ..modeling.interface import PromptableModel
from .cache import WeightsCache, cache_folder
from .checkpoint import ENCODER, Checkpoint, read_checkpoint, read_metadata
from .files import WEIGHT_SUFFIXES
from .manifest import load_manifest

__all__ = ["HIRES", "checked_config", "find_weights", "load_encoder", "load_model", "with_decoder"]

HIRES = "fastsam3d-hires"
RESIDUAL_RULES: tuple[ResidualRule, ...] = ("pre", "normed")


def load_model(
    name_or_path: str | Path = "default",
    device: str = "auto",
    *,
    cache_dir: str | Path | None = None,
    residual: ResidualRule | None = None,
    decoder_from: str | Path | None = None,
) -> PromptableModel:
    """See `FastSAM3DCore.weights.load_model`."""
    path = find_weights(name_or_path, cache_dir)
    chosen = choose_device(str(device)).device
    try:
        if read_metadata(path).get("arch") == HIRES:
            from ..modeling.hires import load_hires

            return load_hires(path, chosen)
        checkpoint = read_checkpoint(path)
        if decoder_from is not None:
            checkpoint = with_decoder(checkpoint, read_checkpoint(find_weights(decoder_from, cache_dir)))
        name = str(name_or_path) if str(name_or_path) in load_manifest() else path.stem
        config = checked_config(checkpoint, path.name, residual, name=name)
        return build_sam3d(config, checkpoint.state).to(chosen)
    except torch.OutOfMemoryError as error:
        raise DeviceError(f"The model {name_or_path} does not fit into the memory of {chosen}; use cpu.") from error


def load_encoder(path: str | Path, *, residual: ResidualRule | None = None) -> ImageEncoder3d:
    """The image encoder of a full model or of an encoder-only file, in eval mode on the CPU; for distillation.

    Raises:
        WeightsError: as `load_model`.
    """
    found = find_weights(path, None)
    checkpoint = read_checkpoint(found)
    if not checkpoint.state.keys() & {ENCODER + "pos_embed"}:
        raise WeightsError(f"{found} holds no image encoder of this family.")
    config = config_from_shapes(shapes_of(checkpoint.state), residual_rule(checkpoint, residual))
    encoder = {n.removeprefix(ENCODER): tensor for n, tensor in checkpoint.state.items() if n.startswith(ENCODER)}
    return build_encoder(replace(config, name=found.stem), encoder)


def find_weights(name_or_path: str | Path, cache_dir: str | Path | None) -> Path:
    """The file behind a model's name, or the path itself.

    Raises:
        WeightsError: unknown name, or a model that has not been imported yet; the message says how to.
    """
    name = str(name_or_path)
    entry = load_manifest().get(name)
    if entry is not None and (bundled := entry.bundled_path) is not None:
        return bundled
    path = Path(name).expanduser()
    looks_like_path = isinstance(name_or_path, Path) or path.suffix in WEIGHT_SUFFIXES or path.is_file()
    if entry is None and looks_like_path:
        return path
    cache = WeightsCache(cache_folder(cache_dir))
    if entry is not None or name in cache.records():
        cached = cache.path_of(name)
        if cached.is_file():
            return cached
        raise WeightsError(
            f"The model {name!r} is not on this machine yet; run 'fastsam3d weights download {name}' "
            f"or 'fastsam3d weights import FILE'."
        )
    raise WeightsError(
        f"Unknown model {name!r}; known are {', '.join(load_manifest())}, or give a .safetensors or .pth file."
    )


def with_decoder(encoder: Checkpoint, full: Checkpoint) -> Checkpoint:
    """An encoder with the prompt encoder and decoder of another model.

    Raises:
        WeightsError: the other model has none.
    """
    if full.is_encoder_only:
        raise WeightsError("The file to take the decoder from holds only an image encoder too; give a full model.")
    others = {name: tensor for name, tensor in full.state.items() if not name.startswith(ENCODER)}
    mine = {name: tensor for name, tensor in encoder.state.items() if name.startswith(ENCODER)}
    return Checkpoint({**mine, **others}, encoder.metadata)


def checked_config(
    checkpoint: Checkpoint, file_name: str, residual: ResidualRule | None = None, *, name: str | None = None
) -> Sam3DConfig:
    """The sizes of the network in a file; `build_sam3d` then checks every name and shape.

    Raises:
        WeightsError: only an encoder, or not this family.
    """
    if checkpoint.is_encoder_only:
        raise WeightsError(
            f"{file_name} holds only an image encoder and lacks prompt encoder and decoder; choose a full model, or "
            "convert it with --decoder-from a full model of the same width."
        )
    config = config_from_shapes(shapes_of(checkpoint.state), residual_rule(checkpoint, residual))
    return config if name is None else replace(config, name=name)


def residual_rule(checkpoint: Checkpoint, override: ResidualRule | None) -> ResidualRule | None:
    """The caller's residual rule, else the one stored at conversion, else None: chosen by architecture."""
    stored = checkpoint.metadata.get("residual")
    return override or next((known for known in RESIDUAL_RULES if known == stored), None)
