"""From embedding and prompts to mask logits (SAM-Med3D, mask_decoder3D)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from .config import Sam3DConfig
from .layers import ChannelNorm3d, MlpHead, unpatch_linear
from .two_way_transformer import TwoWayTransformer

__all__ = ["MaskDecoder3d"]

UpscalingLayers = tuple[nn.ConvTranspose3d, ChannelNorm3d, nn.GELU, nn.ConvTranspose3d, nn.GELU]

MASK_TOKENS = 4
"""Token 0 answers with one mask; tokens 1 to 3 with part, whole and larger whole."""


class MaskDecoder3d(nn.Module):
    """Light decoder: the only part that runs again for a new prompt.

    Args:
        config: sizes; see `Sam3DConfig`.
    """

    def __init__(self, config: Sam3DConfig) -> None:
        super().__init__()
        dim = config.neck_dim
        self.grid = config.grid
        self.transformer = TwoWayTransformer(dim, config.decoder_heads, config.decoder_mlp_dim)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(MASK_TOKENS, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose3d(dim, dim // 4, kernel_size=2, stride=2),
            ChannelNorm3d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose3d(dim // 4, dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(MlpHead((dim, dim, dim, dim // 8)) for _ in range(MASK_TOKENS))
        self.iou_prediction_head = MlpHead((dim, config.iou_hidden_dim, config.iou_hidden_dim, MASK_TOKENS))

    def forward(self, image: Tensor, positions: Tensor, prompts: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
        """Decode.

        Args:
            image: (B, G^3, dim) embedding plus dense prompt.
            positions: (G^3, dim).
            prompts: (B, T, dim), T may be 0.
            multimask: masks 1 to 3 instead of mask 0.

        Returns:
            logits (B, M, 4G, 4G, 4G) and predicted IoU (B, M), without a sigmoid.
        """
        wanted = range(1, MASK_TOKENS) if multimask else range(1)
        tokens, image = self.transformer(image, positions, self.initial_tokens(prompts))
        iou = self.iou_prediction_head(tokens[:, 0])[:, wanted.start : wanted.stop]
        kernels = torch.stack([self.output_hypernetworks_mlps[i](tokens[:, 1 + i]) for i in wanted], dim=1)
        return self.upscale(image, kernels), iou

    def initial_tokens(self, prompts: Tensor) -> Tensor:
        """(B, T, dim) prompts -> (B, 5 + T, dim): IoU token, mask tokens, prompts."""
        own = torch.cat((self.iou_token.weight, self.mask_tokens.weight))
        return torch.cat((own.expand(prompts.shape[0], -1, -1), prompts), dim=1)

    def upscale(self, image: Tensor, kernels: Tensor) -> Tensor:
        """Image tokens at four times the resolution, weighted by each mask's kernel.

        Both transposed convolutions have stride 2 = kernel, so each is a matrix product, and voxels are put in
        their places only at the end, when one channel is left.

        Args:
            image: (B, G^3, dim).
            kernels: (B, M, dim / 8).

        Returns:
            (B, M, 4G, 4G, 4G) logits.
        """
        conv1, norm, act1, conv2, act2 = cast(UpscalingLayers, tuple(self.output_upscaling))
        x = act1(norm.channels_last(unpatch_linear(image, conv1)))  # (B, G^3, 8, dim/4)
        x = act2(unpatch_linear(x, conv2))  # (B, G^3, 8, 8, dim/8)
        logits = (x.flatten(1, 3) @ kernels.transpose(1, 2)).transpose(1, 2)  # (B, M, G^3 * 64), without turning x
        logits = logits.reshape(*logits.shape[:2], *(self.grid,) * 3, 2, 2, 2, 2, 2, 2)
        # (B, M, g0, g1, g2, o0, o1, o2, i0, i1, i2) -> (B, M, g0 o0 i0, g1 o1 i1, g2 o2 i2)
        logits = logits.permute(0, 1, 2, 5, 8, 3, 6, 9, 4, 7, 10)
        out: Tensor = logits.flatten(8, 10).flatten(5, 7).flatten(2, 4)
        return out
