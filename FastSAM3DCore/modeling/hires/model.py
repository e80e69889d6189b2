"""The network behind `PromptableModel`, and its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save as serialise
from torch import Tensor, nn

from ...calibration import Calibration
from ...errors import PromptError, WeightsError
from ..build import NAMED_DIFFERENCES, key_differences, shapes_of
from ..interface import ModelTraits
from .config import ARCH, HiresConfig
from .decoder import Candidates, HiresDecoder
from .encoder import HiresEncoder

__all__ = ["HiresModel", "build_hires", "load_hires", "save_hires"]

_MULTIPLE = 8
# Trained as the best of three, the middle candidate is surer of one reading of a lone click than the single answer,
# which hedges: .544 mean Dice at the first click instead of .536 on 155 structures of 81 scans, the best by predicted
# overlap .543, its mean with the single answer .541.
_WHOLE, _LARGEST = 1, 0


class HiresModel(nn.Module):
    """Promptable network of any crop shape whose sides are multiples of eight; see `PromptableModel`."""

    def __init__(self, config: HiresConfig) -> None:
        super().__init__()
        self.config = config
        self.traits = ModelTraits(
            name=config.name,
            crop_size=config.crop_size,
            fixed_crop=False,
            size_multiple=_MULTIPLE,
            spacing_mm=None,
            mask_stride=1,
            box_prompts=True,
            mask_prompt_zero=False,
            ignores_padding=True,
            whole=_WHOLE,
            largest=_LARGEST,
        )
        self.encoder = HiresEncoder(config)
        self.decoder = HiresDecoder(config)

    def encode(self, image: Tensor) -> dict[str, Tensor]:
        """Embed crops, once per crop.

        Args:
            image: (B, 1, D, H, W), sides multiples of 8; any affine scaling of the intensities gives the same.

        Returns:
            A dict of tensors with a leading batch axis, for `decode`.

        Raises:
            PromptError: if the shape is not one the network takes.
        """
        if image.ndim != 5 or image.shape[1] != 1 or any(n % _MULTIPLE or n == 0 for n in image.shape[2:]):
            raise PromptError(f"crops must be (B, 1, D, H, W) with sides multiples of {_MULTIPLE}, not {image.shape}")
        return self.decoder.prepare(self.encoder(image))

    def decode(
        self,
        embedding: dict[str, Tensor],
        point_coords: Tensor,
        point_labels: Tensor,
        mask_logits: Tensor | None,
        multimask: bool = False,
        *,
        boxes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Answer prompts on an embedding.

        Args:
            embedding: what `encode` returned for A crops; A must divide B, targets of one crop are neighbours.
            point_coords: (B, P, 3) crop voxel coordinates, clamped into the crop; P may be 0.
            point_labels: (B, P) 1 positive, 0 negative, -1 no point.
            mask_logits: (B, 1, D, H, W) previous logits or None; targets of NaN have none.
            multimask: return three candidates (part, whole, larger whole) instead of one.
            boxes: (B, 2, 3) half-open corners in crop voxels; rows of NaN mean no box.

        Returns:
            logits (B, M, D, H, W) and predicted IoU in 0..1 (B, M); M is 1, or 3 with `multimask`.
        """
        found = self.candidates(embedding, point_coords, point_labels, mask_logits, multimask, boxes)
        quality = torch.sigmoid(found.quality)
        if found.multiple is None:
            return found.single, quality
        return found.multiple, quality[:, 1:]

    def candidates(
        self,
        embedding: dict[str, Tensor],
        point_coords: Tensor,
        point_labels: Tensor,
        mask_logits: Tensor | None,
        multimask: bool,
        boxes: Tensor | None,
    ) -> Candidates:
        """As `decode`, but the single answer, the three candidates and the training outputs together."""
        batch = point_coords.shape[0]
        crops = embedding["coarse"].shape[0]
        if batch % crops:
            raise PromptError(f"{batch} targets cannot be shared out among {crops} encoded crops")
        if batch != crops:
            embedding = {key: value.repeat_interleave(batch // crops, 0) for key, value in embedding.items()}
        found: Candidates = self.decoder(embedding, point_coords, point_labels, mask_logits, boxes, multimask)
        return found


def build_hires(config: HiresConfig) -> HiresModel:
    """A network with fresh random weights (from torch's global generator).

    Raises:
        WeightsError: sizes that do not go together.
    """
    try:
        return HiresModel(config)
    except ValueError as error:
        raise WeightsError(
            f"the sizes of the network {config.name!r:.60} do not fit ({error}); correct them, or export it again"
        ) from error


def save_hires(model: HiresModel, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write weights as float16 safetensors with the configuration in the metadata, atomically.

    Args:
        model: the network.
        path: target; replaced in one step.
        metadata: more strings to store beside "arch" and "config".
    """
    tensors = {key: value.detach().half().cpu().contiguous() for key, value in model.state_dict().items()}
    header = {**(metadata or {}), "arch": ARCH, "config": model.config.to_json()}
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(serialise(tensors, header))
    partial.replace(path)


def load_hires(path: Path, device: torch.device | str = "cpu") -> HiresModel:
    """Read what `save_hires` wrote, strictly, as float32 in evaluation mode.

    Raises:
        WeightsError: if the file is not readable, not of this architecture, or its keys or shapes differ.
    """
    try:
        with safetensors.safe_open(path, framework="pt", device=str(device)) as archive:
            header: dict[str, Any] = archive.metadata() or {}
            # Copied, since float32 tensors are the mapped file itself.
            tensors = {key: archive.get_tensor(key).to(torch.float32, copy=True) for key in archive.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"cannot read {path} as safetensors ({error}); download or export it again") from error
    if header.get("arch") != ARCH or "config" not in header:
        raise WeightsError(f"{path} holds {header.get('arch', 'an unnamed architecture')!r}, not {ARCH!r}")
    with torch.device("meta"):  # allocates nothing, whatever sizes the file claims
        model = build_hires(HiresConfig.from_json(header["config"]))
    differences = key_differences(shapes_of(model.state_dict()), shapes_of(tensors))
    if differences:
        shown = ", ".join(differences[:NAMED_DIFFERENCES])
        raise WeightsError(f"{path} does not fit its configuration: {shown}; export it again")
    model.load_state_dict(tensors, assign=True)
    model.traits = replace(model.traits, calibration=Calibration.from_metadata(header))
    return model.eval()
