"""`fastsam3d bench`: the report's shape, its honesty about what was not measured, and the pieces it is made of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
import torch

from FastSAM3DCore.bench.attention import attention_scaling
from FastSAM3DCore.bench.compute import time_sam2d
from FastSAM3DCore.bench.correctness import compared, counter
from FastSAM3DCore.bench.figures import check_agreement
from FastSAM3DCore.bench.fresh import run_module
from FastSAM3DCore.bench.memory import peak_growth_mb
from FastSAM3DCore.bench.networks import plain_network, random_weights
from FastSAM3DCore.bench.phantom import abdomen
from FastSAM3DCore.bench.sam2d import Sam2DEncoder
from FastSAM3DCore.bench.timing import compare
from FastSAM3DCore.cli import main
from FastSAM3DCore.errors import FastSAM3DError
from FastSAM3DCore.modeling.config import STUDENT
from FastSAM3DCore.modeling.sam3d import Sam3D

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], bytes, str]:
    """Report, chart and printed summary of a trial run, in a process of its own: it changes the allocator."""
    folder = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "FastSAM3DCore.cli", "bench", "--quick", "--device", "cpu", "--threads", "1"]
    command += ["--json", str(folder / "bench.json"), "--chart", str(folder / "bench.png")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, Any] = json.loads((folder / "bench.json").read_text())
    return report, (folder / "bench.png").read_bytes(), done.stdout


@pytest.mark.slow
def test_the_report_has_every_figure_of_the_design(quick: tuple[dict[str, Any], bytes, str]) -> None:
    report, chart, summary = quick
    encode = ("ours_ms", "plain_ms", "teacher_published_ms", "sam2d_slices_ms")
    assert set(encode) < set(report["encode"])
    assert set(report["click"]) == {"ours_ms", "plain_ms"}
    assert {"scan", "first_click_ms", "warm_click_ms", "split_ms"} <= set(report["end_to_end"])
    assert {"crop", "encode", "decode", "paste"} <= set(report["end_to_end"]["first_split_ms"])
    for row in report["attention"]:
        assert {"tokens", "dense_ms", "sparse_ms", "dense_mb", "sparse_mb"} < set(row)
        assert row["sparse_floor_ms"] > 0
    assert set(report["agreement"]) == {"max_abs", "dice"}
    whole, memory = report["end_to_end"], report["memory"]
    figures = [*(report["encode"][key] for key in encode), *report["click"].values(), memory["peak_mb"]]
    figures += [
        whole[f"{key}_ms"] for key in ("first_click", "warm_click", "first_click_again", "first_click_prefetched")
    ]
    figures += [report["model_load"]["load_ms"]["median"], report["throughput"]["student"]["crops_per_second"]]
    assert all(figure > 0 for figure in figures)
    assert memory["of_which_imports_mb"] + memory["of_which_scan_mb"] < memory["peak_mb"]
    assert sum(whole["first_split_ms"].values()) <= whole["first_click_ms"]
    assert (report["threads"], report["device"][:3]) == (1, "cpu")
    assert report["precision"] in ("bfloat16", "float32")
    assert set(report["default"]["own_crop"]) == {"size", "encode_ms", "click_ms"}
    assert chart.startswith(b"\x89PNG")
    assert "encode, student" in summary


@pytest.mark.slow
def test_the_report_says_how_it_was_made(quick: tuple[dict[str, Any], bytes, str]) -> None:
    report = quick[0]
    assert "2 of 32 were run, and their mean is multiplied by 32; an extrapolation" in report["method"]["sam2d_slices"]
    assert (report["encode"]["sam2d_slices_timed"], report["encode"]["sam2d_extrapolated"]) == (2, True)
    assert report["machine"]["torch"] == torch.__version__
    ours = report["spread"]["encode"]["ours"]
    assert (ours["runs"] >= 1, ours["cpu_ms"] > 0, ours["low_ms"] <= ours["median_ms"] <= ours["high_ms"]) == (
        True,
    ) * 3
    assert report["gflop"]["student"]["encode"] > report["gflop"]["student"]["click"] > 0
    floors = report["floors"]
    assert floors["student"]["encode_ms"] >= report["gflop"]["student"]["encode"] / floors["tflops"]
    assert report["machine"]["busy_cores_before"] >= 0
    for stages in (report["seconds"], report["processor_seconds"]):
        assert stages["all"] == pytest.approx(sum(seconds for name, seconds in stages.items() if name != "all"))
    assert set(report["seconds"]) == set(report["processor_seconds"])
    assert report["end_to_end"]["second_click_ms"] > 0


def test_calls_are_timed_in_turn_and_slow_ones_do_not_starve_fast_ones() -> None:
    order: list[str] = []

    def call(name: str, seconds: float) -> None:
        order.append(name)
        sleep(seconds)

    times = compare(
        {"slow": lambda: call("slow", 0.02), "fast": lambda: call("fast", 0.0)}, CPU, seconds=0.08, least=2, most=20
    )
    assert order[:4] == ["slow", "fast", "slow", "fast"]
    assert times["slow"].runs < times["fast"].runs <= 20
    assert 15 < times["slow"].low_ms <= times["slow"].median_ms <= times["slow"].high_ms
    assert times["slow"].runs + times["fast"].runs + 2 == len(order)  # one warm-up each, not counted
    assert times["slow"].cpu_ms < 0.5 * times["slow"].median_ms  # asleep, not at work


def test_a_call_that_takes_more_than_its_share_is_timed_once_after_warming_up() -> None:
    times = compare({"long": lambda: sleep(0.03), "short": lambda: None}, CPU, seconds=0.02, least=3)
    assert (times["long"].runs, times["short"].runs >= 3) == (1, True)
    assert times["long"].low_ms == times["long"].median_ms == times["long"].high_ms


def test_a_very_long_call_is_run_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("FastSAM3DCore.bench.timing.LONG_MS", 20.0)
    runs: list[int] = []
    timing = compare({"": lambda: (runs.append(1), sleep(0.03))}, CPU, seconds=1.0)[""]
    assert (len(runs), timing.runs, timing.first_ms == timing.median_ms) == (1, 1, True)


def test_without_a_checkout_there_is_no_plain_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = Sam3D(replace(STUDENT, image_size=32, dim=48, mlp_dim=64, depth=3))
    assert plain_network(model, CPU) is not None
    monkeypatch.setattr("FastSAM3DCore.bench.networks.PLAIN_REFERENCE", tmp_path / "plain_reference.py")
    assert plain_network(model, CPU) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_peak_memory_is_what_a_call_needs_and_not_what_is_left_of_others() -> None:
    code = (
        "import torch; from FastSAM3DCore.bench.memory import peak_growth_mb\n"
        "big = lambda: torch.ones(64 * 2**18)\n"  # 64 MB
        "small = lambda: torch.ones(16 * 2**18)\n"
        "cpu = torch.device('cpu')\n"
        "print([peak_growth_mb(call, cpu) for call in (small, big, small)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    small, big, again = json.loads(done.stdout)
    assert 14 < small < 24
    assert 60 < big < 72
    assert 14 < again < 24


def test_memory_is_none_where_nobody_tells() -> None:
    assert peak_growth_mb(lambda: None, torch.device("meta")) is None


def test_attention_rows_are_honest_about_dense_attention_that_was_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("FastSAM3DCore.bench.attention.MOST_DENSE_CPU_OFTEN", 30)
    monkeypatch.setattr("FastSAM3DCore.bench.attention.MOST_DENSE_CPU", 100)
    # The real measurement changes how this process's allocator works; it has a test of its own.
    monkeypatch.setattr("FastSAM3DCore.bench.attention.peak_growth_mb", lambda call, _: (call(), 1.0)[1])
    often, once, never = attention_scaling(CPU, (27, 64, 216), seconds=0.01)
    assert often["dense_ms"] is not None
    assert once["dense_ms"] is not None
    assert never["dense_ms"] is None
    assert never["sparse_ms"] is not None


def test_a_fast_wrong_answer_fails_the_bench() -> None:
    exact = torch.linspace(-1, 1, 1000)
    right, wrong = compared(exact + 1e-4, exact), compared(-exact, exact)
    assert right["dice"] > 0.99
    assert wrong == {"max_abs": pytest.approx(2.0), "dice": 0.0}
    check_agreement({"agreement": right, "default": {"agreement": right}})
    for report in (
        {"agreement": wrong, "default": {"agreement": right}},
        {"agreement": right, "default": {"agreement": {"max_abs": float("nan"), "dice": float("nan")}}},
    ):
        with pytest.raises(FastSAM3DError, match="is below"):
            check_agreement(report)


def test_arithmetic_is_counted_whichever_convolution_runs() -> None:
    x, conv = torch.zeros(1, 4, 8, 8, 8), torch.nn.Conv3d(4, 6, 3, padding=1, groups=2)
    with torch.no_grad(), counter() as usual:
        conv(x)
    with torch.no_grad(), counter() as by_onednn:
        torch.mkldnn_convolution(x, conv.weight, conv.bias, [1] * 3, [1] * 3, [1] * 3, 2)
    assert usual.get_total_flops() == by_onednn.get_total_flops() == 2 * 8**3 * 6 * 2 * 27


def test_slices_that_were_not_run_are_called_extrapolated_and_all_of_them_are_not() -> None:
    some = time_sam2d(CPU, slices=10, image_size=224, depth=1, timed=2)
    everything = time_sam2d(CPU, slices=2, image_size=224, depth=1)
    assert (some["slices_timed"], some["extrapolated"]) == (2, True)
    assert 10 * some["slice_low_ms"] <= some["stack_ms"] <= 10 * some["slice_high_ms"]
    assert (everything["slices_timed"], everything["extrapolated"]) == (2, False)
    assert everything["stack_ms"] == pytest.approx(everything["slice_low_ms"] + everything["slice_high_ms"])


def test_a_measuring_process_that_fails_says_why() -> None:
    with pytest.raises(FastSAM3DError, match=r"could not be measured: .*KeyError.*fastsam3d doctor"):
        run_module("FastSAM3DCore.bench.fresh", {})


def test_the_abdomen_has_the_organ_where_it_says() -> None:
    volume, organ = abdomen((64, 60, 40), spacing_mm=2.0)
    assert volume.array_kji.dtype == np.int16
    i, j, k = (int(c * n) for c, n in zip(organ.centre, volume.shape_ijk, strict=True))
    around = volume.array_kji[k - 1 : k + 2, j - 1 : j + 2, i - 1 : i + 2]
    assert abs(float(around.mean()) - organ.value) < 20
    assert float(volume.array_kji[:, 0, 0].mean()) < -900  # air


def test_the_2d_network_has_the_published_size_and_works_on_slices() -> None:
    with torch.device("meta"):
        published = Sam2DEncoder()
    assert 88e6 < sum(p.numel() for p in published.parameters()) < 91e6
    small = random_weights(Sam2DEncoder(image_size=256, depth=3)).eval()
    with torch.inference_mode():
        assert small(torch.randn(2, 3, 256, 256)).shape == (2, 256, 16, 16)


@pytest.mark.parametrize("arguments", [["--device", "cuda:99"], ["--json", "/nowhere/at/all.json"], ["--threads", "0"]])
def test_bad_arguments_end_at_once_with_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--quick", *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
