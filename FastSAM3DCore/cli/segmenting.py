"""The work behind `fastsam3d segment` and `fastsam3d sample`: check, load, prompt, write."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OutputError, PromptError
from ..io import Segment, check_writable, hidden_native_output, load_volume, save_segmentation, seed_mask
from ..io.segmentation import check_output, mask_box
from ..prompts import MaskPrompt, Prompt
from ..protocol import SegmentationSession
from ..types import Volume
from .apply import apply_prompt
from .coordinates import Coordinates, Spec, place
from .feedback import progress, working
from .promptfile import place_log, read_log, save_log

__all__ = ["Request", "SessionFactory", "local_session", "segment_scan"]

log = logging.getLogger(__name__)

SessionFactory = Callable[[str, str], SegmentationSession]


def local_session(model: str, device: str) -> SegmentationSession:
    """A session in this process; torch loads here."""
    from ..session import open_session

    return open_session(model, device)


@dataclass(frozen=True, slots=True)
class Request:
    """What to segment, how, and where to put it."""

    scan: Path
    output: Path
    specs: tuple[Spec, ...] = ()
    coordinates: Coordinates = Coordinates.RAS
    prompts: Path | None = None
    mask: Path | None = None
    mask_segment: str | None = None
    save_prompts: Path | None = None
    name: str = "Segment_1"
    color: tuple[float, float, float] | None = None
    frame: int | None = None
    series: str | None = None
    model: str = "default"
    device: str = "auto"
    threshold: float | None = None
    png: Path | None = None
    tags: dict[str, str] = field(default_factory=dict)


def segment_scan(request: Request, session_factory: SessionFactory = local_session) -> dict[str, Any]:
    """Segment one structure and write it.

    Everything that can be refused without a network is refused before one is loaded.

    Returns:
        A JSON-serialisable summary: what was written, voxels, volume in ml, milliseconds per prompt.

    Raises:
        FastSAM3DError: one of its kinds; no output was written or changed.
    """
    _check_paths(request)
    recorded = read_log(request.prompts) if request.prompts else None
    started = time.perf_counter()
    with working(f"Reading {request.scan.name}"), hidden_native_output():
        volume = load_volume(request.scan, frame=request.frame, series=request.series)
        prompts = _collect(request, recorded, volume)
    read_ms = _ms_since(started)
    with working(f"Loading model {request.model}"):
        session = session_factory(request.model, request.device)
    try:
        timing = _give_prompts(session, volume, prompts)
        if request.threshold is not None:
            session.set_threshold(request.threshold)
        mask = session.mask()
        given = session.prompts
    finally:
        session.close()
    _write(request, volume, mask, given)
    return _summary(request, volume, mask, len(given)) | {"read_ms": read_ms} | timing


def _check_paths(request: Request) -> None:
    check_output(request.output)
    results = [request.output, *(p for p in (request.png, request.save_prompts) if p is not None)]
    for path in results[1:]:
        check_writable(path)
    inputs = [p for p in (request.scan, request.prompts, request.mask) if p is not None and p.exists()]
    for number, path in enumerate(results):
        if any(path.exists() and path.samefile(given) for given in inputs):
            raise OutputError(f"{path} is an input of this command; choose another name for the result.")
        if any(path.resolve() == other.resolve() for other in results[:number]):
            raise OutputError(f"Two results would both be written to {path}; give each a name of its own.")
    if request.png and not request.png.name.lower().endswith(".png"):
        raise OutputError(f"{request.png.name} must end in .png.")
    if request.threshold is not None and not 0 < request.threshold < 1:
        raise PromptError(f"--threshold must lie between 0 and 1, got {request.threshold:g}.")
    if not (request.specs or request.prompts or request.mask):
        raise PromptError("Nothing to go by: give --point, --box, --scribble, --mask or --prompts.")


def _collect(request: Request, recorded: dict[str, Any] | None, volume: Volume) -> list[Prompt]:
    """Mask first, then the log, then boxes, then the rest in the order given."""
    prompts: list[Prompt] = []
    if request.mask:
        prompts.append(MaskPrompt.from_mask(1, seed_mask(request.mask, volume, request.mask_segment)))
    if recorded:
        prompts += place_log(recorded, volume)
    specs = sorted(request.specs, key=lambda spec: spec.kind != "box")  # stable
    prompts += place(specs, volume, request.coordinates, first_id=len(prompts) + 1)
    if not any(getattr(p, "positive", True) for p in prompts):
        raise PromptError("All prompts are negative; give at least one --point, --box or --mask for the structure.")
    return prompts


def _give_prompts(session: SegmentationSession, volume: Volume, prompts: list[Prompt]) -> dict[str, Any]:
    started = time.perf_counter()
    with working("Preparing the scan"):
        session.set_image(volume)
    image_ms = _ms_since(started)
    times = []
    with progress() as bar:
        for prompt in bar.track(prompts, description="Prompts"):
            started = time.perf_counter()
            apply_prompt(session, prompt)
            times.append(_ms_since(started))
    return {"set_image_ms": image_ms, "ms_per_prompt": times}


def _write(request: Request, volume: Volume, mask: Any, given: tuple[Prompt, ...]) -> None:
    if not mask.any():
        log.warning("The segment is empty; add a positive point inside the structure.")
    segment = Segment(request.name, mask, request.color, tags=request.tags)
    with working(f"Writing {request.output.name}"), hidden_native_output():
        save_segmentation(request.output, [segment], volume)
        if request.save_prompts:
            save_log(request.save_prompts, given)
        if request.png:
            from ..render import render_montage, save_png

            save_png(request.png, render_montage(volume, mask, given, title=request.name))


def _summary(request: Request, volume: Volume, mask: Any, prompts: int) -> dict[str, Any]:
    voxels = int(np.count_nonzero(mask))
    box = mask_box(mask)
    return {
        "scan": str(request.scan),
        "output": str(request.output),
        "png": str(request.png) if request.png else None,
        "segment": request.name,
        "model": request.model,
        "prompts": prompts,
        "voxels": voxels,
        "volume_ml": round(voxels * float(np.prod(volume.spacing_ijk)) / 1000, 4),
        "box_ijk": {"lower": list(box.lower), "upper": list(box.upper)},
    }


def _ms_since(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 1)
