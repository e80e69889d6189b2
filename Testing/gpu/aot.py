"""Compile the sparse attention kernels ahead of time, without a GPU, and report what each card would give them.

    python Testing/gpu/aot.py [--json OUT.json] [--all]

One line per kernel, type, head size and target: registers per thread, shared memory per program, bytes spilled
(cuobjdump's STACK + LOCAL), programs that fit on one multiprocessor, matrix instructions in the machine code, and loads
of less than 16 bytes per thread.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from FastSAM3DCore.kernels.sparse_attention_op import launch_options
from FastSAM3DCore.kernels.triton_bias_gradient import bias_kernel
from FastSAM3DCore.kernels.triton_sparse_attention import backward_kernel, forward_kernel
from FastSAM3DCore.modeling.hires import student_config

TARGETS = (80, 86, 89, 90, 100)
TYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}
# Per multiprocessor: 32-bit registers, bytes of shared memory, warps (CUDA programming guide, compute capabilities).
LIMITS = {
    80: (65536, 164 << 10, 64),
    86: (65536, 100 << 10, 48),
    89: (65536, 100 << 10, 48),
    90: (65536, 228 << 10, 64),
    100: (65536, 228 << 10, 64),
}
RESERVED_SHARED = 1024  # the driver keeps 1 KB of shared memory per resident block
MATRIX_INSTRUCTION = re.compile(r"\b(?:HMMA|HGMMA|UTC\w*MMA)\b")
# Loads of less than 16 bytes per thread: none in the forward kernel without bias.
NARROW_LOAD = re.compile(r"\bld\.global(?!\S*\.v4\.b32)")


@dataclass(frozen=True)
class Case:
    """One kernel specialisation."""

    kernel: str
    dtype: torch.dtype
    head_dim: int
    window: int = 4
    grid: tuple[int, int, int] = (32, 32, 32)
    bias: bool = False


@dataclass(frozen=True)
class Row:
    """What the compiler made of a case on one target."""

    kernel: str
    dtype: str
    head_dim: int
    window: int
    bias: bool
    target: str
    registers: int
    shared_bytes: int
    spilled_bytes: int
    warps: int
    programs_per_sm: int
    matrix_instructions: int
    narrow_loads: int


KERNELS = {"forward": forward_kernel, "backward": backward_kernel, "bias": bias_kernel}


def shipped_cases() -> list[Case]:
    """What the bundled network runs: its window and head size, in half precision and in float32, both directions."""
    config = student_config()
    dim = config.width // config.heads
    return [
        Case(kernel, dtype, dim, config.window)
        for kernel, dtype in (("forward", torch.bfloat16), ("backward", torch.bfloat16), ("forward", torch.float32))
    ]


def all_cases() -> list[Case]:
    """Every type, head size and kernel, and a window of several tiles."""
    cases = [
        Case(name, dtype, dim)
        for name in ("forward", "backward")
        for dtype in TYPES
        for dim in (16, 24, 32, 48, 64, 96, 128)
    ]
    cases += [Case(name, dtype, 64, bias=True) for name in KERNELS for dtype in TYPES]
    return cases + [Case(name, torch.bfloat16, 64, window=8) for name in ("forward", "backward")]


def source_of(case: Case) -> tuple[ASTSource, dict[str, Any]]:
    """The kernel with the argument types, constants and alignment hints that a launch with the case's tensors has."""
    kernel = KERNELS[case.kernel]
    constants = launch_options(
        case.grid,
        case.window,
        case.head_dim,
        case.dtype,
        backward=case.kernel == "backward",
        summed=case.kernel == "bias",
    )
    options = {name: constants.pop(name) for name in ("num_warps", "num_stages")}
    if case.kernel != "bias":
        constants["HAS_BIAS"] = case.bias
    signature = {}
    aligned = {}
    for index, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in ("lse_ptr", "dbias_ptr") or (name == "bias_ptr" and case.bias):
            signature[name] = "*fp32"
        elif name.endswith("_ptr"):
            signature[name] = f"*{TYPES[case.dtype]}"
        else:
            signature[name] = "fp32" if name.startswith("scale") else "i32"
        if name.endswith("_ptr") or (case.head_dim % 16 == 0 and name[1:] in ("_b", "_h", "_n")):
            aligned[(index,)] = [["tt.divisibility", 16]]
    return ASTSource(kernel, signature=signature, constexprs=constants, attrs=aligned), options


def inspect(case: Case, capability: int) -> Row:
    """Compile one case for one target and read its resources from the machine code."""
    source, options = source_of(case)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = _tool("cuobjdump", "--dump-resource-usage", file.name)
        code = _tool("nvdisasm", file.name)
    line = next(line for line in usage.splitlines() if "REG:" in line)
    fields = {key: int(value) for key, value in (item.split(":") for item in line.split() if "[" not in item)}
    shared = compiled.metadata.shared
    warps = compiled.metadata.num_warps
    registers, shared_limit, warp_limit = LIMITS[capability]
    per_program = -(-fields["REG"] * 32 // 256) * 256 * warps  # registers are allocated to warps in units of 256
    programs = min(registers // per_program, shared_limit // (shared + RESERVED_SHARED), warp_limit // warps)
    return Row(
        case.kernel, TYPES[case.dtype], case.head_dim, case.window, case.bias, f"sm_{capability}",
        fields["REG"], shared, fields["STACK"] + fields["LOCAL"], warps, programs,
        len(MATRIX_INSTRUCTION.findall(code)), len(NARROW_LOAD.findall(compiled.asm["ptx"])),
    )  # fmt: skip


def _tool(name: str, *arguments: str) -> str:
    """Run one of the CUDA binary tools that Triton's wheel carries."""
    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    return subprocess.run([str(path), *arguments], check=True, capture_output=True, text=True).stdout


def report(cases: Sequence[Case], targets: Sequence[int] = TARGETS) -> Iterator[Row]:
    """Compile every case for every target."""
    for case in cases:
        for target in targets:
            yield inspect(case, target)


def table_line(row: Row) -> str:
    bias = "bias" if row.bias else ""
    return (
        f"{row.kernel:9} {row.dtype:5} {row.head_dim:4} {row.window:3} {bias:5} {row.target:7} {row.registers:5} "
        f"{row.shared_bytes:7} {row.spilled_bytes:7} {row.warps:5} {row.programs_per_sm:6} "
        f"{row.matrix_instructions:7} {row.narrow_loads:6}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--all", action="store_true", help="every type, head size and window, not only what ships")
    arguments = parser.parse_args()
    print("kernel    type  head win bias  target   regs  shared  spilled warps per-sm matrix narrow")
    rows = []
    for row in report(all_cases() if arguments.all else shipped_cases()):
        rows.append(row)
        print(table_line(row), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
