"""Training: configurations, the split, the schedule."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from FastSAM3DCore.training.config import ConfigError, DistillPlan, TrainConfig
from FastSAM3DCore.training.schedule import Schedule
from Testing.core.tiny_training import tiny_config

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("one_thread")


def test_an_unknown_key_is_refused_wherever_it_is(tmp_path):
    for text, name in (
        ('{"lerning_rate": 1}', "lerning_rate"),
        ('{"plans": [{"size": 32, "crop": 1}]}', "crop"),
        ('{"distill": {"teachr": "x"}}', "teachr"),
    ):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(ConfigError, match=name):
            TrainConfig.load(tmp_path / "c.json")


@pytest.mark.parametrize(
    "text",
    ['{"steps": "many"}', '{"plans": []}', '{"plans": [{"size": 20}]}', '{"network": "giant"}', "{", '{"steps": 0}'],
)
def test_impossible_values_are_refused(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ConfigError):
        TrainConfig.load(tmp_path / "c.json")


def test_a_config_survives_its_own_json(tmp_path):
    config = tiny_config(tmp_path, distill=DistillPlan(teacher="t.safetensors"))
    (tmp_path / "c.json").write_text(config.to_json())
    assert TrainConfig.load(tmp_path / "c.json") == config


@pytest.mark.parametrize("path", sorted((ROOT / "Resources" / "training").glob("*.json")), ids=lambda p: p.name)
def test_every_config_in_the_repository_is_valid(path):
    if path.name == "splits.json":
        return
    assert TrainConfig.load(path).steps > 0


def test_the_ablations_get_the_students_budget_and_data():
    folder = ROOT / "Resources" / "training"
    student, scratch, one = (TrainConfig.load(folder / f"{n}.json") for n in ("student", "scratch", "one_stage"))
    for other in (scratch, one):
        for key in ("steps", "plans", "mix", "splits", "seed", "model", "decay", "ema", "reuse", "box_share"):
            assert getattr(other, key) == getattr(student, key), key
    assert scratch.distill is None
    assert one.distill == dataclasses.replace(student.distill, one_stage=True)


def test_the_split_keeps_held_out_scans_and_patients_out_of_training():
    split = json.loads((ROOT / "Resources" / "training" / "splits.json").read_text())
    train, held_out = split["train"], split["held_out"]
    assert not set(train) & set(held_out)
    assert set(split["calibration"]) < set(held_out)
    assert not [name for name in split["calibration"] if "hippocampus" in name]  # share-alike: for scores alone
    assert len(held_out) >= (len(train) + len(held_out)) / 3
    never = ("hippocampus", "cc_a01", "stroke", "spine", "braintumor", "mni152", "cit168", "chest_cip64")
    assert not [name for name in [*train, *split["unlabelled"]] if any(word in name for word in never)]
    patients = {name.rsplit("_", 1)[1] for name in train if "sarcoma" in name}
    assert not [n for n in held_out if "sarcoma" in n and n.rsplit("_", 1)[1] in patients]


def test_the_learning_rate_warms_up_stays_and_falls_to_nothing():
    schedule = Schedule(steps=100, warmup=10, decay=0.25, started=0.0, ends=None)
    factors = [schedule.factor(step, 0.0) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9:74] == [1.0] * 65
    assert factors[99] < 0.05
    by_clock = Schedule(steps=100, warmup=1, decay=0.5, started=1000.0, ends=2000.0)
    assert by_clock.factor(50, 1400.0) == 1.0
    assert by_clock.factor(50, 1750.0) == pytest.approx(0.5)
