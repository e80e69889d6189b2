"""The sparse attention kernel without a GPU: interpreted and compared with float64, and compiled for every target."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from FastSAM3DCore.errors import DeviceError
from FastSAM3DCore.kernels import sparse_attention
from FastSAM3DCore.kernels.dispatch import KERNELS_VARIABLE, kernel_obstacle, sparse_attention_3d
from Testing.gpu import attention_check

GPU_TESTS = Path(__file__).parents[1] / "gpu"
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install triton"
)


def run_python(*arguments: str, **variables: str) -> str:
    """Run Python in a process of its own: Triton decides at import whether it interprets or compiles."""
    root = str(GPU_TESTS.parents[1])
    environment = {**os.environ, "PYTHONPATH": root, **variables}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    result: dict[str, Any] = json.loads(run_python(str(GPU_TESTS / "attention_check.py"), TRITON_INTERPRET="1"))
    return result


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("case", attention_check.CASES, ids=lambda case: case.name)
def test_interpreted_kernel_and_its_gradients_agree_with_float64(
    interpreted: dict[str, Any], case: attention_check.Case
) -> None:
    errors = interpreted[case.name]
    assert set(errors) == {"out", "dq", "dk", "dv"} | ({"dbias"} if case.bias else set())
    assert max(errors.values()) < attention_check.TOLERANCE[case.dtype]


@needs_triton
@pytest.mark.slow
def test_operator_registration_passes_torch_s_own_checks(interpreted: dict[str, Any]) -> None:
    assert len(interpreted["opcheck"]) == 8
    assert set(interpreted["opcheck"].values()) == {"SUCCESS"}


@needs_triton
def test_dispatch_takes_the_kernel_when_it_is_asked_for() -> None:
    code = (
        "import sys, torch; from FastSAM3DCore.kernels import dispatch, sparse_attention as plain\n"
        "q, k, v = torch.randn(3, 1, 2, 60, 16)\n"
        "found = dispatch.sparse_attention_3d(q, k, v, (5, 4, 3), 2)\n"
        "print('sparse_attention_op' in str(sorted(sys.modules)),"
        " torch.allclose(found, plain.sparse_attention_3d(q, k, v, (5, 4, 3), 2), atol=1e-5))"
    )
    assert run_python("-c", code, TRITON_INTERPRET="1", **{KERNELS_VARIABLE: "triton"}).split() == ["True", "True"]


@needs_triton
@pytest.mark.slow
def test_shipped_kernels_compile_for_every_card_without_spilling(tmp_path: Path) -> None:
    run_python(
        str(GPU_TESTS / "aot.py"), "--json", str(tmp_path / "aot.json"), TRITON_CACHE_DIR=str(tmp_path / "cache")
    )
    rows = json.loads((tmp_path / "aot.json").read_text())
    assert {row["target"] for row in rows} == {"sm_80", "sm_86", "sm_89", "sm_90", "sm_100"}
    assert {row["kernel"] for row in rows} == {"forward", "backward"}
    for row in rows:
        assert row["spilled_bytes"] == 0, row
        assert row["matrix_instructions"] > 0, row
        assert row["programs_per_sm"] >= 2, row
        # The backward kernel reads a log-sum-exp per query, the only values that are not rows of channels.
        assert row["narrow_loads"] <= (0 if row["kernel"] == "forward" else 2), row


@needs_triton
@pytest.mark.slow
def test_a_launch_on_a_card_that_is_not_there_compiles_from_its_real_arguments(tmp_path: Path) -> None:
    script = str(GPU_TESTS / "launch_check.py")
    compiled = json.loads(run_python(script, TRITON_CACHE_DIR=str(tmp_path), TRITON_INTERPRET="0"))
    both = ["forward_kernel", "backward_kernel"]
    assert compiled == {
        "one token": both,
        "bias, odd grid": [*both, "bias_kernel"],
        "several tiles per group": both,
        "the default network's heads": both,
    }


def sample(grid: tuple[int, int, int], heads: int = 2, dim: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 1, heads, math.prod(grid), dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("grid", [(5, 6, 7), (4, 4, 4), (1, 9, 2), (8, 4, 3)])
@pytest.mark.parametrize("choice", ["auto", "torch"])
def test_on_the_cpu_dispatch_is_the_plain_implementation(
    grid: tuple[int, int, int], choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, choice)
    q, k, v = sample(grid)
    wanted = sparse_attention.sparse_attention_3d(q, k, v, grid, 4)
    torch.testing.assert_close(sparse_attention_3d(q, k, v, grid, 4), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("grid", [(5, 6, 7), (4, 4, 4), (1, 9, 2)])
@pytest.mark.parametrize("heads", [2, 3])
def test_bias_of_the_plain_implementation_agrees_with_masked_attention(grid: tuple[int, int, int], heads: int) -> None:
    q, k, v = sample(grid, heads)
    bias = torch.randn(heads, 343, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = attention_check.reference(q, k, v, attention_check.Case("", grid, 16, heads=heads, bias=True), bias)
    torch.testing.assert_close(sparse_attention_3d(q, k, v, grid, 4, bias), wanted)


def test_demanding_the_kernel_where_it_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, "triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    q, k, v = sample((4, 4, 4)).float()
    with pytest.raises(DeviceError, match=r"NVIDIA GPUs, not on cpu|Triton is not installed"):
        sparse_attention_3d(q, k, v, (4, 4, 4), 4)


def test_an_unknown_choice_of_kernels_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, "fast")
    q, k, v = sample((2, 2, 2))
    with pytest.raises(DeviceError, match="auto, torch or triton"):
        sparse_attention_3d(q, k, v, (2, 2, 2), 4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dim": 8}, "channels are outside 16..128"),
        ({"dim": 256}, "channels are outside 16..128"),
        ({"heads": 1}, "two heads"),
        ({"dtype": torch.float64}, "not one of float32"),
        ({"grid": (2, 2, 3)}, "do not fill the grid"),
        ({"bias": torch.zeros(2, 27)}, "the bias has shape"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_the_guard_names_what_the_kernel_cannot_take(change: dict[str, Any], words: str) -> None:
    tokens = torch.zeros(
        3, 1, change.get("heads", 2), 8, change.get("dim", 16), dtype=change.get("dtype", torch.float32)
    )
    q, k, v = tokens
    obstacle = kernel_obstacle(q, k, v, change.get("grid", (2, 2, 2)), 4, change.get("bias"))
    assert obstacle is not None
    assert words in obstacle
