"""fastsam3d train and distill as a user meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from FastSAM3DCore.cli import main

SMALL = {
    "network": "custom",
    "custom": {"stem": 8, "middle": 16, "width": 32, "heads": 2, "depth": 2, "decoder": [8, 16, 32]},
    "plans": [{"size": 16, "crops": 1, "targets": 1}],
    "steps": 3,
}


@pytest.fixture
def run(capfd) -> Callable[..., str]:
    """Run a command that must succeed; returns what it printed."""

    def run(*arguments: str | Path) -> str:
        code = main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        assert code == 0, err
        return out + err

    return run


def test_training_leaves_weights_checkpoint_and_curves(run, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(SMALL))
    run("train", tmp_path / "c.json", "--output", str(tmp_path / "run"))
    assert {"weights.safetensors", "checkpoint.pt", "curves.csv", "curves.png"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


def test_more_steps_go_on_from_where_the_run_stopped(run, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({**SMALL, "output": str(tmp_path / "run")}))
    run("train", tmp_path / "c.json")
    said = run("train", tmp_path / "c.json", "--steps", "5")
    assert "resumed at step 3" in said
    assert (tmp_path / "run" / "curves.csv").read_text().strip().splitlines()[-1].startswith("4,")


def test_slots_of_minutes_end_cleanly_and_the_same_command_goes_on(run, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({**SMALL, "output": str(tmp_path / "run"), "steps": 100000}))
    reached = 0
    for _ in range(2):
        said = run("train", tmp_path / "c.json", "--minutes", "0.02")
        assert "the same command goes on" in said
        steps = int(said.split("stopped at step ")[1].split(":")[0])
        assert reached < steps < 100000
        assert (f"resumed at step {reached}" in said) == bool(reached)
        reached = steps
    assert len((tmp_path / "run" / "curves.csv").read_text().strip().splitlines()) == reached + 1


def test_a_preview_is_a_picture_and_trains_nothing(run, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({**SMALL, "output": str(tmp_path / "run")}))
    run("train", tmp_path / "c.json", "--preview", str(tmp_path / "p.png"))
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "run").exists()


def test_a_preview_of_another_ending_is_refused_at_once(capfd, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(SMALL))
    assert main(["train", str(tmp_path / "c.json"), "--preview", str(tmp_path / "p.txt")]) == 2
    assert "must end in .png" in capfd.readouterr().err
    assert not (tmp_path / "p.txt").exists()


@pytest.mark.parametrize(
    ("command", "changes", "word"),
    [
        ("train", {"stepz": 1}, "stepz"),
        ("train", {"deadline": "tomorrow"}, "tomorrow"),
        ("train", {"data": ".", "splits": "nowhere.json"}, "nowhere.json"),
        ("train", {"data": ".", "splits": __file__}, "JSON"),
        ("train", {"initial": "nowhere.safetensors"}, "nowhere.safetensors"),
        ("distill", {}, "teacher"),
        ("distill", {"distill": {"teacher": "nowhere.safetensors", "stages": [1, 1, 1, 1]}}, "nowhere"),
    ],
)
def test_a_bad_config_gives_one_line_and_exit_code_two(capfd, tmp_path, command, changes, word):
    config = {**SMALL, "output": str(tmp_path / "run"), **changes}
    (tmp_path / "c.json").write_text(json.dumps(config))
    assert main([command, str(tmp_path / "c.json")]) == 2
    said = capfd.readouterr().err
    assert said.startswith("fastsam3d: error: ")
    assert word in said
    assert said.count("\n") == 1
