"""Segment after segment in one segmentation of the Slicer layer: the part of `bench --growth` that needs MRML.

    python -m Testing.mrml.bench_segments '{"device": "cpu", "scan": [192, 192, 192], "segments": 100, ...}'

Prints one line of JSON. Every segment gets the same two clicks on the same organ, so that only their number differs.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch

from FastSAM3DCore.bench.end_to_end import clicks_around, middle_of
from FastSAM3DCore.bench.memory import resident_mb, settle_memory
from FastSAM3DCore.bench.networks import default_network
from FastSAM3DCore.bench.phantom import abdomen
from FastSAM3DCore.engine import Engine
from FastSAM3DCore.session import LocalSession
from FastSAM3DSlicerLib import SegmentationLogic
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, transformPoints
from Testing.mrml.scene import HeadlessScene


def heldMb() -> float | None:
    gc.collect()
    settle_memory()
    return resident_mb()


def measure(wanted: dict[str, Any]) -> dict[str, Any]:
    """Time and memory by number of segments; see `FastSAM3DCore.bench.growth`.

    Args:
        wanted: "device", "scan" (voxels along i, j, k), "spacing_mm", "segments", "counts" (after which to report)
            "threads" and "dtype".

    Returns:
        "rows" with, after each count, "together_ms" and "together_cpu_ms" of all segments so far, "click_ms" of
        the last ten, "switch_ms" of going to the first segment and back, and "memory_mb" beyond an empty
        segmentation.
    """
    torch.set_num_threads(wanted["threads"])
    volume, organ = abdomen(tuple(wanted["scan"]), wanted["spacing_mm"])
    headless = HeadlessScene()
    node = headless.addVolume(volume.array_kji, np.asarray(volume.ijk_to_ras))
    device = torch.device(wanted["device"])
    session = LocalSession(Engine(default_network(device)[0], device, dtype=getattr(torch, wanted["dtype"])))
    logic = SegmentationLogic(headless.scene, session)
    logic.setVolume(node)
    segmentation = headless.addSegmentation(node)
    clicks = [(middle_of(organ, volume), True), *clicks_around(organ, volume, 1)]
    points = transformPoints(ijkToWorld(node), [point for point, _ in clicks])

    def draw(name: str) -> tuple[str, float, float, float]:
        """A new segment with its clicks: id, milliseconds of all, of one click, and of processor time."""
        start, busy = time.perf_counter(), time.process_time()
        segmentId = logic.addSegment(segmentation, name)
        middle = time.perf_counter()
        for point, (_, positive) in zip(points, clicks, strict=True):
            logic.addPoint(point, positive=positive)
        end = time.perf_counter()
        worked = 1000 * (time.process_time() - busy)
        return segmentId, 1000 * (end - start), 1000 * (end - middle) / len(clicks), worked

    draw("Warm-up")
    before = heldMb()
    first, spent, spentCpu, perClick, rows = None, 0.0, 0.0, [], []
    for number in range(1, wanted["segments"] + 1):
        segmentId, whole, click, worked = draw(f"Segment {number}")
        first = first or segmentId
        spent += whole
        spentCpu += worked
        perClick.append(click)
        if number in wanted["counts"]:
            start = time.perf_counter()
            logic.setSegment(segmentation, first)
            logic.setSegment(segmentation, segmentId)
            switch = 1000 * (time.perf_counter() - start) / 2
            now = heldMb()
            rows.append(
                {
                    "segments": number,
                    "together_ms": spent,
                    "together_cpu_ms": spentCpu,
                    "click_ms": statistics.median(perClick[-10:]),
                    "switch_ms": switch,
                    "memory_mb": None if now is None or before is None else now - before,
                }
            )
    return {"rows": rows}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(json.loads(sys.argv[1]))) + "\n")
