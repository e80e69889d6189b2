"""fastsam3d train and distill as a user meets them."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from FastSAM3DCore.cli.train import distill, train

SMALL = {
    "network": "custom",
    "custom": {"stem": 8, "middle": 16, "width": 32, "heads": 2, "depth": 2, "decoder": [8, 16, 32]},
    "plans": [{"size": 16, "crops": 1, "targets": 1}],
    "steps": 3,
}


@pytest.fixture
def app():
    made = typer.Typer()
    made.command("train")(train)
    made.command("distill")(distill)
    return made


def test_training_leaves_weights_checkpoint_and_curves(app, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(SMALL))
    result = CliRunner().invoke(app, ["train", str(tmp_path / "c.json"), "--output", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert {"weights.safetensors", "checkpoint.pt", "curves.csv", "curves.png"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


def test_more_steps_go_on_from_where_the_run_stopped(app, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({**SMALL, "output": str(tmp_path / "run")}))
    CliRunner().invoke(app, ["train", str(tmp_path / "c.json")])
    result = CliRunner().invoke(app, ["train", str(tmp_path / "c.json"), "--steps", "5"])
    assert result.exit_code == 0, result.output
    assert "resumed at step 3" in result.output
    assert (tmp_path / "run" / "curves.csv").read_text().strip().splitlines()[-1].startswith("4,")


def test_slots_of_minutes_end_cleanly_and_the_same_command_goes_on(app, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({**SMALL, "output": str(tmp_path / "run"), "steps": 100000}))
    command = ["train", str(tmp_path / "c.json"), "--minutes", "0.02"]
    reached = 0
    for _ in range(2):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        assert "the same command goes on" in result.output
        steps = int(result.output.split("stopped at step ")[1].split(":")[0])
        assert reached < steps < 100000
        assert (f"resumed at step {reached}" in result.output) == bool(reached)
        reached = steps
    assert len((tmp_path / "run" / "curves.csv").read_text().strip().splitlines()) == reached + 1


def test_a_preview_is_a_picture_and_trains_nothing(app, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({**SMALL, "output": str(tmp_path / "run")}))
    result = CliRunner().invoke(app, ["train", str(tmp_path / "c.json"), "--preview", str(tmp_path / "p.png")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "run").exists()


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
def test_a_bad_config_gives_one_line_and_exit_code_two(app, tmp_path, command, changes, word):
    config = {**SMALL, "output": str(tmp_path / "run"), **changes}
    (tmp_path / "c.json").write_text(json.dumps(config))
    result = CliRunner().invoke(app, [command, str(tmp_path / "c.json")])
    assert result.exit_code == 2
    assert word in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
