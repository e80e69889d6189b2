"""`fastsam3d bench --growth`: fitted powers, leaks, and a trial run of all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from FastSAM3DCore.bench import growth
from FastSAM3DCore.bench.growth import leak, quick_growth_plan, run_growth, steps, worse_than_linear
from FastSAM3DCore.bench.scaling import fit_growth
from Testing.core.bench_reports import growth_report

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("power", "verdict"), [(0.5, "linear or better"), (1.0, "linear or better"), (2.0, "worse than linear")]
)
def test_the_power_of_a_cost_is_found(power: float, verdict: str) -> None:
    sizes = [10, 20, 40, 80]
    found = fit_growth(sizes, [3 * size**power for size in sizes])
    assert found["exponent"] == pytest.approx(power)
    assert found["last_exponent"] == pytest.approx(power)
    assert found["verdict"] == verdict


def test_a_constant_part_does_not_hide_a_steep_end() -> None:
    sizes = [1, 10, 100, 1000]
    found = fit_growth(sizes, [100 + 1e-4 * size**2 for size in sizes])
    assert found["exponent"] is not None
    assert found["exponent"] < 0.2
    assert fit_growth(sizes, [1e4 + 0.1 * size**2 for size in sizes])["verdict"] == "linear or better"
    assert fit_growth([*sizes, 10_000], [100 + 1e-4 * size**2 for size in [*sizes, 10_000]])["verdict"] == (
        "worse than linear"
    )


def test_a_step_between_small_sizes_is_told_apart_from_steep_growth() -> None:
    sizes = [1, 8, 27, 64, 216, 512]
    per_voxel = [0.1, 0.1, 1.0, 2.0, 2.0, 2.0]  # memory that is already there, then fresh pages
    found = fit_growth(sizes, [size * cost for size, cost in zip(sizes, per_voxel, strict=True)])
    assert found["exponent"] is not None
    assert found["exponent"] > 1.3
    assert found["verdict"] == "linear at the end"


def test_costs_that_were_not_measured_are_left_out_and_two_are_not_enough() -> None:
    assert fit_growth([1, 2, 4, 8], [1.0, None, 4.0, 8.0])["exponent"] == pytest.approx(1.0)
    assert fit_growth([1, 2, 4], [1.0, None, 4.0])["verdict"] == "not measured"


def test_counts_rise_in_steps_of_one_two_five() -> None:
    assert steps(200) == [1, 2, 5, 10, 20, 50, 100, 200]
    assert steps(6) == [1, 2, 5, 6]


def test_a_leak_is_what_rounds_add_after_the_first() -> None:
    def found(rounds: list[float | None]) -> Any:
        return {"click_ms": [], "click_cpu_ms": [], "memory_mb": [], "undo_ms": 0.0, "rounds_mb": rounds}

    assert leak(found([50.0, 100.0, 100.0, 100.0])) == 0.0
    assert leak(found([50.0, 100.0, 110.0, 120.0])) == 10.0
    assert leak(found([None, None])) is None
    report = growth_report()
    assert worse_than_linear(report) == ["volumes: first_click_cpu_ms grows with the power 1.60 (1.90 at the end)"]
    report["clicks"]["leak_mb_per_round"] = 12.0
    assert "12.0 MB more after every round" in worse_than_linear(report)[-1]


def test_a_scan_that_does_not_fit_is_not_measured_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "available_mb", lambda: 500.0)
    row = growth._volume_row(CPU, (64, 64, 64), quick_growth_plan())
    assert (row["first_click_ms"], row["memory_mb"]) == (None, None)
    assert row["not_measured"].endswith("500 MB are free")


def test_without_the_slicer_layer_segments_are_left_out_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(growth, "SLICER_LAYER", tmp_path / "bench_segments.py")
    plan = replace(quick_growth_plan(), scans=(), clicks=3)
    report = run_growth(CPU, plan)
    assert report["segments"]["not_measured"] == "it needs a source checkout"
    assert [row["clicks"] for row in report["clicks"]["rows"]] == [1, 2, 3]
    assert all(row["together_ms"] > 0 for row in report["clicks"]["rows"])


@pytest.mark.slow
def test_a_trial_run_measures_scans_clicks_and_segments(tmp_path: Path) -> None:
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    pytest.importorskip("matplotlib", reason="charts need fastsam3d[plot]")
    command = [sys.executable, "-m", "FastSAM3DCore.cli", "bench", "--growth", "--quick", "--device", "cpu"]
    command += ["--threads", "1", "--json", str(tmp_path / "growth.json"), "--plot", str(tmp_path / "growth.png")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "growth.json").read_text())
    assert [row["scan"] for row in report["volumes"]["rows"]] == [[32, 32, 24], [40, 40, 32], [48, 48, 48]]
    assert [row["segments"] for row in report["segments"]["rows"]] == [1, 2, 4]
    for part, costs in (("volumes", 4), ("clicks", 2), ("segments", 2)):
        assert len(report[part]["growth"]) == costs
    together = [row["together_ms"] for row in report["segments"]["rows"]]
    assert together == sorted(together)
    assert "volumes, first_click, processor time: power" in done.stdout
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
