"""The decoder: a light U-shape over the cached maps that re-runs at every prompt."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import HiresConfig
from .hints import FLAGS, GEODESIC_MAPS, PROMPT_MAPS, SIMILARITY_MAPS, Prompts, crop_maps, draw_prompts
from .layers import (
    Conv3d,
    ResidualBlock,
    TrunkBlock,
    channels_last,
    depth_to_space,
    no_autocast,
    space_to_depth,
    upsample,
)

__all__ = ["Candidates", "HiresDecoder"]

_STATISTICS = 6


class Candidates(NamedTuple):
    """Everything the decoder can say at once.

    Attributes:
        single: (B, 1, D, H, W) logits of the one answer.
        multiple: (B, 3, D, H, W) logits of three answers, or None when not asked for.
        quality: (B, 1 or 4) predicted IoU logits of `single`, then of `multiple`.
        half: (B, 1, D/2, H/2, W/2) auxiliary logits used in training.
    """

    single: Tensor
    multiple: Tensor | None
    quality: Tensor
    half: Tensor


class HiresDecoder(nn.Module):
    """Prompt maps and cached features in, full-resolution logits out."""

    def __init__(self, config: HiresConfig) -> None:
        super().__init__()
        c1, c2, c3 = config.decoder
        maps = PROMPT_MAPS + SIMILARITY_MAPS + GEODESIC_MAPS + 8  # 8: previous mask, 2x2x2 folded into channels
        self.sharpness = nn.Parameter(torch.tensor(1.0))
        self.enter = Conv3d(maps, c1, 3, padding=1)
        self.flags = nn.Linear(FLAGS, c1)
        self.block1 = ResidualBlock(c1)
        self.down1 = Conv3d(c1, c2, 2, 2)
        self.lateral2 = Conv3d(config.middle, c2, 1)
        self.block2 = ResidualBlock(c2)
        self.down2 = Conv3d(c2, c3, 2, 2)
        self.lateral3 = Conv3d(config.width, c3, 1)
        heads = max(2, c3 // 32)
        self.mix = nn.ModuleList(TrunkBlock(c3, heads, True, config.window) for _ in range(config.decoder_blocks))
        self.up2 = Conv3d(c3, c2, 1)
        self.merge2 = ResidualBlock(c2)
        self.up1 = Conv3d(c2, c1, 1)
        self.merge1 = ResidualBlock(c1)
        self.refine = Conv3d(c1, 2 * c1, 3, padding=1)
        self.single = Conv3d(2 * c1, 8, 1)
        self.multiple = Conv3d(2 * c1, 24, 1)
        self.auxiliary = Conv3d(c1, 1, 1)
        self.pooled = nn.Linear(c3, 32)
        self.statistics = nn.Linear(_STATISTICS, 32)
        self.candidate = nn.Parameter(torch.zeros(4, 32))
        self.quality = nn.Linear(32, 1)
        for bias in (self.single.bias, self.multiple.bias, self.auxiliary.bias):
            if bias is not None:
                nn.init.constant_(bias, -2.0)  # most of a crop is background

    def prepare(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """What no prompt changes, worked out once per crop: an embedding for `forward`.

        Args:
            features: what the encoder returned.

        Returns:
            `features` and, beside them, "lateral2" at 1/4, "lateral3" at 1/8, "unit" and "costs" at 1/2 resolution.
        """
        ready = {
            "fine": channels_last(features["fine"]),
            "lateral2": self.lateral2(features["middle"]),
            "lateral3": self.lateral3(features["coarse"]),
        }
        with no_autocast(features["click"]):
            return {**features, **ready, **crop_maps(features["click"].float(), features["intensity"].float())}

    def forward(
        self,
        embedding: dict[str, Tensor],
        points: Tensor,
        labels: Tensor,
        mask_logits: Tensor | None,
        boxes: Tensor | None,
        multimask: bool,
    ) -> Candidates:
        """Decode B targets; see `HiresModel.decode` for the arguments, already expanded to one batch size."""
        intensity = embedding["intensity"].float()
        shape = (intensity.shape[2], intensity.shape[3], intensity.shape[4])
        with no_autocast(intensity):
            prompts = Prompts.at_half(points, labels, boxes, shape)
            sharpness = 4 * F.softplus(self.sharpness)
            hints = draw_prompts(prompts, embedding, sharpness)
            flags = torch.cat([_has_mask(mask_logits, points.shape[0], points.device), prompts.flags()], 1)
            previous = _previous(mask_logits, hints)
        maps = channels_last(torch.cat([hints, previous], 1))
        entered = self.enter(maps) + self.flags(flags)[:, :, None, None, None]
        fine = self.block1(entered + embedding["fine"])
        middle = self.block2(self.down1(F.relu(fine)) + embedding["lateral2"])
        coarse = self.down2(F.relu(middle)) + embedding["lateral3"]
        for block in self.mix:
            coarse = block(coarse)
        middle = self.merge2(middle + upsample(self.up2(coarse)))
        fine = F.relu(self.merge1(fine + upsample(self.up1(middle))))
        refined = F.relu(self.refine(fine))
        single = depth_to_space(self.single(refined)).float()
        multiple = depth_to_space(self.multiple(refined)).float() if multimask else None
        return Candidates(single, multiple, self._judge(coarse, single, multiple), self.auxiliary(fine).float())

    def _judge(self, coarse: Tensor, single: Tensor, multiple: Tensor | None) -> Tensor:
        logits = single if multiple is None else torch.cat([single, multiple], 1)
        with no_autocast(coarse), torch.no_grad():
            statistics = _statistics(logits)
        pooled = self.pooled(coarse.float().mean((2, 3, 4)))[:, None]
        hidden = pooled + self.statistics(statistics) + self.candidate[: logits.shape[1]]
        quality: Tensor = self.quality(F.relu(hidden))[..., 0].float()
        return quality


def _has_mask(mask_logits: Tensor | None, batch: int, device: torch.device) -> Tensor:
    """(B, 1): rows of NaN mean that this target has no previous mask (training mixes both in a batch)."""
    if mask_logits is None:
        return torch.zeros(batch, 1, device=device)
    return (~mask_logits[:, 0, 0, 0, 0].isnan()).float()[:, None]


def _previous(mask_logits: Tensor | None, like: Tensor) -> Tensor:
    """The previous probability folded into eight channels at half resolution, zeros without one."""
    if mask_logits is None:
        return like.new_zeros(like.shape[0], 8, *like.shape[2:])
    return space_to_depth(torch.nan_to_num(torch.sigmoid(mask_logits.float()), nan=0.0))


def _statistics(logits: Tensor) -> Tensor:
    """What a mask looks like to itself: (B, M, _STATISTICS), computed on every second voxel per axis."""
    p = torch.sigmoid(logits[:, :, ::2, ::2, ::2])
    volume = p.mean((2, 3, 4)) + 1e-4
    doubt = (p * (1 - p)).mean((2, 3, 4)) / volume
    confidence = (p * p).mean((2, 3, 4)) / volume
    empty = (p.amax((2, 3, 4)) < 0.5).float()
    faces = [p.select(axis, side).mean((2, 3)) for axis in (2, 3, 4) for side in (0, -1)]
    touching = torch.stack(faces, -1)
    return torch.stack(
        [volume.log() / 4, volume, doubt, confidence, touching.amax(-1), empty],
        -1,
    )
