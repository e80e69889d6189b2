"""fastsam3d evaluate: the results' shape, resuming, several processes, reports."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from rich.console import Console

from FastSAM3DCore.cli import main
from FastSAM3DCore.cli.evaluate import run_evaluation
from FastSAM3DCore.errors import FastSAM3DError, ImageError
from FastSAM3DCore.evaluate.cases import Case, find_cases
from FastSAM3DCore.evaluate.markdown import results_markdown
from FastSAM3DCore.evaluate.report import results_table
from FastSAM3DCore.evaluate.runner import Settings
from FastSAM3DCore.io import Segment, save_segmentation
from FastSAM3DCore.io.native import image_from_array
from FastSAM3DCore.io.segmentation import mask_box
from FastSAM3DCore.types import Volume
from Testing.core.fakes import FakeSession
from Testing.core.phantoms import ball_scan

CLICKS = (1, 3)


def fake(model: str, device: str) -> FakeSession:
    return FakeSession(radius=8.3)


def failing(model: str, device: str) -> FakeSession:
    raise FastSAM3DError("no session today")


def write_case(folder: Path, name: str, spacing: float = 1.0) -> np.ndarray:
    """A ball of 12 mm (1), a bar (2) and a speck of 27 voxels (3), too small to count."""
    affine = np.diag([spacing, spacing, spacing, 1])
    scan, ball = ball_scan(affine)
    bar, speck = np.zeros_like(ball), np.zeros_like(ball)
    bar[2:6, 2:6, 2:40] = True
    speck[30:33, 50:53, 40:43] = True
    (folder / name).mkdir(parents=True)
    parts = [Segment("b", ball), Segment("r", bar), Segment("s", speck)]
    save_segmentation(folder / name / "label.nii.gz", parts, scan)
    sitk.WriteImage(image_from_array(scan.array_kji, affine), str(folder / name / "image.nii.gz"))
    (folder / name / "labels.json").write_text('{"1": "ball", "2": "bar", "3": "speck"}')
    return ball


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cases")
    for name in ("ct_ball_01", "ct_ball_02", "mr_ball_x1"):
        write_case(root, name)
    return root


def without_times(value: Any) -> Any:
    """Results with everything that differs from run to run taken out."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in ("seconds", "environment")}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def test_results_have_the_documented_shape(folder: Path, tmp_path: Path) -> None:
    results = run_evaluation(folder, Settings("fake", "cpu", CLICKS), fake, json_path=tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == results
    assert results["model"] == "fake"
    rows = results["cases"]
    assert [(r["case"], r["structure"]) for r in rows] == [
        (case, structure) for case in ("ct_ball_01", "ct_ball_02", "mr_ball_x1") for structure in ("ball", "bar")
    ]
    row = rows[0]
    assert row["voxels"] == ball_scan()[1].sum()
    assert row["dice"].keys() == row["nsd"].keys() == {"1", "3"}
    assert len(row["seconds"]) == 3
    assert row["dice"]["1"] < row["dice"]["3"] <= 1  # balls of 8 voxels fill a ball of 12 step by step
    assert results["mean"]["dice"]["3"] == pytest.approx(np.mean([r["dice"]["3"] for r in rows]), abs=1e-4)
    assert results["mean"]["structures"] == 6
    assert {name: g["structures"] for name, g in results["groups"].items()} == {"ct_ball": 4, "mr_ball": 2}
    assert results["baseline"].keys() == {"geodesic", "region growing"}
    assert results["baseline"]["geodesic"]["mean"]["dice"].keys() == {"1", "3"}
    assert results["environment"]["versions"]["fastsam3d"]
    assert results["environment"]["date"]


def test_the_first_score_is_that_of_a_click_in_the_middle(folder: Path) -> None:
    results = run_evaluation(folder, Settings("fake", "cpu", (1,), baseline=False), fake, "ct_ball_01")
    truth = ball_scan()[1]
    small = ball_scan(radius_mm=8.3)[1]  # what the fake answers to a click at the ball's centre
    expected = 2 * small.sum() / (small.sum() + truth.sum())
    assert results["cases"][0]["dice"]["1"] == pytest.approx(expected, abs=0.02)
    assert results["baseline"] is None


def test_two_processes_give_the_same_results_as_one(folder: Path) -> None:
    settings = Settings("fake", "cpu", CLICKS, baseline=False)
    one = run_evaluation(folder, settings, fake)
    two = run_evaluation(folder, settings, fake, jobs=2)
    assert without_times(one) == without_times(two)


def test_an_interrupted_run_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    settings, output = Settings("fake", "cpu", CLICKS, baseline=False), tmp_path / "a.json"
    run_evaluation(folder, settings, fake, "ct_*", json_path=output)
    seen: list[str] = []

    class Watched(FakeSession):
        def set_image(self, volume: Volume) -> None:
            seen.append("image")
            super().set_image(volume)

    resumed = run_evaluation(folder, settings, lambda m, d: Watched(8.3), json_path=output, resume=True)
    assert len(seen) == 2  # two structures of the one case that was left
    assert without_times(resumed) == without_times(run_evaluation(folder, settings, fake))
    with pytest.raises(ImageError, match="other settings"):
        run_evaluation(folder, Settings("fake", "cpu", (1,)), fake, json_path=output, resume=True)
    output.write_text("{}")
    with pytest.raises(ImageError, match="not a results file"):
        run_evaluation(folder, settings, fake, json_path=output, resume=True)


def test_results_so_far_survive_an_error(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "cases"
    write_case(broken, "a_good_1")
    (broken / "b_bad_1").mkdir()
    for name in ("image.nii.gz", "label.nii.gz"):
        (broken / "b_bad_1" / name).write_bytes(b"nonsense")
    with pytest.raises(ImageError, match=r"image\.nii\.gz"):
        run_evaluation(broken, Settings("fake", "cpu", (1,)), fake, json_path=tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["finished_cases"] == ["a_good_1"]


def test_a_session_that_cannot_be_opened_is_an_error_also_in_a_worker(folder: Path) -> None:
    with pytest.raises(FastSAM3DError, match="no session today"):
        run_evaluation(folder, Settings("fake", "cpu", (1,), baseline=False), failing)
    with pytest.raises(FastSAM3DError, match="no session today"):
        run_evaluation(folder, Settings("fake", "cpu", (1,), baseline=False), failing, jobs=2)


def test_at_most_so_many_structures_are_spread_over_the_labels() -> None:
    labels = np.repeat(np.arange(1, 12), 200).reshape(11, 10, 20)
    case = Case(Path("nowhere"))
    assert [s.label for s in case.structures(labels, 3)] == [1, 6, 11]
    assert [s.label for s in case.structures(labels)] == list(range(1, 12))


def test_labels_on_another_grid_are_refused(tmp_path: Path) -> None:
    write_case(tmp_path, "a")
    write_case(tmp_path, "b", spacing=1.5)
    (tmp_path / "a" / "label.nii.gz").write_bytes((tmp_path / "b" / "label.nii.gz").read_bytes())
    with pytest.raises(ImageError, match="not on one grid"):
        find_cases(tmp_path, "a")[0].load()


def test_the_challenge_protocol_starts_with_a_box_and_integrates_five_clicks(folder: Path) -> None:
    settings = Settings("fake", "cpu", protocol="cvpr2025", baseline=False)
    row = run_evaluation(folder, settings, fake, "ct_ball_01")["cases"][0]
    truth = ball_scan()[1]
    box = int(np.prod(mask_box(truth).shape_ijk))
    assert row["dice"]["0"] == pytest.approx(2 * truth.sum() / (truth.sum() + box), abs=1e-3)
    steps = [row["dice"][str(n)] for n in range(1, 6)]
    assert row["dice_auc"] == pytest.approx(np.trapezoid(steps), abs=1e-3)
    assert row["dice_auc_normalised"] == pytest.approx(row["dice_auc"] / 4, abs=1e-3)
    assert row["dice_final"] == steps[-1]
    assert list(row["nsd"]) == ["0", "1", "2", "3", "4", "5"]


def test_the_command_writes_json_csv_and_a_plot_and_prints_a_table(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    output = {name: tmp_path / f"a.{name}" for name in ("json", "csv", "png", "md")}
    arguments = ["evaluate", folder, "--model", "none", "--clicks", "3,1", "--max-structures", "1"]
    arguments += ["--json", output["json"], "--csv", output["csv"], "--plot", output["png"], "--markdown", output["md"]]
    assert main([str(a) for a in arguments]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "ct_ball (2)" in out
    assert "region growing" in out
    assert max(map(len, out.splitlines())) <= 80
    results = json.loads(output["json"].read_text())
    assert results["cases"] == []
    assert results["environment"]["device"] is None
    with output["csv"].open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 6
    assert float(lines[0]["dice_3"]) == results["baseline"]["geodesic"]["cases"][0]["dice"]["3"]
    assert output["png"].read_bytes().startswith(b"\x89PNG")
    assert "| all (3) | region growing |" in output["md"].read_text()


def test_the_challenges_table_has_its_own_columns_and_averages_scans(folder: Path) -> None:
    settings = Settings("fake", "cpu", protocol="cvpr2025", baseline=False)
    results = run_evaluation(folder, settings, fake, "ct_*")
    lines = results_markdown(results).splitlines()
    assert "Dice AUC (of 4)" in lines[0]
    mean = results["mean"]
    assert f"| {mean['dice_final']:.3f} | {mean['nsd_final']:.3f} | {mean['dice_auc']:.3f} |" in lines[2]
    assert any(f"{mean['by_case']['nsd_auc']:.3f} AUC" in line for line in lines)


def test_the_challenges_table_fits_a_terminal(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    results = run_evaluation(folder, Settings("fake", "cpu", protocol="cvpr2025", baseline=False), fake, "ct_*")
    Console(width=80).print(results_table(results))
    out = capfd.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert f"{results['mean']['dice_auc']:.2f} {results['mean']['nsd_auc']:.2f}" in out
    assert f"{results['mean']['by_case']['dice_auc']:.3f} AUC" in " ".join(out.split())
