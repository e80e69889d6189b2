"""Mouse-up to the segment visible in the clicked view: `python -m Testing.web.bench_click [--json OUT]`.

A real browser, a real worker process, 256 x 256 x 160 voxels, CPU. Each warm click is on another place of a
structure, after a first one that embeds. The split: waiting for a turn, engine, writing into the scene, drawing
the clicked view and encoding it as JPEG (both measured by doing them once more), and what is left: sending,
decoding, showing. Reported apart: first clicks of a segment, with the hand coming from afar (`first`) and after it
rested where it clicks (`first_prepared`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from FastSAM3DWeb.config import WorkerConfig
from Testing.web.driver import AppPage, open_browser
from Testing.web.phantom import make_phantom
from Testing.web.running import FAKE, running_front

SHAPE_KJI = (160, 256, 256)
SPACING = 1.0
CLICKS = 9
AIM_MS = 400
PATIENCE_MS = 180_000


def measure(model: str, fake: bool) -> dict[str, Any]:
    """Run the clicks; returns medians in milliseconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan = make_phantom(folder / "scan.nii.gz", SHAPE_KJI, SPACING)
        options = {"session": FAKE} if fake else {"model": model}
        worker = WorkerConfig(secret="", state_dir="", scan=str(scan.path), device="cpu", **options)
        with running_front(folder / "state", worker) as front, open_browser() as browser:
            app = AppPage.new(browser, front.url)
            app.center_ras = scan.center_ras
            app.answer_ms = PATIENCE_MS
            app.open()
            app.page.wait_for_function("() => window.trame.state.get('ready')", timeout=120_000)
            center = np.array(scan.balls[0].center_ras)
            first = click(app, center)
            warm = [click(app, center + offset) for offset in offsets()]
            next_segment(app)
            app.rest("Red", scan.balls[1].center_ras)
            prepared = click(app, scan.balls[1].center_ras)
            app.close()
    return {
        "scan": SHAPE_KJI[::-1],
        "engine": "fake" if fake else model,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "first": first,
        "first_prepared": prepared,
        "warm_median": {key: round(statistics.median(row[key] for row in warm), 1) for key in first},
        "warm_worst": max(row["visible"] for row in warm),
        "clicks": len(warm),
        "aim_ms": AIM_MS,
    }


def offsets() -> list[np.ndarray]:
    """Places in the ball, in mm from its centre."""
    angles = np.linspace(0, 2 * np.pi, CLICKS, endpoint=False)
    return [np.array([7 * np.cos(a), 7 * np.sin(a), 0.0]) for a in angles]


def next_segment(app: AppPage) -> None:
    app.key("e")
    app.page.wait_for_function("() => window.trame.state.get('segments').length > 1")
    app.page.wait_for_timeout(1500)


def click(app: AppPage, place_ras: np.ndarray) -> dict[str, float]:
    app.page.evaluate(
        "() => { window.seen = null;"
        " window.addEventListener('f3d-visible', e => { window.seen = e.detail.ms; }, { once: true }); }"
    )
    app.click("Red", place_ras)
    app.page.wait_for_function("() => window.seen !== null")
    parts = app.timings("Red")["parts"]
    parts["visible"] = app.page.evaluate("() => window.seen")
    parts["transfer"] = round(
        parts["visible"] - sum(parts[k] for k in ("wait", "engine", "write", "draw", "encode")), 1
    )
    app.page.wait_for_timeout(2500)  # surfaces and autosave of this click are not part of the next
    return parts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="name or file of the weights")
    parser.add_argument("--fake", action="store_true", help="the fake engine: only what the page costs")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    arguments = parser.parse_args()
    numbers = measure(arguments.model, arguments.fake)
    text = json.dumps(numbers, indent=2)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
