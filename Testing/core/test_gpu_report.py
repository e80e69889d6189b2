"""`Testing/gpu/run` is one command away from a GPU: its code runs here, on the CPU, with tiny sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from FastSAM3DCore.bench.floors import Ceilings, attention_floor_ms, measure_ceilings, network_floors
from FastSAM3DCore.precision import fast_dtype
from Testing.gpu import summary

RUN = Path(__file__).parents[1] / "gpu" / "run"


@pytest.mark.slow
def test_a_dry_run_goes_through_every_section_and_reports_the_aims(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    command = [sys.executable, str(RUN), "--dry-run", "--json", str(tmp_path / "report.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["failures"], report["not_run"]) == ({}, {})
    assert {"attention", "attention_training", "networks", "sam2d", "whole_scan"} <= set(report)
    assert all(report[name]["passed"] for name in ("correctness", "crops", "sharing", "memory_pressure"))
    assert all(aim["found"] is not None for aim in report["aims"].values())
    assert "FIGURES MEAN NOTHING" in done.stdout
    assert report["machine"]["date"][:10] in done.stdout


def test_the_report_is_executable_and_says_what_it_needs_without_a_gpu(tmp_path: Path) -> None:
    assert os.access(RUN, os.X_OK)
    done = subprocess.run(
        [sys.executable, str(RUN), "--json", str(tmp_path / "report.json")],
        capture_output=True, text=True, check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 1
    assert "--dry-run" in done.stderr
    assert not (tmp_path / "report.json").exists()


def test_all_but_the_session_needs_nothing_that_a_gpu_machine_may_lack() -> None:
    code = (
        "import sys; sys.modules['SimpleITK'] = sys.modules['typer'] = sys.modules['rich'] = None\n"
        "from Testing.gpu import sections, scan_sections, summary, attention_check"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=RUN.parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_floors_are_the_slower_of_arithmetic_and_memory() -> None:
    ceilings = Ceilings(tflops=800.0, gigabytes_per_second=4000.0)
    assert ceilings.floor_ms(gflop=80.0, megabytes=0.0) == pytest.approx(0.1)
    assert ceilings.floor_ms(gflop=0.0, megabytes=4096.0) == pytest.approx(1.0)
    # 262 144 tokens of 6 heads of 32 channels: four arrays of 96 MB
    assert attention_floor_ms(262144, 6, 32, 4, ceilings) == pytest.approx(1000 * 384 / 1024 / 4000)


def test_a_networks_floor_counts_weights_once_and_what_goes_in_and_out() -> None:
    model = torch.nn.Module()
    model.encoder, model.head = torch.nn.Linear(2**10, 2**10, bias=False), torch.nn.Linear(2**9, 2**10, bias=False)
    slow_memory = Ceilings(tflops=1e9, gigabytes_per_second=1.0)
    image, embedding, logits = torch.zeros(2**18), {"a": torch.zeros(2**18), "b": [torch.zeros(2**18)]}, torch.zeros(0)
    found = network_floors(model, {"encode": 1.0, "click": 1.0}, image, embedding, logits, slow_memory)
    element = fast_dtype(image.device).itemsize
    assert found["encode"] == pytest.approx(1000 * (element + 3) / 1024)  # MB: 1 M weights, 1 in, 2 out
    assert found["click"] == pytest.approx(1000 * (element / 2 + 2) / 1024)
    busy = Ceilings(tflops=1e-3, gigabytes_per_second=1e9)
    assert network_floors(model, {"encode": 2.0, "click": 1.0}, image, embedding, logits, busy)["encode"] == 2000.0


def test_ceilings_are_measured_here_too() -> None:
    found = measure_ceilings(torch.device("cpu"), side=64, megabytes=1, seconds=0.01)
    assert found.tflops > 0
    assert found.gigabytes_per_second > 0


def test_aims_are_judged_from_the_figures_and_a_failed_section_is_not_a_success() -> None:
    net = {"encode_ms": 0.5, "click_ms": 2.0, "encode_floor_ms": 0.2, "click_floor_ms": 0.1, "peak_mb": 300.0}
    aims = summary.aims({"networks": {"student": net, "teacher_published_ms": 5.0}})
    assert aims["encode of student, ms"]["reached"] is True
    assert aims["click of student, ms"]["reached"] is False
    assert aims["student over published teacher"]["found"] == pytest.approx(10.0)
    assert aims["encode of default, ms"]["reached"] is None
    assert aims["student over 2D SAM, slice by slice"]["reached"] is None
