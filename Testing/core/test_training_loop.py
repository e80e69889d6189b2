"""Training: learning, interruption, several processes and precision, on tiny networks."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from FastSAM3DCore.modeling.hires import load_hires
from FastSAM3DCore.training.config import ConfigError, SizePlan
from FastSAM3DCore.training.loop import Trainer
from Testing.core.tiny_training import TINY, losses, tiny_config

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_tiny_network_learns_to_follow_prompts(tmp_path):
    config = tiny_config(tmp_path, steps=150, learning_rate=4e-3, plans=(SizePlan(size=16, crops=4, targets=3),))
    Trainer(config, "cpu").run()
    with (tmp_path / "curves.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    early, late = rows[:20], rows[-30:]

    def mean(part: list[dict[str, str]], key: str) -> float:
        return sum(float(row[key]) for row in part) / len(part)

    assert mean(late, "loss") < 0.8 * mean(early, "loss")
    assert mean(late, "last_dice") > mean(early, "last_dice") + 0.2
    assert load_hires(tmp_path / "weights.safetensors").config == TINY
    assert (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_repeats_the_uninterrupted_one_to_the_digit(tmp_path, optimizer):
    whole = tiny_config(tmp_path / "whole", steps=14, optimizer=optimizer)
    Trainer(whole, "cpu").run()
    parts = tiny_config(tmp_path / "parts", steps=14, optimizer=optimizer)
    Trainer(parts, "cpu").run(stop_at=6)
    again = Trainer(parts, "cpu")
    assert again.resume()
    assert again.step == 6
    again.run()
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    one, two = (load_hires(tmp_path / name / "weights.safetensors").state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_checkpoint_of_another_optimizer_is_refused_and_says_how_to_go_on(tmp_path):
    Trainer(tiny_config(tmp_path, steps=2), "cpu").run()
    with pytest.raises(ConfigError, match=r"adamw.*initial"):
        Trainer(tiny_config(tmp_path, steps=4, optimizer="muon"), "cpu").resume()


def test_two_processes_train_together_and_stop_at_the_same_step(tmp_path):
    config = tiny_config(tmp_path / "run", steps=4)
    (tmp_path / "c.json").write_text(config.to_json())
    code = (
        "import sys, torch; torch.set_num_threads(1); from pathlib import Path\n"
        "from FastSAM3DCore.training.config import TrainConfig; from FastSAM3DCore.training.loop import train\n"
        "trainer = train(TrainConfig.load(Path(sys.argv[1])), 'cpu')\n"
        "total = sum(float(p.detach().double().sum()) for p in trainer.model.parameters())\n"
        "Path(sys.argv[1]).with_name(f'rank{trainer.rank}.txt').write_text(f'{trainer.step} {total!r}')\n"
    )
    (tmp_path / "run.py").write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "run.py"), str(tmp_path / "c.json")], env=environment, check=True)
    ranks = [(tmp_path / f"rank{k}.txt").read_text() for k in (0, 1)]
    assert ranks[0] == ranks[1]
    assert ranks[0].startswith("4 ")


@pytest.mark.parametrize(("fast", "half"), [(torch.float32, False), (torch.bfloat16, True)])
def test_bfloat16_is_used_only_where_it_is_faster(tmp_path, monkeypatch, fast, half):
    monkeypatch.setattr("FastSAM3DCore.training.loop.fast_dtype", lambda device: fast)
    assert Trainer(tiny_config(tmp_path, bfloat16=True), "cpu").task.use_bfloat16 is half
    assert Trainer(tiny_config(tmp_path, bfloat16=False), "cpu").task.use_bfloat16 is False
