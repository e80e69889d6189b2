"""A promptable "network" without weights, whose right answer is known: voxels as bright as the clicked ones.

It lets the engine's tests check geometry, seams, memory and history exactly, in milliseconds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from FastSAM3DCore.modeling.interface import ModelTraits


class ToyModel:
    """Foreground where the intensity is within half the crop's contrast of a positive click's."""

    def __init__(self, crop_size: int = 32, fixed_crop: bool = False, mask_stride: int = 1) -> None:
        self.traits = ModelTraits(
            name="toy",
            crop_size=crop_size,
            fixed_crop=fixed_crop,
            size_multiple=crop_size if fixed_crop else 8,
            spacing_mm=1.5 if fixed_crop else None,
            mask_stride=mask_stride,
            box_prompts=not fixed_crop,
            mask_prompt_zero=fixed_crop,
        )
        self.encoded = 0
        self.decoded = 0

    def encode(self, image: Tensor) -> Tensor:
        self.encoded += 1
        stride = self.traits.mask_stride
        return torch.nn.functional.avg_pool3d(image, stride) if stride > 1 else image

    def decode(
        self,
        embedding: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_logits: Tensor | None,
        multimask: bool = False,
        *,
        boxes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        self.decoded += 1
        stride = self.traits.mask_stride
        image = embedding[0, 0]
        voxels = ((point_coords[0] + 0.5) / stride - 0.5).round().long()
        last = torch.tensor(image.shape) - 1
        values = image[tuple(torch.minimum(voxels.clamp(min=0), last).T)]
        wanted = values[point_labels[0] == 1]
        if boxes is not None and not boxes.isnan().any():
            centre = ((boxes[0, 0] + boxes[0, 1]) / 2 / stride).long()
            wanted = torch.cat([wanted, image[tuple(torch.minimum(centre.clamp(min=0), last))][None]])
        if wanted.numel():
            contrast = image.max() - image.min()
            logits = 8.0 - 16.0 * (image[None] - wanted[:, None, None, None]).abs().amin(0) / contrast
        else:
            logits = torch.full_like(image, -6.0) if mask_logits is None else mask_logits[0, 0].clone()
        return logits[None, None], torch.ones(1, 1)
