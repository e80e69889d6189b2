"""The parts of the GPU report that look at kernels and networks; each returns plain numbers.

Sizes come from `Scale`, so that all of it runs on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from FastSAM3DCore.bench.attention import HEAD_DIM, HEADS, WINDOW, attention_scaling
from FastSAM3DCore.bench.compute import Networks, as_written
from FastSAM3DCore.bench.correctness import agreement, count_gflop
from FastSAM3DCore.bench.floors import Ceilings, attention_floor_ms, network_floors
from FastSAM3DCore.bench.memory import peak_growth_mb
from FastSAM3DCore.bench.networks import Clicked, Runner
from FastSAM3DCore.bench.sam2d import Sam2DEncoder
from FastSAM3DCore.bench.timing import compare, device_ms, measure
from FastSAM3DCore.kernels.dispatch import kernel_obstacle, sparse_attention_3d
from FastSAM3DCore.kernels.sparse_attention import dense_attention_3d
from FastSAM3DCore.kernels.sparse_attention import sparse_attention_3d as torch_sparse_attention_3d
from Testing.gpu import attention_check
from Testing.gpu.scale import Scale


def correctness(device: torch.device, scale: Scale) -> dict[str, Any]:
    """The kernel against float64, forward and backward, and torch's checks of its registration."""
    rows = {}
    for case in attention_check.CASES[: scale.cases]:
        errors = attention_check.errors(case, device)
        worst = max(errors.values())
        # A card's float32 products go through three TF32 ones: 1e-5 relative is what that leaves.
        rows[case.name] = {**errors, "passed": worst < attention_check.TOLERANCE[case.dtype]}
    checks = attention_check.operator_checks(device)
    return {"cases": rows, "opcheck": checks, "passed": all(row["passed"] for row in rows.values()) and passed(checks)}


def passed(checks: dict[str, str]) -> bool:
    return set(checks.values()) == {"SUCCESS"}


def attention(device: torch.device, scale: Scale, ceilings: Ceilings) -> list[dict[str, Any]]:
    """Forward time and memory of dense and sparse attention, the sparse one without its kernel, and the floor."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    rows = []
    for row in attention_scaling(device, scale.tokens, dtype=dtype, seconds=scale.seconds):
        q, k, v, grid = packed(row["tokens"], device, dtype)
        with torch.inference_mode():
            plain = device_ms(
                partial(torch_sparse_attention_3d, q, k, v, grid, WINDOW), device, seconds=scale.seconds / 5
            )
        floor = attention_floor_ms(row["tokens"], HEADS, HEAD_DIM, WINDOW, ceilings, element_bytes=dtype.itemsize)
        obstacle = kernel_obstacle(q, k, v, grid, WINDOW) if q.is_cuda else "not on a CPU"
        rows.append({**row, "sparse_torch_ms": plain, "floor_ms": floor, "kernel": obstacle or "used"})
    return rows


def packed(tokens: int, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any, Any, tuple[int, int, int]]:
    side = round(tokens ** (1 / 3))
    q, k, v = torch.randn(1, side**3, 3, HEADS, HEAD_DIM, device=device, dtype=dtype).permute(2, 0, 3, 1, 4)
    return q, k, v, (side, side, side)


def attention_training(device: torch.device, scale: Scale) -> list[dict[str, Any]]:
    """Forward plus backward, dense and sparse; wall time per step."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    rows = []
    for tokens in scale.tokens[1:3]:
        q, k, v, grid = packed(tokens, device, dtype)
        leaves = [t.detach().requires_grad_() for t in (q, k, v)]
        weights = torch.randn_like(leaves[0])

        def step(call: Callable[..., Any], leaves: list[Any] = leaves, weights: Any = weights) -> None:
            torch.autograd.grad(call(*leaves), leaves, weights)

        times = compare(
            {
                "sparse": partial(step, lambda *t, grid=grid: sparse_attention_3d(*t, grid, WINDOW)),
                "dense": partial(step, dense_attention_3d),
            },
            device,
            seconds=scale.seconds,
        )
        rows.append({"tokens": tokens, **{f"{name}_ms": timing.median_ms for name, timing in times.items()}})
    return rows


def networks(device: torch.device, scale: Scale, ceilings: Ceilings) -> dict[str, Any]:
    """Encode and click of the three networks: eager, recorded, floors, memory; and the answers against float32."""
    built = Networks.build(device, scale.crop)
    gflop = count_gflop(built)
    report: dict[str, Any] = {"agreement": agreement(built), "trained_weights": built.default_is_trained}
    for name, model in (("student", built.student), ("teacher", built.teacher), ("default", built.default)):
        report[name] = one_network(built, name, model, gflop[name], ceilings, scale)
    baseline = {"teacher_published": as_written(device, partial(built.plain_teacher.encode, built.image))}
    if device.type == "cuda":
        baseline["teacher_published_half"] = in_half(baseline["teacher_published"], device)
    for name, timing in compare(baseline, device, seconds=2 * scale.seconds, least=1).items():
        report[f"{name}_ms"] = timing.median_ms
    return report


def one_network(
    built: Networks, name: str, model: Any, gflop: dict[str, float], ceilings: Ceilings, scale: Scale
) -> dict[str, Any]:
    device, clicked = built.device, built.clicked(model)
    recorded = Runner(model, device)
    half = recorded.dtype
    embedding = recorded.encode(built.image)
    arguments = (embedding, clicked.points, clicked.labels, clicked.mask)
    times = compare(
        {
            "encode": partial(recorded.encode, built.image),
            "click": partial(recorded.decode, embedding, clicked),
            "encode_eager": eager(partial(recorded.model.encode, built.image), device, half),
            "click_eager": eager(partial(recorded.model.decode, *arguments), device, half),
        },
        device,
        seconds=2 * scale.seconds,
    )
    device_time = {}
    with torch.inference_mode(), torch.autocast(device.type, half, enabled=half != torch.float32):
        for kind, call in (
            ("encode", partial(recorded.model.encode, built.image)),
            ("click", partial(recorded.model.decode, *arguments)),
        ):
            device_time[f"{kind}_device_ms"] = device_ms(call, device, seconds=scale.seconds / 5, inside=3)
    floors = network_floors(model, gflop, built.image, embedding, recorded.decode(embedding, clicked), ceilings)
    return {
        **{f"{key}_ms": timing.median_ms for key, timing in times.items()},
        **device_time,
        **{f"{kind}_floor_ms": value for kind, value in floors.items()},
        **{f"{kind}_gflop": value for kind, value in gflop.items()},
        "peak_mb": peak_mb(recorded.model, built, clicked, half),
        "new_allocations_in_20_clicks": allocations(lambda: recorded.decode(embedding, clicked), device),
        "name": name,
    }


def peak_mb(model: Any, built: Networks, clicked: Clicked, dtype: torch.dtype) -> float | None:
    """Weights as they lie in memory, and the most that encoding and a click need beside them."""

    def both() -> None:
        embedding = model.encode(built.image)
        model.decode(embedding, clicked.points, clicked.labels, clicked.mask)

    weights = sum(t.numel() * t.element_size() for t in model.state_dict().values()) / 2**20
    growth = peak_growth_mb(eager(both, built.device, dtype), built.device)
    return None if growth is None else weights + growth


def eager(call: Callable[[], Any], device: torch.device, dtype: torch.dtype) -> Callable[[], Any]:
    def run() -> Any:
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return call()

    return run


def in_half(call: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    return eager(call, device, torch.bfloat16)


def allocations(call: Callable[[], Any], device: torch.device, times: int = 20) -> int | None:
    """How often the driver was asked for memory during some calls; it should be never. None on a CPU."""
    if device.type != "cuda":
        return None
    call()
    before = torch.cuda.memory_stats(device)["num_device_alloc"]
    for _ in range(times):
        call()
    return int(torch.cuda.memory_stats(device)["num_device_alloc"] - before)


def sam2d(device: torch.device, scale: Scale) -> dict[str, float]:
    """A 2D SAM's encoder over all slices of the crop, every one of them run, in float32 and in half precision."""
    model = Sam2DEncoder(scale.sam_size, scale.sam_depth).to(device).eval()
    image = torch.randn(1, 3, scale.sam_size, scale.sam_size, device=device)

    def stack() -> None:
        for _ in range(scale.slices):
            model(image)

    run = as_written(device, stack)
    timings = {"float32_ms": measure(run, device, seconds=0.0, least=1).median_ms}
    if device.type == "cuda":
        timings["half_ms"] = measure(in_half(run, device), device, seconds=0.0, least=1).median_ms
    return {**timings, "slices": scale.slices}
