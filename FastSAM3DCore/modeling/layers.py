"""Small layers that the encoders and the decoder share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ChannelNorm3d", "FullPrecisionConv3d", "Mlp", "MlpHead", "patch_linear", "unpatch_linear"]


class ChannelNorm3d(nn.Module):
    """LayerNorm over the channels of every voxel, for channels-first volumes and for channels-last tokens."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, D, H, W) over C."""
        return self.channels_last(x.movedim(1, -1)).movedim(-1, 1)

    def channels_last(self, x: Tensor) -> Tensor:
        """Normalise (..., C) over C."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class FullPrecisionConv3d(nn.Conv3d):
    """A convolution that computes in float32 whatever autocast says, and keeps its weights so.

    For depthwise convolutions: they are bound by memory, and oneDNN's bfloat16 backward is 2.5 times slower.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Conv3d`, float32 in and out."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class Mlp(nn.Module):
    """Linear, activation, linear: exact GELU in the encoder, ReLU in the decoder."""

    def __init__(self, dim: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)
        self.act = activation

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.lin2(self.act(self.lin1(x)))
        return out


class MlpHead(nn.Module):
    """Linear layers with ReLU in between, none after the last."""

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        out: Tensor = self.layers[-1](x)
        return out


def patch_linear(x: Tensor, conv: nn.Conv3d) -> Tensor:
    """A convolution whose stride equals its kernel, on patches that already lie next to each other.

    Args:
        x: (..., C_in * kernel voxels) flattened patches, channels first inside the patch.

    Returns:
        (..., C_out). The same numbers as the convolution, as one matrix product.
    """
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def unpatch_linear(x: Tensor, conv: nn.ConvTranspose3d) -> Tensor:
    """A transposed convolution whose stride equals its kernel, without moving voxels to their places.

    Args:
        x: (..., C_in).

    Returns:
        (..., kernel voxels, C_out): the block of voxels that every input voxel becomes.
    """
    # (C_in, C_out, 2, 2, 2) -> (8 * C_out, C_in)
    weight = conv.weight.flatten(2).permute(2, 1, 0).flatten(0, 1)
    voxels = conv.weight[0, 0].numel()
    # Inside the product the bias is free; adding it to 4096 x 8 x 48 numbers afterwards was a tenth of a click.
    bias = None if conv.bias is None else conv.bias.repeat(voxels)
    return F.linear(x, weight, bias).reshape(*x.shape[:-1], voxels, conv.out_channels)
