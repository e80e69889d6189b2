"""Networks side by side: which cases, what they cost, and sparse against dense attention."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import nn

from FastSAM3DCore.cli import main
from FastSAM3DCore.cli.compare import parse_candidate
from FastSAM3DCore.errors import PromptError
from FastSAM3DCore.evaluate.cases import Case
from FastSAM3DCore.evaluate.compare import gflop, measure_costs, paired_difference
from FastSAM3DCore.evaluate.selection import cases_of_split, spread_over_groups
from FastSAM3DCore.io.native import image_from_array
from FastSAM3DCore.kernels.sparse_attention import dense_attention_3d
from FastSAM3DCore.modeling.hires import HiresConfig, build_hires, load_hires, save_hires
from FastSAM3DCore.training.attention_study import study_attention, with_window
from Testing.core.phantoms import ball_scan

TINY = HiresConfig(name="tiny", stem=8, middle=16, width=32, heads=2, depth=2, attention_from=0, decoder=(8, 16, 32))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compare")
    for name, radius in (("ct_ball_01", 12.0), ("ct_ball_02", 9.0), ("mr_ball_x1", 10.0), ("ct_ball_03", 8.0)):
        scan, ball = ball_scan(np.eye(4), radius_mm=radius)
        (root / name).mkdir()
        for file, array in (("image", scan.array_kji), ("label", ball.astype(np.uint8))):
            sitk.WriteImage(image_from_array(array, np.eye(4)), str(root / name / f"{file}.nii.gz"))
    split = {"train": ["ct_ball_03"], "held_out": ["ct_ball_01", "ct_ball_02", "mr_ball_x1"]}
    (root / "splits.json").write_text(json.dumps(split))
    torch.manual_seed(0)
    save_hires(build_hires(TINY), root / "shallow.safetensors")
    save_hires(build_hires(dataclasses.replace(TINY, depth=4, window=0)), root / "deep.safetensors")
    return root


def test_of_each_group_so_many_cases_are_taken_evenly_over_their_names() -> None:
    cases = [Case(Path(f"mr_heart_{n:02}")) for n in range(9)] + [Case(Path("ct_bone_1")), Case(Path("ct_skin_1"))]
    taken = [case.name for case in spread_over_groups(cases, 3)]
    assert taken == ["ct_bone_1", "ct_skin_1", "mr_heart_00", "mr_heart_04", "mr_heart_08"]
    assert spread_over_groups(cases, None) == cases


def test_a_split_names_the_cases(folder: Path) -> None:
    assert [c.name for c in cases_of_split(folder, folder / "splits.json", "train")] == ["ct_ball_03"]
    assert len(cases_of_split(folder, folder / "splits.json", "held_out")) == 3


def test_differences_are_paired_by_structure_and_their_error_counts_cases() -> None:
    def rows(*values: float) -> list[dict[str, object]]:
        return [{"case": case, "dice": {"1": v}} for case, v in zip("aab", values, strict=True)]

    found = paired_difference(rows(0.5, 0.5, 0.5), rows(0.6, 0.8, 0.5))["1"]
    assert found["mean"] == pytest.approx(0.4 / 3, abs=1e-4)
    assert found["standard_error"] == pytest.approx(0.1)  # case means .2 and 0


def test_operations_are_counted_by_hand_for_attention_and_convolutions() -> None:
    q = torch.randn(1, 2, 100, 16)
    assert gflop(lambda: dense_attention_3d(q, q, q)) == pytest.approx(2 * 2 * 2 * 100 * 100 * 16 / 1e9)
    grouped = nn.Conv3d(8, 16, 3, padding=1, groups=4)
    x = torch.randn(1, 8, 6, 6, 6)
    wanted = 2 * 16 * 6**3 * 2 * 27 / 1e9
    assert gflop(lambda: grouped(x)) == pytest.approx(wanted)
    own = torch.mkldnn_convolution
    assert gflop(lambda: own(x, grouped.weight, grouped.bias, (1,) * 3, (1,) * 3, (1,) * 3, 4)) == pytest.approx(wanted)


def test_a_deeper_trunk_has_more_parameters_and_operations_to_encode_but_not_to_answer(folder: Path) -> None:
    models = {name: load_hires(folder / f"{name}.safetensors") for name in ("shallow", "deep")}
    costs = measure_costs(models, 32, torch.float32, 0.1)
    shallow, deep = costs["shallow"], costs["deep"]
    assert deep.parameters - shallow.parameters == sum(
        p.numel() for block in list(models["deep"].encoder.trunk)[2:] for p in block.parameters()
    )
    assert deep.encode_gflop > shallow.encode_gflop > 0
    assert deep.decode_gflop == pytest.approx(shallow.decode_gflop, rel=0.02)
    assert min(deep.encode_ms, deep.decode_ms) > 0


def test_the_command_prints_a_table_of_all_networks(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", "models", folder, f"deep={folder / 'deep.safetensors'}", folder / "shallow.safetensors"]
    arguments += ["--splits", folder / "splits.json", "--clicks", "1,2", "--per-group", 1, "--crop", 16]
    arguments += ["--json", folder / "c.json", "--markdown", folder / "c.md"]
    assert main([str(a) for a in arguments]) == 0
    out, _ = capfd.readouterr()
    lines = (folder / "c.md").read_text().splitlines()
    assert lines[0] == "<!-- begin: fastsam3d compare models -->"
    assert lines[1:-1] == out.strip().splitlines()
    results = json.loads((folder / "c.json").read_text())
    assert [row["name"] for row in results["models"]] == ["deep", "shallow"]
    assert results["cases"] == ["ct_ball_01", "mr_ball_x1"]
    assert results["models"][0]["difference"] is None
    assert results["models"][1]["difference"]["2"]["mean"] == pytest.approx(
        results["models"][1]["dice"]["2"] - results["models"][0]["dice"]["2"], abs=2e-4
    )
    assert out.count("| deep |") == out.count("| shallow |") == 1


@pytest.mark.parametrize("text", ["=x.safetensors", "name=", ""])
def test_a_candidate_needs_a_model_and_a_name(text: str) -> None:
    with pytest.raises(PromptError, match="NAME=MODEL"):
        parse_candidate(text)


def test_a_candidate_without_a_name_is_called_after_its_file() -> None:
    assert parse_candidate("runs/student.safetensors") == ("student", "runs/student.safetensors")
    assert parse_candidate("a=runs/x=1.safetensors") == ("a", "runs/x=1.safetensors")


# -- attention ---------------------------------------------------------------------------------------------------------
def test_another_window_keeps_the_weights_and_changes_answers_only_on_grids_larger_than_it(folder: Path) -> None:
    model = load_hires(folder / "shallow.safetensors")
    dense = with_window(model, 0)
    assert dense.config.window == 0
    small, large = torch.randn(1, 1, 32, 32, 32), torch.randn(1, 1, 64, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(model.encode(small)["coarse"], dense.encode(small)["coarse"], atol=1e-5)
        assert not torch.allclose(model.encode(large)["coarse"], dense.encode(large)["coarse"], atol=1e-3)


def test_the_study_sets_both_kinds_of_attention_side_by_side(folder: Path) -> None:
    weights = [("tiny", str(folder / "shallow.safetensors")), ("deep", str(folder / "deep.safetensors"))]
    results = study_attention(
        weights, folder, ["ct_ball_01", "ct_ball_02"], sizes=(32, 48), crops=2, clicks=2, seconds=0.1
    )
    rows = results["rows"]
    assert [(r["name"], r["trained"], r["tokens"]) for r in rows] == [
        ("tiny", "sparse", 64), ("deep", "dense", 64), ("tiny", "sparse", 216), ("deep", "dense", 216)
    ]  # fmt: skip
    for row in rows:
        assert row["crops"] == 2
        assert len(row["dice"]["sparse"]) == 2
        assert row["difference"] == pytest.approx(row["dice"]["sparse"][-1] - row["dice"]["dense"][-1], abs=2e-4)
        assert min(row["encode_ms"].values()) > 0
    assert rows[0]["difference"] == 0  # 4 x 4 x 4 tokens are one window
