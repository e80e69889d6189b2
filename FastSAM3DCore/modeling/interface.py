"""What the engine knows about a network: two calls and a handful of traits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ..calibration import Calibration

__all__ = ["Embedding", "ModelTraits", "PromptableModel"]

# A tensor or a dict of tensors with a leading batch axis; only the model that made it reads it.
Embedding = Any


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """How the engine must cut crops for a network and read its answers.

    Attributes:
        name: model name shown to users and stored with results.
        crop_size: voxels per axis of a full crop.
        fixed_crop: True if every crop must be crop_size^3 (padded with zeros); False if any shape that is a
            multiple of `size_multiple` per axis will do (clipped to the scan, edges replicated).
        size_multiple: crop axes must be multiples of this.
        spacing_mm: voxel size the network was trained at; None if it takes any zoom.
        mask_stride: crop voxels per voxel of the returned logits, per axis.
        box_prompts: whether `decode` takes boxes.
        mask_prompt_zero: True if "no mask yet" is a mask of zero logits (published training), False for None.
        ignores_padding: True if points labelled -1 change nothing, so that prompts may be filled up with them.
        largest: which of the three candidates is the largest, as far as it is known.
        whole: which of the three candidates answers a click without a mask best; None if the single answer does.
    """

    name: str
    crop_size: int
    fixed_crop: bool
    size_multiple: int
    spacing_mm: float | None
    mask_stride: int
    box_prompts: bool
    mask_prompt_zero: bool
    ignores_padding: bool = False
    whole: int | None = None
    largest: int | None = None
    calibration: Calibration = field(default_factory=Calibration)


@runtime_checkable
class PromptableModel(Protocol):
    """A promptable 3D segmentation network. Spatial axes are R, A, S of the canonical crop, in that order."""

    traits: ModelTraits

    def encode(self, image: Tensor) -> Embedding:
        """Embed crops, once per crop.

        Args:
            image: (B, 1, D, H, W) float32, z-scored with the mean and unbiased standard deviation of the
                crop's voxels above zero (SPEC of the published training).
        """
        ...

    def decode(
        self,
        embedding: Embedding,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_logits: Tensor | None,
        multimask: bool = False,
        *,
        boxes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Answer prompts on an embedding.

        Args:
            embedding: what `encode` returned for B crops.
            point_coords: (B, P, 3) crop voxel coordinates, axes as the image's; P may be 0.
            point_labels: (B, P) 1 positive, 0 negative, -1 no point (padding).
            mask_logits: (B, 1, d, h, w) previous logits at the resolution `decode` returns, or None.
            multimask: return three candidates (part, whole, larger whole) instead of one.
            boxes: (B, 2, 3) half-open lower and upper corners in crop voxels; rows of NaN mean no box.
                Only for models whose traits say `box_prompts`.

        Returns:
            logits (B, M, d, h, w) with d = D / mask_stride, and predicted IoU (B, M); M = 1 or 3.
        """
        ...
