"""Compile what a real launch on a GPU would compile, with its real arguments, and stop just before the launch.

The interpreter runs the kernels and `aot.py` compiles them with arguments spelt out by hand; this goes through the
operator, its autograd and Triton's own reading of the arguments (alignment, values of 1, types) for a card that is not
there. Prints one JSON object: case -> names of the kernels that were compiled.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from Testing.gpu.attention_check import CASES, TYPES, Case

CHOSEN = ("one token", "bias, odd grid", "several tiles per group", "the default network's heads")


class AbsentCard:
    """What Triton asks its driver before it compiles."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _device: int) -> int:
        return 0


def compile_only(compiled: list[str]) -> None:
    """From now on `kernel[grid](...)` compiles and notes the kernel's name, but launches nothing."""

    def choose_grid(kernel: JITFunction, grid: Any) -> Any:
        def launch(*arguments: Any, **options: Any) -> None:
            found = kernel.run(*arguments, grid=grid, warmup=True, **options)
            if found is not None and found.asm["cubin"]:
                compiled.append(kernel.fn.__name__)

        return launch

    JITFunction.__getitem__ = choose_grid


def launch(case: Case) -> None:
    """Forward and backward of a case; the numbers are whatever lay in memory."""
    from FastSAM3DCore.kernels.sparse_attention_op import sparse_attention_triton

    packed = torch.randn(case.batch, math.prod(case.grid), 3, case.heads, case.head_dim).to(TYPES[case.dtype])
    q, k, v = (t.detach().requires_grad_() for t in packed.permute(2, 0, 3, 1, 4))
    bias = torch.randn(case.heads, (2 * case.window - 1) ** 3).requires_grad_() if case.bias else None
    sparse_attention_triton(q, k, v, case.grid, case.window, case.heads // 2, bias).sum().backward()


def main() -> None:
    driver.set_active(AbsentCard(90))
    results = {}
    for case in CASES:
        if case.name in CHOSEN:
            compiled: list[str] = []
            compile_only(compiled)
            launch(case)
            results[case.name] = compiled
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
