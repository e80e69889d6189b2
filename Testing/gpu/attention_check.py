"""Compare the sparse attention kernel, forward and backward, with masked softmax attention in float64.

    TRITON_INTERPRET=1 python Testing/gpu/attention_check.py     on the CPU, through Triton's interpreter
    python Testing/gpu/attention_check.py --device cuda          on a GPU

Prints one JSON object: case -> relative error ||found - wanted|| / ||wanted|| of the output and of each gradient, and
"opcheck" -> what torch says about each part of the operator's registration.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor

from FastSAM3DCore.kernels.sparse_attention import attention_pattern, axis_segments

TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# Operands of half precision carry 11 (float16) or 8 (bfloat16) bits; the products are summed in float32.
# On a card float32 goes through three TF32 products, which keep 21 bits or so.
TOLERANCE = {"float32": 2e-5, "float16": 3e-3, "bfloat16": 2e-2}


@dataclass(frozen=True)
class Case:
    """One comparison. `strided` cuts q, k, v out of one projection, as the networks do."""

    name: str
    grid: tuple[int, int, int]
    head_dim: int
    dtype: str = "float32"
    window: int = 4
    heads: int = 2
    batch: int = 1
    bias: bool = False
    strided: bool = True


CASES = [
    Case("odd grid, head 24, batch 2", (5, 6, 7), 24, batch=2),
    Case("one slice, head 48", (1, 9, 6), 48, "float16"),
    Case("one column, window 3", (1, 1, 11), 32, window=3),
    Case("one token", (1, 1, 1), 64, "float16"),
    Case("one group, head 64", (4, 4, 4), 64, "bfloat16"),
    Case("three heads: one local, two dilated", (3, 5, 2), 16, window=2, heads=3),
    Case("several tiles per group", (6, 5, 7), 16, window=5),
    Case("several tiles per group, head 128", (5, 5, 6), 128, "float16", window=5),
    Case("bias, odd grid", (5, 3, 6), 32, window=4, heads=3, bias=True),
    Case("bias, several tiles", (5, 6, 5), 16, window=5, bias=True),
    Case("bias, bfloat16, whole windows", (4, 8, 4), 32, "bfloat16", bias=True),
    Case("separate contiguous tensors", (5, 4, 6), 32, strided=False, batch=2),
    Case("the default network's heads", (8, 8, 8), 32, "bfloat16", heads=6),
]


def reference(q: Tensor, k: Tensor, v: Tensor, case: Case, bias: Tensor | None) -> Tensor:
    """Softmax over all tokens in which those of other groups are masked; (B, heads, N, C) float64."""
    logits = q @ k.transpose(-1, -2) * case.head_dim**-0.5
    half = case.heads // 2
    allowed = torch.stack([attention_pattern(case.grid, case.window, head >= half) for head in range(case.heads)])
    if bias is not None:
        rows = torch.stack([offset_rows(case, head >= half) for head in range(case.heads)])
        logits = logits + torch.gather(bias, 1, rows.clamp(min=0).flatten(1)).reshape(rows.shape)
    return logits.masked_fill(~allowed, -math.inf).softmax(-1) @ v


def offset_rows(case: Case, dilated: bool) -> Tensor:
    """(N, N) row of the bias table for every pair of tokens of a group; meaningless for other pairs."""
    side = 2 * case.window - 1
    coordinates = torch.meshgrid(*(torch.arange(n) for n in case.grid), indexing="ij")
    row = torch.zeros(1, 1, dtype=torch.int64)
    for length, coordinate in zip(case.grid, coordinates, strict=True):
        segments, size = axis_segments(length, case.window)
        slot = coordinate.reshape(-1)
        slot = slot // segments if dilated else slot % size
        row = row * side + slot[:, None] - slot[None, :] + case.window - 1
    return row.clamp(0, side**3 - 1)


def errors(case: Case, device: torch.device) -> dict[str, float]:
    """Relative errors of the kernel on fresh random inputs."""
    from FastSAM3DCore.kernels.sparse_attention_op import sparse_attention_triton

    generator = torch.Generator().manual_seed(len(case.name))
    tokens, dtype = math.prod(case.grid), TYPES[case.dtype]
    packed = torch.randn(case.batch, tokens, 3, case.heads, case.head_dim, generator=generator).to(device, dtype)
    parts = [t if case.strided else t.contiguous() for t in packed.permute(2, 0, 3, 1, 4)]
    bias = None
    if case.bias:
        bias = torch.randn(case.heads, (2 * case.window - 1) ** 3, generator=generator).to(device)
    leaves = [t.detach().requires_grad_() for t in (*parts, *([] if bias is None else [bias]))]
    out = sparse_attention_triton(*leaves[:3], case.grid, case.window, case.heads // 2, *leaves[3:])
    weights = torch.randn(out.shape, generator=generator).to(device, dtype)
    out.backward(weights)
    exact = [t.detach().cpu().double().requires_grad_() for t in leaves]
    wanted = reference(*exact[:3], case, exact[3] if case.bias else None)
    wanted.backward(weights.cpu().double())
    pairs = {"out": (out, wanted)}
    for name, found, right in zip(("dq", "dk", "dv", "dbias"), leaves, exact, strict=False):
        pairs[name] = (found.grad, right.grad)
    return {name: relative(found, right) for name, (found, right) in pairs.items()}


def relative(found: Tensor | None, wanted: Tensor | None) -> float:
    """||found - wanted|| / ||wanted||, absolute where the truth is zero (one token: no gradient but dv)."""
    if found is None or wanted is None:
        return math.inf
    wanted = wanted.detach()
    norm = float(wanted.norm())
    return float((found.detach().cpu().double() - wanted).norm()) / (norm if norm > 1e-9 else 1.0)


def operator_checks(device: torch.device) -> dict[str, str]:
    """What torch.library.opcheck says about schema, shape inference and autograd registration: all "SUCCESS"."""
    from FastSAM3DCore.kernels.sparse_attention_op import _sparse_attention

    q, k, v = (torch.randn(1, 2, 30, 16, device=device, requires_grad=True) for _ in range(3))
    bias = torch.randn(2, 27, device=device, requires_grad=True)
    results = {}
    for name, table in (("without bias", None), ("with bias", bias)):
        found = torch.library.opcheck(_sparse_attention, (q, k, v, table, [5, 3, 2], 2, 1, 0.25), raise_exception=False)
        results |= {f"{check} {name}": str(result) for check, result in found.items()}
    return results


def teach_interpreter_bfloat16() -> None:
    """Triton's interpreter keeps bfloat16 as 16-bit integers and multiplies those in `dot`; multiply the numbers."""
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    plain = interpreter.InterpreterBuilder.create_dot

    def create_dot(self: object, a: object, b: object, d: object, *rest: object) -> object:
        def widened(handle: object) -> object:
            if handle.dtype.scalar != tl.bfloat16:
                return handle
            bits = interpreter._convert_float(handle.data, tl.bfloat16, tl.float32, None)
            return interpreter.TensorHandle(bits.view(np.float32), tl.float32)

        return plain(self, widened(a), widened(b), d, *rest)

    interpreter.InterpreterBuilder.create_dot = create_dot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if os.environ.get("TRITON_INTERPRET") == "1":
        teach_interpreter_bfloat16()
    device = torch.device(arguments.device)
    results: dict[str, object] = {case.name: errors(case, device) for case in CASES}
    results["opcheck"] = operator_checks(device)
    json.dump(results, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
