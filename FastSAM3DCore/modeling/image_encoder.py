"""The image encoders of SAM-Med3D (teacher) and FastSAM3D (student)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .attention import RelPosAttention3d
from .config import ResidualRule, Sam3DConfig
from .layers import ChannelNorm3d, Mlp, patch_linear

__all__ = ["Block", "ImageEncoder3d", "PatchEmbed3d"]

ENCODER_EPS = 1e-6


class PatchEmbed3d(nn.Module):
    """Cut a crop into cubes and project each to one token."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(1, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, D, H, W) -> (B, D/p, H/p, W/p, C)."""
        patch = self.proj.kernel_size[0]
        batch, channels, *size = image.shape
        d, h, w = (n // patch for n in size)
        # (B, 1, d, p, h, p, w, p) -> (B, d, h, w, 1 * p^3): one matrix product. oneDNN's bfloat16 convolution with a
        # kernel of 16 takes 530 ms on one Zen 4 core, the product 17 ms (in float32 both take 34 ms).
        patches = image.reshape(batch, channels, d, patch, h, patch, w, patch).permute(0, 2, 4, 6, 1, 3, 5, 7)
        return patch_linear(patches.flatten(4), self.proj)


class Block(nn.Module):
    """One encoder block; without attention for the first blocks of the student.

    Args:
        window: tokens per axis that attend to each other, or None for a block without attention.
    """

    def __init__(self, dim: int, heads: int, mlp_dim: int, window: int | None, residual: ResidualRule) -> None:
        super().__init__()
        self.residual = residual
        self.norm1: nn.LayerNorm | None = None
        self.attn: RelPosAttention3d | None = None
        if window is not None:
            self.norm1 = nn.LayerNorm(dim, eps=ENCODER_EPS)
            self.attn = RelPosAttention3d(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim, eps=ENCODER_EPS)
        self.mlp = Mlp(dim, mlp_dim, nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W, C) -> the same shape."""
        if self.attn is not None and self.norm1 is not None:
            x = x + attend_in_windows(self.attn, self.norm1(x))
        y = self.norm2(x)
        start = y if self.residual == "normed" else x
        out: Tensor = start + self.mlp(y)
        return out


class ImageEncoder3d(nn.Module):
    """A vision transformer over cubes of the crop, and a convolutional neck.

    Args:
        config: sizes; see `Sam3DConfig`.
    """

    def __init__(self, config: Sam3DConfig) -> None:
        super().__init__()
        self.list_stride = config.list_stride
        grid = config.grid
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, grid, config.dim))
        self.patch_embed = PatchEmbed3d(config.patch_size, config.dim)
        self.blocks = nn.ModuleList(
            Block(
                config.dim,
                config.heads,
                config.mlp_dim,
                window=None if block < config.skip_blocks else config.window_of(block),
                residual=config.residual,
            )
            for block in range(config.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv3d(config.dim, config.neck_dim, kernel_size=1, bias=False),
            ChannelNorm3d(config.neck_dim),
            nn.Conv3d(config.neck_dim, config.neck_dim, kernel_size=3, padding=1, bias=False),
            ChannelNorm3d(config.neck_dim),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, S, S, S) -> embedding (B, neck_dim, G, G, G)."""
        [last] = deque(self.stages(image), maxlen=1)  # the others' memory is used again at once
        embedding: Tensor = self.neck(last.movedim(-1, 1))
        return embedding

    def encode_list(self, image: Tensor) -> list[Tensor]:
        """Features for layer-wise distillation.

        Returns:
            The tokens that enter block 0, the stream after blocks k, 2k, ... (k = `list_stride`), all
            (B, G, G, G, C), and the embedding (B, neck_dim, G, G, G) last.
        """
        stages = list(self.stages(image))
        return [*stages[:: self.list_stride], self.neck(stages[-1].movedim(-1, 1))]

    def stages(self, image: Tensor) -> Iterator[Tensor]:
        """The stream (B, G, G, G, C) before the first block and after every block."""
        x = self.patch_embed(image) + self.pos_embed
        yield x
        for block in self.blocks:
            x = block(x)
            yield x


def attend_in_windows(attention: RelPosAttention3d, x: Tensor) -> Tensor:
    """Attention inside consecutive windows; those at the far ends may be incomplete.

    Windows of equal extent are handled together, as a batch.

    Args:
        x: (B, D, H, W, C) normalised tokens.
    """
    parts = [axis_parts(size, attention.window) for size in x.shape[1:4]]
    if all(len(part) == 1 for part in parts) and max(x.shape[1:4]) <= attention.window:
        attended: Tensor = attention(x)
        return attended
    out = torch.empty_like(x)
    for p0 in parts[0]:
        for p1 in parts[1]:
            for p2 in parts[2]:
                out[:, p0, p1, p2] = attend_in_equal_windows(attention, x[:, p0, p1, p2])
    return out


def attend_in_equal_windows(attention: RelPosAttention3d, x: Tensor) -> Tensor:
    """Attention inside windows that are all complete, or all cut at the same length, along each axis."""
    batch = x.shape[0]
    extents = [min(size, attention.window) for size in x.shape[1:4]]
    counts = [size // extent for size, extent in zip(x.shape[1:4], extents, strict=True)]
    # (B, f0, e0, f1, e1, f2, e2, C) -> (B f0 f1 f2, e0, e1, e2, C) and back
    split = x.reshape(batch, counts[0], extents[0], counts[1], extents[1], counts[2], extents[2], -1)
    y: Tensor = attention(split.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(0, 3))
    return y.reshape(batch, *counts, *extents, -1).permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(x.shape)


def axis_parts(size: int, window: int) -> list[slice]:
    """The complete windows of an axis as one slice, the incomplete one at its end as another."""
    whole = size // window * window
    return [part for part in (slice(0, whole), slice(whole, size)) if part.stop > part.start]
