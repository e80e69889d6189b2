"""What the Slicer layer adds to the engine per click, and what a whole-volume write costs in the same run.

    python -m Testing.mrml.bench_overhead [--json OUT.json]

The engine is a stand-in that answers at once (a ball of radius 60 around the click), so the time measured is the
layer's alone: markup event -> prompt -> segment written -> undo step and log stored -> views told. "Views told"
is the event that makes them redraw; drawing itself is not in it.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from FastSAM3DCore import MaskUpdate, VoxelBox
from FastSAM3DCore.prompts import PointPrompt
from FastSAM3DSlicerLib import SegmentationLogic
from FastSAM3DSlicerLib.PromptSync import PromptSync
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, transformPoints
from Testing.mrml.conftest import setWhole
from Testing.mrml.scene import HeadlessScene

SHAPE = (400, 512, 512)
RADIUS = 60
TARGETS = {"click_ms": 20.0, "ratio_to_full_write": 30.0}


class InstantSession:
    """Answers with a ready-made ball of 121^3 voxels; keeps the log, so that undo, reload and replay work."""

    def __init__(self) -> None:
        z, y, x = np.ogrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
        self.ball = (x * x + y * y + z * z <= RADIUS * RADIUS).astype(np.uint8)
        self.prompts: tuple[Any, ...] = ()
        self._id = 0

    def set_image(self, volume: Any) -> None:
        self.prompts = ()

    def add_point(self, point_ijk: Any, positive: bool = True) -> MaskUpdate:
        self._id += 1
        self.prompts = (*self.prompts, PointPrompt(self._id, tuple(point_ijk), positive))
        center = [round(v) for v in point_ijk]
        box = VoxelBox(tuple(c - RADIUS for c in center), tuple(c + RADIUS + 1 for c in center))
        return MaskUpdate(box, self.ball if positive else 1 - self.ball, prompt_id=self._id)

    def replay(self, prompts: Any) -> MaskUpdate:
        self.prompts = tuple(prompts)
        return MaskUpdate(VoxelBox.empty(), np.zeros((0, 0, 0), np.uint8))

    def undo(self) -> MaskUpdate:
        return self.replay(self.prompts[:-1])

    def reset(self) -> MaskUpdate:
        return self.replay(())

    def set_threshold(self, probability: float) -> MaskUpdate:
        return MaskUpdate(VoxelBox.empty(), np.zeros((0, 0, 0), np.uint8))


def residentMb() -> float:
    """Resident memory now, MB."""
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure(clicks: int = 30, shape: tuple[int, int, int] = SHAPE) -> dict[str, float]:
    """Median time of a click, of an undo, and of a whole-volume write of the same change; ms."""
    headless = HeadlessScene()
    volume = headless.addVolume(np.zeros(shape, np.int16), np.diag([0.7, 0.7, 1.0, 1.0]))
    session = InstantSession()
    logic = SegmentationLogic(headless.scene, session)
    logic.setVolume(volume)
    logic.addSegment(headless.addSegmentation(), "Organ")
    sync = PromptSync(logic)
    told = []
    logic.active.node.GetSegmentation().AddObserver(
        slicer.vtkSegmentation.SourceRepresentationModified, lambda *_: told.append(1)
    )
    points = sync.pointsNode(True)
    times, cpu, rng = [], [], np.random.default_rng(0)
    for _ in range(clicks):
        ijk = np.array(shape[::-1]) / 2 + rng.uniform(-60, 60, 3)  # refining one organ of 240 voxels across
        position = transformPoints(ijkToWorld(volume), [ijk])[0]
        before = len(told)
        start, startCpu = time.perf_counter(), time.process_time()
        points.AddControlPointWorld(*position)
        times.append((time.perf_counter() - start) * 1e3)
        cpu.append((time.process_time() - startCpu) * 1e3)
        if len(told) == before:
            raise RuntimeError("The click did not tell the views.")
    undo = []
    for _ in range(5):
        start = time.perf_counter()
        logic.undo()
        undo.append((time.perf_counter() - start) * 1e3)
    full, fullCpu = [], []
    other = logic.active.node.GetSegmentation().AddEmptySegment("", "Whole-volume write")
    mask = np.zeros(shape, np.uint8)
    for n in range(3):
        ijk = [160 + 20 * n] * 3
        cut = VoxelBox(tuple(c - RADIUS for c in ijk), tuple(c + RADIUS + 1 for c in ijk)).slices_kji
        part = mask[cut]
        np.maximum(part, session.ball[tuple(slice(s) for s in part.shape)], out=part)
        start, startCpu = time.perf_counter(), time.process_time()
        setWhole(logic, other, mask)
        full.append((time.perf_counter() - start) * 1e3)
        fullCpu.append((time.process_time() - startCpu) * 1e3)
    sync.close()
    click, clickCpu = statistics.median(times), statistics.median(cpu)
    return {
        "click_ms": click,
        "click_cpu_ms": clickCpu,
        "click_p95_ms": float(np.percentile(times, 95)),
        "undo_ms": statistics.median(undo),
        "full_write_ms": statistics.median(full),
        "full_write_cpu_ms": statistics.median(fullCpu),
        "ratio_to_full_write": statistics.median(full) / click,
        # What the work costs, however busy the machine is.
        "ratio_cpu": statistics.median(fullCpu) / clickCpu,
    }


def memory(clicks: int = 500, segments: int = 50, shape: tuple[int, int, int] = (256, 256, 256)) -> dict[str, float]:
    """Resident memory over many clicks in many segments; MB after a warm-up and at the end.

    The segments' own labelmaps are part of the result and are subtracted.
    """
    headless = HeadlessScene()
    volume = headless.addVolume(np.zeros(shape, np.int16), np.eye(4))
    logic = SegmentationLogic(headless.scene, InstantSession())
    logic.setVolume(volume)
    node, rng = headless.addSegmentation(), np.random.default_rng(1)
    start, marks = time.perf_counter(), []
    for n in range(segments):
        logic.addSegment(node, f"S{n}")
        center = rng.uniform(RADIUS + 8, np.array(shape[::-1]) - RADIUS - 8)
        for k in range(clicks // segments):
            logic.addPoint(center + rng.uniform(-6, 6, 3), positive=k % 3 != 2)
        gc.collect()
        images = [logic.active.image(segmentId) for segmentId in node.GetSegmentation().GetSegmentIDs()]
        held = sum(float(np.prod(image.box.shape_ijk)) for image in images) / 1e6
        marks.append(residentMb() - held)
    third = max(1, segments // 3)
    return {
        "clicks": clicks,
        "segments": segments,
        "first_third_mb": statistics.median(marks[:third]),
        "last_third_mb": statistics.median(marks[-third:]),
        "growth_mb": statistics.median(marks[-third:]) - statistics.median(marks[:third]),
        "ms_per_click": (time.perf_counter() - start) * 1e3 / clicks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = {"volume_kji": SHAPE, "box": [2 * RADIUS + 1] * 3, "time": measure(), "memory": memory()}
    for name, target in TARGETS.items():
        print(f"{name}: {result['time'][name]:.1f} (target {target:g})")
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
