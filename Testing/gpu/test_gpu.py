"""The same checks on a real card; skipped where there is none. `Testing/gpu/run` reports figures as well."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from FastSAM3DCore.cuda_graphs import GraphedModule
from FastSAM3DCore.host_staging import HostStaging
from FastSAM3DCore.kernels.dispatch import failure_of_proof
from FastSAM3DCore.modeling.config import STUDENT
from FastSAM3DCore.modeling.hires import HiresConfig, build_hires
from FastSAM3DCore.modeling.sam3d import Sam3D
from Testing.gpu import attention_check

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device; Testing/gpu/run says what it would do"),
]
CUDA = torch.device("cuda", 0)


@pytest.mark.parametrize("case", attention_check.CASES, ids=lambda case: case.name)
def test_kernel_agrees_with_float64(case: attention_check.Case) -> None:
    errors = attention_check.errors(case, CUDA)
    assert max(errors.values()) < attention_check.TOLERANCE[case.dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_guard_finds_nothing_wrong_with_the_kernel(dtype: torch.dtype) -> None:
    assert failure_of_proof(CUDA, dtype) is None


@pytest.mark.parametrize("name", ["student", "default"])
@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "bfloat16"])
def test_recorded_networks_give_what_eager_ones_give(name: str, mixed: bool, caplog: pytest.LogCaptureFixture) -> None:
    small = replace(STUDENT, image_size=32, patch_size=8, depth=3)
    model: Any = Sam3D(small) if name == "student" else build_hires(HiresConfig(depth=3))
    model = model.to(CUDA).eval()
    encode, decode = GraphedModule(model.encode, CUDA), GraphedModule(model.decode, CUDA)
    side = 32 // model.traits.mask_stride
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=mixed):
        for seed in range(3):
            draw = partial(torch.rand, generator=torch.Generator().manual_seed(seed))
            image, points, mask = draw(1, 1, 32, 32, 32), 32 * draw(1, 2, 3), draw(1, 1, side, side, side)
            labels = torch.tensor([[1, 0]])
            found = decode(encode(image), points, labels, mask)[0]
            wanted = model.decode(model.encode(image.to(CUDA)), points.to(CUDA), labels.to(CUDA), mask.to(CUDA))[0]
            torch.testing.assert_close(found, wanted, rtol=2e-2, atol=2e-2)
    assert encode.recordings == decode.recordings == 1
    assert caplog.text == ""


def test_staged_copies_come_back_whole() -> None:
    staging = HostStaging(CUDA)
    for _ in range(5):
        source = torch.rand(64, 64, 64)
        torch.testing.assert_close(staging.to_host(staging.to_device(source)), source, rtol=0, atol=0)
