"""What a training step keeps for its backward pass, counted on the CPU and scaled to the batches of a config.

The storages that autograd saves during one forward pass under bfloat16 autocast are added up, for one crop and two, one
target and two, all at 32^3 and with as many prompts as a dialogue can have; differences give bytes per crop and per
target, without what is kept once (weights turned to bfloat16). Both grow with the voxels: attention keeps no matrix on
a card. What this leaves out is memory that lives for one operator only, gradients on their way back, what autocast
keeps in float32 on a card but not on a CPU (normalisation), and fragmentation; `MARGIN` is for them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from FastSAM3DCore.modeling.hires import HiresModel, build_hires
from FastSAM3DCore.training.config import SizePlan, TrainConfig
from FastSAM3DCore.training.data.draw import Draw
from FastSAM3DCore.training.data.pool import Batch
from FastSAM3DCore.training.loop import fast_layout
from FastSAM3DCore.training.step import InteractiveStep

MARGIN = 2.0
SIDE = 32
COPIES = 6  # weights, gradients, average, momentum, second moment, one to spare; float32


@dataclass(frozen=True)
class Kept:
    """Bytes per voxel that a crop and each of its targets keep, and bytes of the weights and what goes with them."""

    crop: float
    target: float
    weights: float

    def gigabytes(self, plan: SizePlan) -> float:
        """What a batch of a plan keeps, margin included."""
        voxels = plan.size**3 * plan.crops
        return (MARGIN * voxels * (self.crop + plan.targets * self.target) + self.weights) / 1e9


def count(config: TrainConfig) -> Kept:
    """Count for the network and the longest dialogue of a config."""
    model = fast_layout(build_hires(config.model)).train()
    rounds = config.max_clicks
    one = saved_bytes(model, 1, 1, rounds)
    crop_and_target = (saved_bytes(model, 2, 1, rounds) - one) / SIDE**3
    target = (saved_bytes(model, 1, 2, rounds) - one) / SIDE**3
    weights = 4.0 * COPIES * sum(p.numel() for p in model.parameters())
    return Kept(crop_and_target - target, target, weights)


def saved_bytes(model: HiresModel, crops: int, targets: int, rounds: int) -> int:
    """Storages saved for the backward pass of one step, weights not counted."""
    masks = torch.zeros(crops * targets, SIDE, SIDE, SIDE, dtype=torch.bool)
    masks[:, 8:20, 8:20, 8:20] = True
    batch = Batch(torch.randn(crops, 1, SIDE, SIDE, SIDE), masks, [])
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, int] = {}
    alive = []  # so that no address is used twice

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
            alive.append(x)
        return x

    step: nn.Module = InteractiveStep(model, box_share=0.35, mask_share=0.0, use_bfloat16=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        step(batch, Draw(0, 0), rounds)
    return sum(found.values())
