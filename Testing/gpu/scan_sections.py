"""The parts of the GPU report that look at whole scans, several sessions at once, and a card that is full."""

from __future__ import annotations

import copy
import gc
import threading
from dataclasses import asdict
from time import perf_counter
from typing import Any

import torch

from FastSAM3DCore.bench.networks import Clicked, Runner, default_network
from FastSAM3DCore.bench.phantom import abdomen
from FastSAM3DCore.bench.timing import compare, synchronise
from FastSAM3DCore.device_model import DeviceModel
from FastSAM3DCore.device_volume import DeviceVolume, standardise_on_device
from FastSAM3DCore.engine import standardise
from FastSAM3DCore.geometry import CanonicalAxes, CropFrame, sample_crop
from Testing.gpu.scale import Scale


def whole_scan(device: torch.device, scale: Scale) -> dict[str, Any]:
    """Clicks in a session on a whole scan with the default network."""
    # Sessions need SimpleITK, which a machine that is there for its card may not have; nothing else here does.
    from FastSAM3DCore.bench.end_to_end import click_through

    volume, organ = abdomen(scale.scan)
    return asdict(click_through(default_network(device)[0], device, volume, organ, scale.clicks))


def crops(device: torch.device, scale: Scale) -> dict[str, Any]:
    """Cutting and normalising a crop of a whole scan, on the device and in main memory; largest difference."""
    volume, organ = abdomen(scale.scan)
    axes = CanonicalAxes.of(volume)
    step = 0.6 * min(scale.scan) / scale.crop
    corner = tuple(
        centre * count - step * scale.crop / 2 for centre, count in zip(organ.centre, axes.shape, strict=True)
    )
    frame = CropFrame(corner, (step,) * 3, (scale.crop,) * 3, step)
    start = perf_counter()
    kept = DeviceVolume(volume.array_kji, axes, device)
    synchronise(device)
    upload = 1000 * (perf_counter() - start)

    def here() -> torch.Tensor:
        return standardise(sample_crop(volume.array_kji, axes, frame, "average"))

    def there() -> torch.Tensor:
        return standardise_on_device(kept.sample(frame, "average"))

    with torch.inference_mode():
        times = compare({"device": there, "host": here}, device, seconds=scale.seconds)
        error = float((there().cpu() - here()).abs().max())
    figures = {f"{name}_ms": timing.median_ms for name, timing in times.items()}
    return {**figures, "upload_ms": upload, "largest_difference": error, "passed": error < 1e-3}


def memory_pressure(device: torch.device, scale: Scale) -> dict[str, Any]:
    """With next to no device memory allowed, the same answers come from the CPU, with a notice and no error."""
    network, _ = default_network(torch.device("cpu"))
    image = torch.randn(1, 1, scale.crop, scale.crop, scale.crop)
    with torch.inference_mode():
        wanted = network.encode(image)
    notices: list[str] = []
    model = DeviceModel(copy.deepcopy(network).to(device), device, notify=notices.append)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + 2**20) / total, device)
    try:
        found = model.encode(image)
    finally:
        if device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0, device)
    error = max(float((found[key].cpu() - wanted[key]).abs().max()) for key in wanted)
    moved = model.device.type == "cpu" and (device.type == "cpu" or len(notices) == 1)
    return {"notices": notices, "largest_error": error, "passed": moved and error < 1e-3}


def sharing(device: torch.device, scale: Scale, threads: int = 4) -> dict[str, Any]:
    """Sessions click on one recorded network at once: everyone's share, and that nobody gets others' answers."""
    network, _ = default_network(device)
    runner = Runner(network, device)
    images = [torch.randn(1, 1, scale.crop, scale.crop, scale.crop, device=device) for _ in range(threads)]
    clicked = Clicked.on(scale.crop, scale.crop // network.traits.mask_stride, device)
    embeddings = [runner.encode(image) for image in images]
    wanted = [runner.decode(embedding, clicked) for embedding in embeddings]
    counts, wrong = [0] * threads, [0] * threads
    end_of_time = perf_counter() + scale.seconds

    def session(number: int) -> None:
        while perf_counter() < end_of_time or counts[number] == 0:
            logits = runner.decode(embeddings[number], clicked)
            wrong[number] += int(float((logits - wanted[number]).abs().max()) > 1e-2)
            counts[number] += 1

    workers = [threading.Thread(target=session, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return {
        "clicks": counts,
        "wrong": sum(wrong),
        "least_over_most": min(counts) / max(counts),
        "passed": not any(wrong),
    }


def release(device: torch.device) -> None:
    """Give memory back between sections, so that each starts alike."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
