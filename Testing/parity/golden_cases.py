"""The tiny networks and prompts whose answers are committed in golden.safetensors."""

from __future__ import annotations

import torch
from torch import Tensor

from FastSAM3DCore.modeling.build import build_sam3d
from FastSAM3DCore.modeling.config import Sam3DConfig
from FastSAM3DCore.modeling.sam3d import Sam3D
from Testing.parity.formula_weights import formula_image, formula_mask, formula_state


def tiny(name: str, **changes: object) -> Sam3DConfig:
    sizes = {
        "image_size": 16, "patch_size": 4, "dim": 48, "heads": 4, "mlp_dim": 96, "neck_dim": 48,
        "decoder_mlp_dim": 64, "iou_hidden_dim": 32,
    }  # fmt: skip
    return Sam3DConfig(name=name, **(sizes | changes))  # type: ignore[arg-type]


GOLDEN_CONFIGS = (
    # One window larger than the grid, as the published teacher: 4^3 tokens of 7^3.
    tiny("teacher", depth=4, window=7, global_attention=(1, 3)),
    # Eight windows of which seven are cut, at every combination of axes.
    tiny("cut_windows", depth=3, window=3, global_attention=(1,)),
    # The student: blocks without attention, all attention global, the other residual.
    tiny("student", depth=6, heads=3, window=0, global_attention=(), skip_blocks=2, residual="normed"),
)

CLICK = torch.tensor([[[3, 9, 14]]]), torch.tensor([[1]])
CLICKS = torch.tensor([[[3.5, 9.25, 14.0], [0.0, 15.0, 7.0], [8.0, 2.0, 1.0]]]), torch.tensor([[1.0, 0.0, -1.0]])
NO_CLICK = torch.zeros(1, 0, 3), torch.zeros(1, 0)
PROMPTS = {
    "click": (*CLICK, "zero"),
    "clicks_on_mask": (*CLICKS, "mask"),
    "mask_only": (*NO_CLICK, "mask"),
    "nothing": (*NO_CLICK, None),
}


def golden_model(config: Sam3DConfig) -> Sam3D:
    return build_sam3d(config, formula_state(Sam3D(config)))


def prompt_mask(config: Sam3DConfig, kind: str | None) -> Tensor | None:
    mask = formula_mask(config.mask_size)
    return None if kind is None else torch.zeros_like(mask) if kind == "zero" else mask


def golden_outputs(config: Sam3DConfig) -> dict[str, Tensor]:
    """The embedding and the answers of one network."""
    model = golden_model(config)
    with torch.no_grad():
        embedding = model.encode(formula_image(config.image_size))
        out = {f"{config.name}.embedding": embedding}
        for name, (coords, labels, mask) in PROMPTS.items():
            logits, iou = model.decode(
                embedding, coords, labels, prompt_mask(config, mask), multimask=name == "mask_only"
            )
            # Every third voxel keeps the file small and still sees every sub-voxel position.
            out[f"{config.name}.{name}.logits"] = logits.flatten(2)[..., ::3].contiguous()
            out[f"{config.name}.{name}.iou"] = iou
    return out
