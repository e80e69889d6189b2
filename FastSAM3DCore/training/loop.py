"""The training loop: resumable to the step, on CPU, one GPU, or several through torch's own DDP."""

from __future__ import annotations

import copy
import json
import logging
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..modeling.hires import HiresModel, build_hires, load_hires, save_hires
from ..precision import fast_dtype
from ..splits import read_splits
from .checkpoint import load_checkpoint, random_state, restore_random_state, save_checkpoint
from .config import ConfigError, TrainConfig
from .data.draw import Draw, Shape
from .data.engine import DataEngine
from .data.pool import Batch, ScenePool
from .optimizer import make_optimizer
from .progress import Curves, Reporter, plot_curves
from .schedule import Schedule, Slot, pick_plan
from .step import InteractiveStep, StepResult

if TYPE_CHECKING:
    from .holdout import HeldOutCrop

__all__ = ["Trainer", "train"]

logger = logging.getLogger(__name__)
_PROMPT_SEED = 1_000_003


class Trainer:
    """Holds the state of a run.

    Args:
        config: of the run.
        device: where to train; "auto" takes CUDA if there is one.
        reporter: where progress is shown.
    """

    def __init__(self, config: TrainConfig, device: str = "auto", reporter: Reporter | None = None) -> None:
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.device = _device(device)
        if self.world > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        # A Zen 3 core, without units for bfloat16, takes eleven times as long in it: 0.4 -> 4.4 s, one crop of 32^3.
        # Measured, so rank 0 decides: optimisers that round differently would drift apart.
        half = config.bfloat16 and fast_dtype(self.device) == torch.bfloat16
        self.config = replace(config, bfloat16=bool(self._rank_0s(float(half))))
        self.output = Path(config.output)
        self.output.mkdir(parents=True, exist_ok=True)
        self.reporter = reporter or Reporter()
        torch.manual_seed(config.seed)
        self.model = self._network()
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.engine = DataEngine.of(config, self.device)
        self.pool = ScenePool(self.engine, config.reuse, config.pool, stride=self.world, following=self.rank)
        self.task: nn.Module = self.make_task()
        self.optimizer = make_optimizer(config, self.parameters())
        self.step, self.seen, self.seconds, self.started = 0, 0, 0.0, time.time()
        self.held_out: list[HeldOutCrop] | None = None

    # -- what distillation changes ----------------------------------------------------------------------------------
    def make_task(self) -> nn.Module:
        """The module whose forward gives the loss."""
        return self._distributed(InteractiveStep.of(self.config, self.model))

    def parameters(self) -> list[nn.Parameter]:
        """What the optimiser updates."""
        return list(self.model.parameters())

    def forward(self, batch: Batch, draw: Draw, progress: float) -> StepResult:
        """Loss of one batch."""
        result: StepResult = self.task(batch, draw, self._rounds())
        return result

    # -- the loop ---------------------------------------------------------------------------------------------------
    def run(self, stop_at: int | None = None, slot: Slot | None = None) -> None:
        """Train until the schedule ends (or step `stop_at`, or the slot), then leave checkpoint, weights and curves."""
        curves = self._curves()
        schedule = Schedule.of(self.config, self.started)
        saved = exported = evaluated = time.time()
        while self.step != stop_at and (progress := self._agreed(schedule, slot)) is not None:
            row = self._one_step(schedule, progress)
            if curves is None:
                continue
            curves.add(row)
            self.reporter.step(row, progress)
            now = time.time()
            if now - saved > self.config.checkpoint_seconds:
                curves.flush()
                self.save()
                saved = now
            if self.config.export_seconds and now - exported > self.config.export_seconds:
                self.export()
                plot_curves(curves.path, self.output / "curves.png")
                exported = now
            if self.config.evaluate_seconds and now - evaluated > self.config.evaluate_seconds:
                self._evaluate()
                evaluated = time.time()
        if curves is not None:
            curves.close()
            self.save()
            self.export()
            plot_curves(curves.path, self.output / "curves.png")
            self._farewell(schedule)
        self.reporter.close()

    def complete(self, fresh: bool = False, slot: Slot | None = None) -> Self:
        """Go on from the checkpoint unless `fresh`, train for a slot or to the end, and leave the other processes."""
        if not fresh:
            self.resume()
        self.run(slot=slot)
        self._leave_group()
        return self

    def _leave_group(self) -> None:
        """The last thing to do before the process ends; waits until rank 0 has written its files.

        gloo's threads still free the last operations' objects for a moment. They need the interpreter for that, and
        abort the process if it is shutting down (4 of 25 runs on busy cores, torch 2.13), so they get half a second.
        """
        if self.world > 1:
            dist.barrier()
            dist.destroy_process_group()
            time.sleep(0.5)

    def _curves(self) -> Curves | None:
        """The table of the run, in rank 0; rows of earlier slots are safe at once."""
        if self.rank != 0:
            return None
        curves = Curves(self.output / "curves.csv", self.step)
        curves.flush()
        return curves

    def _farewell(self, schedule: Schedule) -> None:
        """Say whether there is more to do."""
        progress = schedule.progress(self.step, time.time())
        more = "finished" if progress >= 1 else f"{100 * progress:.1f} % done; the same command goes on from here"
        self.reporter.say(f"stopped at step {self.step}: {more}")

    def _one_step(self, schedule: Schedule, progress: float) -> dict[str, float]:
        began = time.time()
        rate = self.config.learning_rate * schedule.factor(self.step, began)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        draw = Draw(self.config.seed * _PROMPT_SEED + 17, self.step * self.world + self.rank, self.device)
        plan = pick_plan(Draw(self.config.seed, self.step), self.config.plans, self.step)
        batch = self.pool.batch(draw, _shape(draw, plan.size), plan.crops, plan.targets)
        result = self.forward(batch, draw, progress)
        self.optimizer.zero_grad(set_to_none=True)
        result.loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        self.optimizer.step()
        self._update_average()
        self.step += 1
        self.seen += len(batch.targets) * self.world
        self.seconds += time.time() - began
        return {
            "step": self.step - 1,
            "targets": self.seen,
            "seconds": round(self.seconds, 2),
            "size": plan.size,
            "rate": rate,
            "loss": round(float(result.loss.detach()), 5),
            "first_dice": round(float(result.first_dice), 4),
            "last_dice": round(float(result.last_dice), 4),
        }

    def _rounds(self) -> int:
        """Prompts per sample; the same on all ranks, so that none waits for another's longer dialogue."""
        draw = Draw(self.config.seed * _PROMPT_SEED + 29, self.step)
        if self.step < self.config.single_click_steps:
            return draw.python.choices([1, 2], [0.7, 0.3])[0]
        rounds = draw.python.choices([1, 2, 3, 4, 6], [0.27, 0.27, 0.2, 0.15, 0.11])[0]
        return min(rounds, self.config.max_clicks)

    @torch.no_grad()
    def _update_average(self) -> None:
        weight = 1 - min(self.config.ema, (self.step + 1) / (self.step + 10))
        averaged: list[Tensor] = list(self.average.parameters())
        torch._foreach_lerp_(averaged, [p.data for p in self.model.parameters()], weight)

    # -- state ------------------------------------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {
            "config": self.config.to_json(),
            "network": self.model.config.to_json(),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": random_state(),
            "pool": self.pool.state(),
            "counters": {
                "step": self.step,
                "seen": self.seen,
                "seconds": self.seconds,
                "started": self.started,
            },
        }

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(self.output / "checkpoint.pt", self.state())

    def resume(self, path: Path | None = None) -> bool:
        """Go on from a checkpoint if there is one."""
        path = path or self.output / "checkpoint.pt"
        if not path.exists():
            return False
        state = load_checkpoint(path)  # in main memory, where random states stay; the rest is copied to its device
        made = json.loads(state["config"]).get("optimizer", "adamw")
        if made != self.config.optimizer:
            raise ConfigError(
                f"{path} was made with optimizer {made}; keep that, or start a new output from its weights (`initial`)"
            )
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.pool.restore(state["pool"])
        self.pool.following += self.rank
        counters = state["counters"]
        self.step, self.seen = counters["step"], counters["seen"]
        self.seconds, self.started = counters["seconds"], counters["started"]
        restore_random_state(state["random"])
        self.reporter.say(f"resumed at step {self.step}")
        return True

    def export(self) -> None:
        """Write the averaged weights as `weights.safetensors`."""
        note = {"step": str(self.step), "targets": str(self.seen)}
        save_hires(self.average, self.output / "weights.safetensors", note)

    def _evaluate(self) -> None:
        from .holdout import held_out_crops, mean_scores  # needs scipy and SimpleITK, as everything about scans

        if self.held_out is None:
            cases = read_splits(Path(self.config.splits)).get("held_out", []) if self.config.splits else []
            picked = [c for c in cases if "hippocampus" not in c][::2]
            self.held_out = held_out_crops(Path(self.config.data) / "scans", picked, 64, 2)
        if not self.held_out:
            return
        began = time.time()
        scores = mean_scores(self.average, self.held_out, 5, bfloat16=self.config.bfloat16)
        text = "  ".join(f"{key} {value:.3f}" for key, value in scores.items())
        self.reporter.say(f"held out, step {self.step}, {self.seen} targets: {text}  ({time.time() - began:.0f} s)")
        with (self.output / "held_out.jsonl").open("a") as stream:
            stream.write(
                json.dumps({"step": self.step, "targets": self.seen, "seconds": self.seconds, **scores}) + "\n"
            )

    # -- construction -----------------------------------------------------------------------------------------------
    def _network(self) -> HiresModel:
        model = load_hires(Path(self.config.initial)) if self.config.initial else build_hires(self.config.model)
        return fast_layout(model.to(self.device)).train()

    def _agreed(self, schedule: Schedule, slot: Slot | None) -> float | None:
        """Progress, None if it is time to stop, by rank 0's clock, so that all ranks stop at the same step."""
        now = time.time()
        progress = schedule.progress(self.step, now)
        if slot is not None and slot.over(now):
            progress = 1.0
        progress = self._rank_0s(progress)
        return progress if progress < 1 else None

    def _rank_0s(self, value: float) -> float:
        """What rank 0 says, on every rank."""
        if self.world == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return float(shared)

    def _distributed(self, task: nn.Module) -> nn.Module:
        if self.world == 1:
            return task
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(task, device_ids=ids, find_unused_parameters=True)


def fast_layout(model: HiresModel) -> HiresModel:
    """Convolution weights with channels last: a tenth to a third faster on CPU and GPU; values do not change."""
    for parameter in model.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return model


def train(config: TrainConfig, device: str = "auto", fresh: bool = False, slot: Slot | None = None) -> Trainer:
    """Run a config, going on from its output folder's checkpoint unless `fresh`; for a slot of time, or to its end."""
    return Trainer(config, device).complete(fresh, slot)


def _device(name: str) -> torch.device:
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def _shape(draw: Draw, size: int) -> Shape:
    """Mostly cubes; one in eight crops is shorter along one axis."""
    sides = [size, size, size]
    if size > 32 and draw.chance(0.125):
        sides[draw.integer(0, 2)] = draw.choice(range(size // 2 // 8 * 8, size, 8))
    return sides[0], sides[1], sides[2]
