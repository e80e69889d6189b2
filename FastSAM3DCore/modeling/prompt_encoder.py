"""Points and mask logits as tokens and a dense map (SAM-Med3D, prompt_encoder3D)."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from .config import Sam3DConfig
from .layers import ChannelNorm3d, patch_linear

__all__ = ["FourierPositions", "PromptEncoder3d"]

DownscalingLayers = tuple[nn.Conv3d, ChannelNorm3d, nn.GELU, nn.Conv3d, ChannelNorm3d, nn.GELU, nn.Conv3d]


class FourierPositions(nn.Module):
    """Random Fourier features of positions in the unit cube, as [sin | cos | sin]."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(3, dim // 3))

    def forward(self, positions: Tensor) -> Tensor:
        """(..., 3) in [0, 1] -> (..., dim), computed in float32: half precision cannot hold the phase."""
        matrix = self.positional_encoding_gaussian_matrix
        phase = 2.0 * math.pi * ((2.0 * positions.float() - 1.0) @ matrix.float())
        sine = phase.sin()
        return torch.cat((sine, phase.cos(), sine), dim=-1).to(matrix.dtype)


class PromptEncoder3d(nn.Module):
    """Encodes clicks and the previous mask.

    Args:
        config: sizes; see `Sam3DConfig`.
    """

    def __init__(self, config: Sam3DConfig) -> None:
        super().__init__()
        dim = config.neck_dim
        self.image_size = config.image_size
        self.grid = config.grid
        self.pe_layer = FourierPositions(dim)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(2))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv3d(1, 4, kernel_size=2, stride=2),
            ChannelNorm3d(4),
            nn.GELU(),
            nn.Conv3d(4, 16, kernel_size=2, stride=2),
            ChannelNorm3d(16),
            nn.GELU(),
            nn.Conv3d(16, dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def points(self, coords: Tensor, labels: Tensor, pad: bool = True) -> Tensor:
        """Tokens of clicks.

        Args:
            coords: (B, P, 3) crop voxel coordinates, axes as the image's; integers are fine.
            labels: (B, P) 1 positive, 0 negative, -1 not a point.
            pad: append one token "not a point", as training did whenever there were points but no boxes.

        Returns:
            (B, P + 1, dim), or (B, 0, dim) if there are no points.
        """
        if coords.shape[1] == 0:
            return self.not_a_point_embed.weight.new_zeros(coords.shape[0], 0, self.not_a_point_embed.embedding_dim)
        coords = coords.float()
        labels = labels.long()
        if pad:
            coords = torch.cat((coords, coords.new_zeros(coords.shape[0], 1, 3)), dim=1)
            labels = torch.cat((labels, labels.new_full((labels.shape[0], 1), -1)), dim=1)
        positions: Tensor = self.pe_layer((coords + 0.5) / self.image_size)  # voxel centres
        negative, positive = (cast(nn.Embedding, embedding) for embedding in self.point_embeddings)
        kinds = torch.cat((self.not_a_point_embed.weight, negative.weight, positive.weight))
        # Only real points have a position.
        return positions.masked_fill((labels < 0).unsqueeze(-1), 0.0) + kinds[labels.clamp(-1, 1) + 1]

    def masks(self, logits: Tensor | None) -> Tensor:
        """Dense tokens of the previous mask.

        Args:
            logits: (B, 1, 4G, 4G, 4G), or None for the learnt "no mask" (not the same as zero logits).

        Returns:
            (B, G^3, dim); (1, 1, dim), to be broadcast, for None.
        """
        if logits is None:
            return self.no_mask_embed.weight.unsqueeze(0)
        conv1, norm1, act1, conv2, norm2, act2, conv3 = cast(DownscalingLayers, tuple(self.mask_downscaling))
        x = logits.reshape(-1, self.grid, 2, 2, self.grid, 2, 2, self.grid, 2, 2)
        # (B, g, o, i, g, o, i, g, o, i) -> (B, g g g, o o o, i i i): both strided convolutions see their
        # patches in place, and no voxel moves again.
        x = x.permute(0, 1, 4, 7, 2, 5, 8, 3, 6, 9).reshape(-1, self.grid**3, 8, 8)
        x = act1(norm1.channels_last(patch_linear(x, conv1)))  # (B, G^3, 8, 4)
        x = act2(norm2.channels_last(patch_linear(x.transpose(2, 3).flatten(2), conv2)))  # (B, G^3, 16)
        return patch_linear(x, conv3)

    def dense_positions(self) -> Tensor:
        """Positions of the image tokens, (G^3, dim).

        The first two axes are exchanged with respect to `points`: the published code builds its grid in that
        order, and every checkpoint was trained with it.
        """
        device = self.pe_layer.positional_encoding_gaussian_matrix.device
        centres = (torch.arange(self.grid, device=device, dtype=torch.float32) + 0.5) / self.grid
        a0, a1, a2 = torch.meshgrid(centres, centres, centres, indexing="ij")
        positions: Tensor = self.pe_layer(torch.stack((a1, a0, a2), dim=-1).flatten(0, 2))
        return positions
