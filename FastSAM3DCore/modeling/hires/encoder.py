"""The encoder: everything that is computed once per crop and cached."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import HiresConfig
from .intensity import two_channels
from .layers import Conv3d, ResidualBlock, TrunkBlock, channels_last, no_autocast, space_to_depth, upsample

__all__ = ["HiresEncoder"]


class HiresEncoder(nn.Module):
    """Residual convolutions at 1/2 and 1/4, a transformer trunk at 1/8 and a feature pyramid back to 1/2.

    Each channel is normalised over the crop before every rectifier between resolutions: without that the sums drifted
    below zero in training, and the features at 1/2 resolution died unnoticed.

    No convolution runs at full resolution: the stem folds 2x2x2 voxels into channels, which costs an eighth.
    """

    def __init__(self, config: HiresConfig) -> None:
        super().__init__()
        c1, c2, width = config.stem, config.middle, config.width
        self.features, self.embedding = config.decoder[0], config.embedding
        self.stem = Conv3d(16, c1, 3, padding=1)
        self.block1 = ResidualBlock(c1)
        self.norm1 = nn.GroupNorm(c1, c1)
        self.down1 = Conv3d(c1, c2, 2, 2)
        self.block2 = ResidualBlock(c2)
        self.norm2 = nn.GroupNorm(c2, c2)
        self.down2 = Conv3d(c2, width, 2, 2)
        self.trunk = nn.ModuleList(
            TrunkBlock(width, config.heads, index >= config.attention_from, config.window)
            for index in range(config.depth)
        )
        self.lateral3 = Conv3d(width, c2, 1)
        self.merge2 = ResidualBlock(c2)
        self.lateral2 = Conv3d(c2, c1, 1)
        self.norm0 = nn.GroupNorm(c1, c1)
        self.merge1 = Conv3d(c1, config.decoder[0] + config.embedding, 3, padding=1)

    def stem_features(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Intensities at 1/2 (B, 2, ...) and the features entering the trunk at 1/2, 1/4 and 1/8."""
        with no_autocast(image):
            channels = two_channels(image)
            half = F.avg_pool3d(channels, 2)
        fine = self.block1(self.stem(channels_last(space_to_depth(channels))))
        middle = self.block2(self.down1(F.relu(self.norm1(fine))))
        return half, fine, middle, self.down2(F.relu(self.norm2(middle)))

    def trunk_features(self, coarse: Tensor) -> list[Tensor]:
        """The map after each trunk block, for layer-wise distillation."""
        maps = []
        for block in self.trunk:
            coarse = block(coarse)
            maps.append(coarse)
        return maps

    def pyramid(self, half: Tensor, fine: Tensor, middle: Tensor, coarse: Tensor) -> dict[str, Tensor]:
        """From the trunk's output back to 1/2 resolution: the embedding `decode` reads."""
        middle = self.merge2(middle + upsample(self.lateral3(coarse)))
        fine = self.merge1(F.relu(self.norm0(fine + upsample(self.lateral2(middle)))))
        features, embedding = torch.split(fine, [self.features, self.embedding], 1)
        return {"intensity": half, "fine": features, "click": embedding, "middle": middle, "coarse": coarse}

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Encode crops.

        Args:
            image: (B, 1, D, H, W), sides multiples of 8, any intensities.

        Returns:
            Maps with a leading batch axis: "intensity" (2 channels), "fine" and "click" at 1/2, "middle" at 1/4,
            "coarse" at 1/8 resolution.
        """
        half, fine, middle, coarse = self.stem_features(image)
        return self.pyramid(half, fine, middle, self.trunk_features(coarse)[-1])
