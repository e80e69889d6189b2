"""Reports as `fastsam3d bench` makes them, with figures that are easy to recognise, for tests of what is shown."""

from __future__ import annotations

from typing import Any

from FastSAM3DCore.bench.figures import BENCH_FORMAT
from FastSAM3DCore.bench.growth import GROWTH_FORMAT

MACHINE = {"torch": "2.6", "fastsam3d": "0.1", "date": "2026-01-01T00:00:00", "busy_cores_before": 0.1}


def bench_report(**changes: Any) -> dict[str, Any]:
    """A report of `run_bench`; the plain reference was not there."""
    report: dict[str, Any] = {
        "format": BENCH_FORMAT,
        "device": "cpu: Some Processor", "threads": 2, "precision": "float32", "crop": 128, "machine": MACHINE,
        "encode": {
            "ours_ms": 300.0, "plain_ms": None, "teacher_published_ms": None, "sam2d_slices_ms": 900_000.0,
            "sam2d_slices": 128, "sam2d_slices_timed": 2, "sam2d_extrapolated": True,
        },
        "click": {"ours_ms": 20.0, "plain_ms": None},
        "default": {
            "encode_ms": 400.0, "click_ms": 200.0, "trained_weights": True,
            "own_crop": {"size": 64, "encode_ms": 50.0, "click_ms": 25.0},
        },
        "end_to_end": {
            "scan": [512, 512, 400], "first_click_ms": 900.0, "second_click_ms": 400.0,
            "second_split_ms": {"encode": 200.0},
            "warm_click_ms": 110.0, "split_ms": {"decode": 90.0},
            "first_split_ms": {"crop": 300.0, "encode": 300.0, "decode": 250.0, "paste": 20.0},
            "first_click_again_ms": 700.0, "first_click_prefetched_ms": 300.0,
            "first_click_again_split_ms": {"encode": 400.0, "decode": 200.0},
            "first_click_prefetched_split_ms": {"decode": 200.0, "paste": 20.0},
        },
        "attention": [
            {"tokens": 64, "dense_ms": None, "sparse_ms": 1.0, "dense_mb": None, "sparse_mb": 1.0},
            {"tokens": 512, "dense_ms": 2.0, "sparse_ms": 1.5, "dense_mb": 3.0, "sparse_mb": 2.0,
             "sparse_floor_ms": 0.1},
        ],
        "memory": {"peak_mb": 800.0, "of_which_imports_mb": 300.0, "of_which_scan_mb": 200.0},
        "agreement": {"max_abs": 0.03, "dice": 0.997}, "model_load": {"load_ms": {"median": 60.0}},
        "throughput": {"student": {"crop": 128, "batch": 4, "crops_per_second": 3.4}},
        "floors": {"student": {"encode_ms": 100.0, "click_ms": 3.0}},
        "ratios": {"encode_vs_plain": None, "encode_vs_teacher_published": None, "encode_vs_sam2d_slices": 3000.0,
                   "click_vs_plain": None},
        "seconds": {"all": 150.0},
    }  # fmt: skip
    report["default"]["agreement"] = report["agreement"]
    return {**report, **changes}


def growth_report() -> dict[str, Any]:
    """A report of `run_growth` without the Slicer layer, one scan too large, and first clicks that grow too fast."""
    linear = {"exponent": 0.9, "last_exponent": 1.0, "verdict": "linear or better"}
    steep = {"exponent": 1.6, "last_exponent": 1.9, "verdict": "worse than linear"}
    costs = ("set_image_ms", "first_click_ms", "warm_click_ms", "memory_mb")
    rows: list[dict[str, Any]] = [
        {"scan": [n] * 3, "voxels": n**3, "not_measured": None, **dict.fromkeys(costs, n**3 / 10000.0)}
        for n in (128, 256, 384)
    ]
    too_large = {"scan": [1024] * 3, "voxels": 1024**3, "not_measured": "needs 8,192 MB, 4,000 MB are free"}
    rows.append({**too_large, **dict.fromkeys(costs)})
    clicks = [
        {"clicks": n, "together_ms": 100.0 * n, "latest_ms": 100.0, "memory_mb": 200 + 0.1 * n} for n in (1, 10, 200)
    ]
    return {
        "format": GROWTH_FORMAT,
        "device": "cpu: Some Processor", "threads": 2, "precision": "float32", "machine": MACHINE,
        "seconds": 600.0,
        "volumes": {"rows": rows, "growth": {"first_click_cpu_ms": steep, "memory_mb": linear}},
        "clicks": {
            "rows": clicks, "growth": {"together_cpu_ms": linear, "memory_mb": linear}, "leak_mb_per_round": 0.01,
            "rounds_mb": [200.0, 200.0, 200.0],
        },
        "segments": {"rows": [], "growth": {}, "not_measured": "it needs a source checkout"},
    }  # fmt: skip
