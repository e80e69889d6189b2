"""The assembled network: what the engine calls."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ImageError, PromptError
from .config import Sam3DConfig
from .image_encoder import ImageEncoder3d
from .interface import ModelTraits
from .mask_decoder import MaskDecoder3d
from .prompt_encoder import PromptEncoder3d

__all__ = ["Sam3D", "upsample_logits"]


class Sam3D(nn.Module):
    """A published network of the SAM-Med3D family, as a `PromptableModel`.

    Args:
        config: sizes; `config.TEACHER` and `config.STUDENT` are the published ones.
    """

    def __init__(self, config: Sam3DConfig) -> None:
        super().__init__()
        self.config = config
        self.traits = ModelTraits(
            name=config.name,
            crop_size=config.image_size,
            fixed_crop=True,
            size_multiple=config.image_size,
            spacing_mm=config.spacing_mm,
            mask_stride=config.mask_stride,
            box_prompts=False,
            mask_prompt_zero=True,
        )
        self.image_encoder = ImageEncoder3d(config)
        self.prompt_encoder = PromptEncoder3d(config)
        self.mask_decoder = MaskDecoder3d(config)

    def encode(self, image: Tensor) -> Tensor:
        """Embed crops, once per crop.

        Args:
            image: (B, 1, S, S, S) float32 with S = `traits.crop_size`, axes R, A, S, z-scored.

        Returns:
            (B, neck_dim, G, G, G).

        Raises:
            ImageError: another shape.
        """
        embedding: Tensor = self.image_encoder(self._checked(image))
        return embedding

    def encode_list(self, image: Tensor) -> list[Tensor]:
        """The intermediate features that layer-wise distillation aligns, the embedding last.

        Returns:
            As `ImageEncoder3d.encode_list`: (B, G, G, G, C) each, then (B, neck_dim, G, G, G).

        Raises:
            ImageError: another shape.
        """
        return self.image_encoder.encode_list(self._checked(image))

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
        """Answer prompts on an embedding.

        Args:
            embedding: (B, neck_dim, G, G, G), or one embedding for B prompts.
            point_coords: (B, P, 3) crop voxel coordinates, axes as the image's; P may be 0.
            point_labels: (B, P) 1 positive, 0 negative, -1 not a point. One further "not a point" is appended.
            mask_logits: (B, 1, d, d, d) previous logits; None for the learnt "no mask", which training never
                saw: it started from zero logits.
            multimask: three candidates instead of one. No published recipe trained them, nor the IoU.
            boxes: must be None; the published networks have no box embeddings.

        Returns:
            logits (B, M, d, d, d) with d = S / mask_stride, and predicted IoU (B, M); M = 1 or 3.

        Raises:
            PromptError: boxes, or shapes that do not fit each other.
        """
        if boxes is not None:
            raise PromptError(f"The model {self.traits.name!r} takes no boxes; give points or a mask instead.")
        batch = self._prompt_batch(embedding, point_coords, point_labels, mask_logits)
        prompts = self.prompt_encoder.points(point_coords, point_labels)
        image = embedding.flatten(2).transpose(1, 2) + self.prompt_encoder.masks(mask_logits)  # (B, G^3, dim)
        positions = self.prompt_encoder.dense_positions()
        logits, iou = self.mask_decoder(image.expand(batch, -1, -1), positions, prompts, multimask)
        return logits, iou

    def _checked(self, image: Tensor) -> Tensor:
        expected = (1, *(self.traits.crop_size,) * 3)
        if image.ndim != 5 or tuple(image.shape[1:]) != expected:
            raise ImageError(
                f"The model {self.traits.name!r} takes crops of shape (B, {', '.join(map(str, expected))}), "
                f"got {tuple(image.shape)}."
            )
        return image

    def _prompt_batch(self, embedding: Tensor, coords: Tensor, labels: Tensor, mask: Tensor | None) -> int:
        """Number of prompts, after checking that all inputs agree on it."""
        if coords.ndim != 3 or coords.shape[-1] != 3 or labels.shape != coords.shape[:2]:
            raise PromptError(
                f"Points need shape (B, P, 3) and labels (B, P), got {tuple(coords.shape)} and {tuple(labels.shape)}."
            )
        batch = coords.shape[0]
        expected = (batch, 1, *(self.config.mask_size,) * 3)
        if mask is not None and tuple(mask.shape) != expected:
            raise PromptError(f"A mask prompt for {batch} prompts needs shape {expected}, got {tuple(mask.shape)}.")
        if embedding.shape[0] not in (1, batch):
            raise PromptError(
                f"{batch} prompts cannot be decoded on {embedding.shape[0]} embeddings; give one or {batch}."
            )
        return batch


def upsample_logits(logits: Tensor, size: int) -> Tensor:
    """Low-resolution logits (B, M, d, d, d) at the crop's resolution, trilinear between voxel centres."""
    return F.interpolate(logits, size=(size, size, size), mode="trilinear", align_corners=False)
