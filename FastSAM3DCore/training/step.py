"""One interactive sample: encode once, then prompt, look, correct, as a person would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..modeling.hires import HiresModel
from ..modeling.hires.decoder import Candidates
from .config import TrainConfig
from .data.draw import Draw
from .data.pool import Batch
from .losses import candidate_loss, dice_score, mask_loss, soft_overlap
from .prompting import Dialogue, corrective_clicks, first_prompts

__all__ = ["InteractiveStep", "StepResult"]

_AUXILIARY, _QUALITY, _CANDIDATES = 0.3, 0.1, 0.5


@dataclass(frozen=True, slots=True)
class StepResult:
    """Loss to descend and figures to show.

    Attributes:
        loss: scalar with a graph.
        first_dice: mean Dice after the first prompt, on the device: to read it is to wait for the step.
        last_dice: mean Dice after the last.
    """

    loss: Tensor
    first_dice: Tensor
    last_dice: Tensor


class InteractiveStep(nn.Module):
    """A module, so that it can be wrapped by DistributedDataParallel.

    Args:
        model: the network.
        box_share: samples that begin with a box.
        mask_share: samples that begin with a degraded mask.
        use_bfloat16: autocast.
    """

    def __init__(self, model: HiresModel, box_share: float, mask_share: float, use_bfloat16: bool) -> None:
        super().__init__()
        self.model = model
        self.box_share, self.mask_share, self.use_bfloat16 = box_share, mask_share, use_bfloat16

    @classmethod
    def of(cls, config: TrainConfig, model: HiresModel) -> Self:
        """The dialogues that a config asks for."""
        return cls(model, config.box_share, config.mask_share, config.bfloat16)

    def forward(self, batch: Batch, draw: Draw, rounds: int) -> StepResult:
        """Average loss over `rounds` prompts about every target of the batch."""
        with self.autocast(batch.image):
            embedding = self.model.encode(batch.image)
        return self.discuss(embedding, batch, draw, rounds)

    def discuss(self, embedding: dict[str, Tensor], batch: Batch, draw: Draw, rounds: int) -> StepResult:
        """The dialogue about crops that are already encoded."""
        target = batch.targets[:, None].float()
        dialogue = first_prompts(
            draw, batch.targets, self.box_share, self.mask_share, len(batch.targets) // len(batch.image)
        )
        losses, scores = [], []
        for turn in range(rounds):
            found = self.ask(embedding, dialogue, multimask=turn == 0)
            losses.append(prompt_loss(found, target, dialogue.plain_click if turn == 0 else None))
            scores.append(dice_score(found.single, batch.targets).mean())
            if turn + 1 < rounds:
                self.answer(found, dialogue, batch.targets, draw)
        return StepResult(torch.stack(losses).mean(), scores[0], scores[-1])

    def ask(self, embedding: dict[str, Tensor], dialogue: Dialogue, multimask: bool) -> Candidates:
        """Decode what has been said so far."""
        with self.autocast(embedding["intensity"]):
            return self.model.candidates(
                embedding, dialogue.points, dialogue.labels, dialogue.mask, multimask, dialogue.boxes
            )

    @staticmethod
    def answer(found: Candidates, dialogue: Dialogue, targets: Tensor, draw: Draw) -> None:
        """Feed the logits back and click on what is wrong."""
        logits = found.single.detach()
        points, labels = corrective_clicks(draw, (logits[:, 0] > 0) != targets, targets)
        dialogue.add(points, labels)
        dialogue.mask = logits

    def autocast(self, x: Tensor) -> torch.autocast:
        """bfloat16 where the run uses it."""
        return torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.use_bfloat16)


def prompt_loss(found: Candidates, target: Tensor, ambiguous: Tensor | None) -> Tensor:
    """Mask, half-resolution, quality and (for ambiguous first clicks) candidate losses."""
    loss = mask_loss(found.single, target).mean()
    loss = loss + _AUXILIARY * mask_loss(found.half, F.avg_pool3d(target, 2)).mean()
    logits = found.single if found.multiple is None else torch.cat([found.single, found.multiple], 1)
    overlap = soft_overlap(logits, target)
    loss = loss + _QUALITY * F.l1_loss(torch.sigmoid(found.quality), overlap)
    if found.multiple is not None and ambiguous is not None:
        share = ambiguous.float()
        each = candidate_loss(found.multiple, target)
        loss = loss + _CANDIDATES * (each * share).sum() / share.sum().clamp(min=1)
    return loss
