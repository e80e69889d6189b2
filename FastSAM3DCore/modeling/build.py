"""Read a network's sizes from the shapes in its state dict, and build it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import WeightsError
from ..kernels.triton_library import load_triton
from .config import STUDENT, TEACHER, ResidualRule, Sam3DConfig
from .image_encoder import ImageEncoder3d
from .sam3d import Sam3D

__all__ = ["build_encoder", "build_sam3d", "config_from_shapes", "key_differences", "shapes_of"]

Module = TypeVar("Module", bound=nn.Module)
Shape = tuple[int, ...]
NAMED_DIFFERENCES = 5


def build_sam3d(config: Sam3DConfig, state: Mapping[str, Tensor] | None = None) -> Sam3D:
    """A network in eval mode, with random weights or with those of `state`.

    Args:
        config: sizes.
        state: weights by name, of any floating type; copied as float32.

    Raises:
        WeightsError: names or shapes differ; the message names the first five.
    """
    return Sam3D(config).eval() if state is None else with_weights(Sam3D, config, state)


def build_encoder(config: Sam3DConfig, state: Mapping[str, Tensor]) -> ImageEncoder3d:
    """The image encoder alone, with weights named as inside it (`patch_embed.proj.weight`, ...); eval mode.

    Raises:
        WeightsError: as `build_sam3d`.
    """
    return with_weights(ImageEncoder3d, config, state)


def with_weights(make: Callable[[Sam3DConfig], Module], config: Sam3DConfig, state: Mapping[str, Tensor]) -> Module:
    """Build without initialising, check strictly, then copy."""
    load_triton()  # initialising on "meta" makes torch import its compiler, and that imports Triton
    with torch.device("meta"):  # no time lost on random numbers that are overwritten at once
        model = make(config)
    differences = key_differences(shapes_of(model.state_dict()), shapes_of(state))
    if differences:
        shown = "; ".join(differences[:NAMED_DIFFERENCES])
        more = f"; and {len(differences) - NAMED_DIFFERENCES} more" if len(differences) > NAMED_DIFFERENCES else ""
        raise WeightsError(f"The weights do not fit the network {config.name!r}: {shown}{more}.")
    model.to_empty(device="cpu")
    model.load_state_dict(dict(state), strict=True)
    return model.eval()


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, Shape]:
    """The shape of every tensor, by name."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def key_differences(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> list[str]:
    """What keeps a strict load from succeeding, in the network's order, then what it does not know."""
    differences = []
    for name, shape in expected.items():
        if name not in found:
            differences.append(f"{name} is missing")
        elif found[name] != shape:
            differences.append(f"{name} has shape {found[name]}, not {shape}")
    return differences + [f"{name} is unknown" for name in found if name not in expected]


def config_from_shapes(shapes: Mapping[str, Shape], residual: ResidualRule | None = None) -> Sam3DConfig:
    """The sizes of the network that a state dict belongs to; without a decoder inside, its published sizes.

    Width, depth, skipped blocks, heads and windows are in the shapes. The residual rule is not: it is chosen by
    architecture (six layers or skipped blocks: "normed", as all FastSAM3D students; otherwise "pre", as SAM-Med3D)
    unless given.

    Raises:
        WeightsError: not a network of this family.
    """
    pos = shape_of(shapes, "image_encoder.pos_embed", 5)
    patch = shape_of(shapes, "image_encoder.patch_embed.proj.weight", 5)
    grid, dim = pos[1], pos[-1]
    blocks = {int(m[1]) for name in shapes if (m := re.match(r"image_encoder\.blocks\.(\d+)\.", name))}
    attentions = attention_tables(shapes, blocks)
    depth = max(blocks, default=-1) + 1
    skip = min(attentions, default=depth)
    head_dim = next(iter(attentions.values()), (0, dim))[1]
    if depth == 0 or head_dim == 0 or dim % head_dim:
        raise not_this_family("no usable image_encoder.blocks.*")
    sizes = {block: (length + 1) // 2 for block, (length, _) in attentions.items()}
    windows = {size for size in sizes.values() if size != grid}
    if len(windows) > 1:
        raise not_this_family(f"windows of {sorted(windows)} tokens in one network")
    base = STUDENT if skip else TEACHER
    return replace(
        base,
        image_size=grid * patch[-1],
        patch_size=patch[-1],
        dim=dim,
        depth=depth,
        heads=dim // head_dim,
        mlp_dim=shape_of(shapes, f"image_encoder.blocks.{depth - 1}.mlp.lin1.weight", 2)[0],
        window=windows.pop() if windows else 0,
        global_attention=tuple(sorted(block - skip for block, size in sizes.items() if size == grid)),
        skip_blocks=skip,
        residual=residual or ("normed" if skip or depth == STUDENT.depth else "pre"),
        neck_dim=shape_of(shapes, "image_encoder.neck.0.weight", 5)[0],
        decoder_mlp_dim=shapes.get("mask_decoder.transformer.layers.0.mlp.lin1.weight", (base.decoder_mlp_dim,))[0],
        iou_hidden_dim=shapes.get("mask_decoder.iou_prediction_head.layers.0.weight", (base.iou_hidden_dim,))[0],
    )


def attention_tables(shapes: Mapping[str, Shape], blocks: set[int]) -> dict[int, Shape]:
    """The shape of the relative-position table of every block that has attention."""
    names = {block: f"image_encoder.blocks.{block}.attn.rel_pos_d" for block in sorted(blocks)}
    return {block: shape_of(shapes, name, 2) for block, name in names.items() if name in shapes}


def shape_of(shapes: Mapping[str, Shape], name: str, ndim: int) -> Shape:
    """The shape of a tensor that every network of this family has."""
    shape = shapes.get(name)
    if shape is None:
        raise not_this_family(f"{name} is missing")
    if len(shape) != ndim or 0 in shape:
        raise not_this_family(f"{name} has shape {shape}")
    return shape


def not_this_family(reason: str) -> WeightsError:
    return WeightsError(
        f"These are not the weights of a SAM-Med3D or FastSAM3D network ({reason}); choose a published file of either."
    )
