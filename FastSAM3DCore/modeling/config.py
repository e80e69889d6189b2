"""The sizes of a network of the SAM-Med3D family, and the two that were published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["STUDENT", "TEACHER", "ResidualRule", "Sam3DConfig"]

ResidualRule = Literal["pre", "normed"]
"""Where the second residual of an encoder block starts: "pre" at the block's stream (SAM-Med3D), "normed" at
the layer-normed stream (every block of the FastSAM3D code, hence of every student trained with it)."""

LOGITS_PER_TOKEN = 4
"""Voxels of the low-resolution logits per image token and axis: two up-scalings by two."""


@dataclass(frozen=True, slots=True)
class Sam3DConfig:
    """Sizes of one network; the defaults are those of the published teacher.

    Attributes:
        name: model name for users and results.
        image_size: voxels per axis of the crop.
        patch_size: voxels per axis of one image token.
        dim: encoder width.
        depth: encoder blocks, the skipped ones included.
        heads: attention heads of the encoder.
        mlp_dim: hidden width of the encoder's MLPs.
        window: tokens per axis of windowed attention; 0 makes every attention global.
        global_attention: which attentions are global although `window` is set, counted from 0 among the blocks
            that have attention (not among all blocks: the released code counts after the skipped ones).
        skip_blocks: leading blocks without attention.
        residual: where the second residual of a block starts.
        neck_dim: width of the embedding and of the decoder.
        list_stride: `encode_list` keeps the stream after every `list_stride` blocks.
        decoder_mlp_dim: hidden width of the decoder's MLPs.
        decoder_heads: attention heads of the decoder.
        iou_hidden_dim: hidden width of the head that predicts IoU.
        spacing_mm: voxel size of the training crops in mm.
    """

    name: str = "sam-med3d-turbo"
    image_size: int = 128
    patch_size: int = 16
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_dim: int = 3072
    window: int = 14
    global_attention: tuple[int, ...] = (2, 5, 8, 11)
    skip_blocks: int = 0
    residual: ResidualRule = "pre"
    neck_dim: int = 384
    list_stride: int = 2
    decoder_mlp_dim: int = 2048
    decoder_heads: int = 8
    iou_hidden_dim: int = 256
    spacing_mm: float = 1.5

    @property
    def grid(self) -> int:
        """Image tokens per axis."""
        return self.image_size // self.patch_size

    @property
    def mask_size(self) -> int:
        """Voxels per axis of mask prompts and of the returned logits."""
        return LOGITS_PER_TOKEN * self.grid

    @property
    def mask_stride(self) -> int:
        """Crop voxels per voxel of the returned logits, per axis."""
        return self.patch_size // LOGITS_PER_TOKEN

    def window_of(self, block: int) -> int:
        """Tokens per axis that attend to each other in a block; the grid itself if its attention is global."""
        windowed = self.window > 0 and block - self.skip_blocks not in self.global_attention
        return self.window if windowed else self.grid


TEACHER = Sam3DConfig()
"""SAM-Med3D ViT-B, 100.5 M parameters (Wang et al., SAM-Med3D, 2023)."""

STUDENT = Sam3DConfig(
    name="fastsam3d", depth=6, heads=6, window=0, global_attention=(), skip_blocks=2, residual="normed"
)
"""FastSAM3D as released, 53.2 M parameters (Shen et al., FastSAM3D, MICCAI 2024)."""
