"""Distillation: stages, what the student inherits, and runs killed in the middle, on tiny networks."""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from FastSAM3DCore.modeling.hires import build_hires, load_hires, save_hires
from FastSAM3DCore.training.config import ConfigError, DistillPlan, TrainConfig
from FastSAM3DCore.training.data.draw import Draw
from FastSAM3DCore.training.distill import DistillTrainer, stage_at
from FastSAM3DCore.training.loop import Trainer
from Testing.core.tiny_training import TINY, losses, tiny_config

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A fixed network with lively features stands in for a trained one."""
    torch.manual_seed(0)
    model = build_hires(TINY)
    with torch.no_grad():
        for parameter in model.encoder.trunk.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    path = tmp_path_factory.mktemp("teacher") / "t.safetensors"
    save_hires(model, path)
    return path


def distill_config(folder: Path, teacher: Path, **changes: object) -> TrainConfig:
    student = dataclasses.replace(TINY, name="student", depth=2, attention_from=1, window=2)
    plan = DistillPlan(teacher=str(teacher), stages=(0.25, 0.25, 0.25, 0.25))
    return tiny_config(folder, custom=student, distill=plan, learning_rate=3e-3, **changes)


def test_stages_run_from_shallow_to_deep_and_end_with_everything():
    plan = DistillPlan(stages=(0.1, 0.2, 0.3, 0.4))
    order = [stage_at(plan, 2, p) for p in np.linspace(0, 1, 101)]
    assert order == sorted(order)
    assert set(order) == {0, 1, 2, 3}
    assert [order.count(k) for k in range(3)] == [10, 20, 30]
    single = dataclasses.replace(plan, one_stage=True)
    assert {stage_at(single, 2, p) for p in np.linspace(0, 1, 101)} == {2, 3}


def test_every_stage_brings_its_block_closer_to_the_teachers(tmp_path, teacher):
    trainer = DistillTrainer(distill_config(tmp_path, teacher, steps=120), "cpu")
    image = trainer.pool.batch(Draw(9, 9), (16, 16, 16), 8, 1).image
    for stage, stop in ((0, 30), (1, 60)):
        with torch.no_grad():
            before = float(trainer.task.block_error(image, stage))
        trainer.run(stop_at=stop)
        with torch.no_grad():
            after = float(trainer.task.block_error(image, stage))
        assert after < 0.8 * before


def test_the_student_starts_with_the_teachers_stem_and_decoder(tmp_path, teacher):
    trainer = DistillTrainer(distill_config(tmp_path, teacher), "cpu")
    theirs, ours = load_hires(teacher).state_dict(), trainer.model.state_dict()
    for key in ("encoder.stem.weight", "decoder.enter.weight"):
        assert torch.equal(ours[key], theirs[key])
    assert torch.equal(ours["encoder.trunk.1.expand.weight"], theirs["encoder.trunk.3.expand.weight"])


def test_a_resumed_distillation_repeats_the_uninterrupted_one(tmp_path, teacher):
    DistillTrainer(distill_config(tmp_path / "whole", teacher, steps=16), "cpu").run()
    DistillTrainer(distill_config(tmp_path / "parts", teacher, steps=16), "cpu").run(stop_at=9)
    again = DistillTrainer(distill_config(tmp_path / "parts", teacher, steps=16), "cpu")
    assert again.resume()
    again.run()
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_a_student_of_other_widths_is_refused(tmp_path, teacher):
    config = distill_config(tmp_path, teacher)
    wide = dataclasses.replace(config, custom=dataclasses.replace(config.custom, width=48))
    with pytest.raises(ConfigError, match="width"):
        DistillTrainer(wide, "cpu")


@pytest.mark.parametrize("kind", ["train", "distill"])
def test_a_killed_run_of_the_command_resumes_on_the_same_curve(tmp_path, teacher, kind):
    base = {"train": tiny_config, "distill": functools.partial(distill_config, teacher=teacher)}[kind]
    whole, killed = (base(tmp_path / name, steps=30, checkpoint_seconds=0.2) for name in ("whole", "killed"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def command(config: TrainConfig) -> list[str]:
        path = Path(config.output + ".json")
        path.write_text(config.to_json())
        return [sys.executable, "-m", "FastSAM3DCore.cli", kind, str(path), "--device", "cpu"]

    {"train": Trainer, "distill": DistillTrainer}[kind](whole, "cpu").run()
    with subprocess.Popen(command(killed), env=environment, stdout=subprocess.DEVNULL) as run:
        for _ in range(1200):
            if (tmp_path / "killed" / "checkpoint.pt").exists() or run.poll() is not None:
                break
            time.sleep(0.05)
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    done = subprocess.run(command(killed), env=environment, capture_output=True, text=True, check=True)
    assert "resumed at step" in done.stdout
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 30
