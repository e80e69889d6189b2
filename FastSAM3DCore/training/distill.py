"""Layer-wise progressive distillation: block by block from shallow to deep, then the encoder, then everything.

FastSAM3D (Shen et al., MICCAI 2024) with the recipe of its text rather than of its code: every student block k has
its own teacher block, rk with r = teacher depth / student depth; features are compared where both networks compute
them from the same input, once normalised; stages follow a budget that is set, not a counter that runs past the end.

Stem, feature pyramid and decoder start as the teacher's, and block k as the teacher's block rk where it has the same
parts, since both networks share their widths.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn

from ..modeling.hires import HiresConfig, HiresModel, build_hires, load_hires
from .checkpoint import load_checkpoint
from .config import ConfigError, DistillPlan, TrainConfig
from .data.draw import Draw
from .data.pool import Batch
from .loop import Trainer, fast_layout
from .schedule import Slot
from .step import InteractiveStep, StepResult

__all__ = ["DistillTask", "DistillTrainer", "distill", "feature_error", "inherit", "stage_at"]

_NO_DICE = torch.tensor(float("nan"))  # before the last stage nobody answers prompts
_MAPS = ("fine", "click", "middle", "coarse")


def feature_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of (B, C, ...) maps in units of the teacher's variance per channel."""
    axes = (0, *range(2, teacher.ndim))
    variance = teacher.float().var(axes, keepdim=True)
    error: Tensor = ((student.float() - teacher.float()).square() / (variance + 1e-3 * variance.mean() + 1e-8)).mean()
    return error


def stage_at(plan: DistillPlan, depth: int, progress: float) -> int:
    """0..depth - 1: that block; depth: encoder output; depth + 1: end to end."""
    shares = plan.stages
    if plan.one_stage:  # the same budget before the end-to-end stage, spent on the encoder output alone
        shares = (*(0.0 for _ in range(depth)), sum(shares[:-1]), shares[-1])
    total, passed = sum(shares), 0.0
    for stage, share in enumerate(shares):
        passed += share / total
        if progress < passed - 1e-9:
            return stage
    return depth + 1


def inherit(student: HiresModel, teacher: HiresModel) -> None:
    """Copy into the student what it shares with the teacher.

    Raises:
        ConfigError: if widths differ or the teacher's depth is no multiple of the student's.
    """
    ours, theirs = student.config, teacher.config
    same = ("stem", "middle", "width", "heads", "embedding", "decoder", "decoder_blocks")
    differing = [name for name in same if getattr(ours, name) != getattr(theirs, name)]
    if differing or theirs.depth % ours.depth:
        raise ConfigError(
            f"a student of depth {ours.depth} cannot be distilled from a teacher of depth {theirs.depth}"
            + (f" with other {differing}" if differing else "")
            + "; give both the same widths, and the teacher a multiple of the student's depth"
        )
    ratio = theirs.depth // ours.depth
    source, target = teacher.state_dict(), student.state_dict()
    for key in target:
        origin = key
        if key.startswith("encoder.trunk."):
            _, _, index, rest = key.split(".", 3)
            origin = f"encoder.trunk.{ratio * (int(index) + 1) - 1}.{rest}"
        target[key] = source[origin].clone()
    student.load_state_dict(target)


class DistillTask(nn.Module):
    """Loss of one batch in a given stage.

    Args:
        model: the student.
        teacher: frozen.
        config: of the run.
        plan: of the distillation.
    """

    def __init__(self, model: HiresModel, teacher: HiresModel, config: TrainConfig, plan: DistillPlan) -> None:
        super().__init__()
        self.talk = InteractiveStep.of(config, model)
        self.student = model
        # A plain attribute in a list: the frozen teacher is no parameter of this module.
        self._teacher = [teacher]
        self.ratio = teacher.config.depth // model.config.depth
        self.feature_weight = plan.feature_weight

    def forward(self, batch: Batch, draw: Draw, stage: int, rounds: int) -> StepResult:
        """Feature error of the stage; with the task loss in the last one."""
        depth = self.student.config.depth
        if stage < depth:
            error = self.block_error(batch.image, stage)
            return StepResult(error, _NO_DICE, _NO_DICE)
        with torch.no_grad(), self.talk.autocast(batch.image):
            wanted = self._teacher[0].encode(batch.image)
        with self.talk.autocast(batch.image):
            embedding = self.student.encode(batch.image)
        error = torch.stack([feature_error(embedding[name], wanted[name]) for name in _MAPS]).mean()
        if stage == depth:
            return StepResult(error, _NO_DICE, _NO_DICE)
        result = self.talk.discuss(embedding, batch, draw, rounds)
        return dataclasses.replace(result, loss=result.loss + self.feature_weight * error)

    def block_error(self, image: Tensor, stage: int) -> Tensor:
        """How far the student's block `stage` is from the teacher's block of the same depth."""
        last = self.ratio * (stage + 1)
        with self.talk.autocast(image):
            with torch.no_grad():
                coarse = wanted = self._teacher[0].encoder.stem_features(image)[3]
                for block in list(self._teacher[0].encoder.trunk)[:last]:
                    wanted = block(wanted)
            for block in list(self.student.encoder.trunk)[: stage + 1]:
                coarse = block(coarse)
        return feature_error(coarse, wanted)


class DistillTrainer(Trainer):
    """A `Trainer` whose loss follows the stages of a `DistillPlan`."""

    def make_task(self) -> nn.Module:
        """The staged loss; the student starts as a thinned copy of the teacher."""
        plan = self.config.distill
        if plan is None or not plan.teacher:
            raise ConfigError(
                'the config names no teacher; add {"distill": {"teacher": "path/to/weights.safetensors"}}'
            )
        if len(plan.stages) != self.model.config.depth + 2:
            raise ConfigError(f"distill.stages needs {self.model.config.depth + 2} shares: one per block, then two")
        self.plan = plan
        teacher = fast_layout(load_teacher(Path(plan.teacher)).to(self.device)).eval().requires_grad_(False)
        if not self.config.initial:
            inherit(self.model, teacher)
            inherit(self.average, teacher)
        return self._distributed(DistillTask(self.model, teacher, self.config, plan))

    def forward(self, batch: Batch, draw: Draw, progress: float) -> StepResult:
        """Loss of the stage that the schedule has reached."""
        stage = stage_at(self.plan, self.model.config.depth, progress)
        result: StepResult = self.task(batch, draw, stage, self._rounds())
        return result


def load_teacher(path: Path) -> HiresModel:
    """Averaged weights of a training checkpoint, or exported weights."""
    if path.suffix != ".pt":
        return load_hires(path)
    state = load_checkpoint(path)
    model = build_hires(HiresConfig.from_json(state["network"]))
    model.load_state_dict(state["average"])
    return model


def distill(config: TrainConfig, device: str = "auto", fresh: bool = False, slot: Slot | None = None) -> DistillTrainer:
    """Run a distillation, as `train` runs a training."""
    return DistillTrainer(config, device).complete(fresh, slot)
