"""The same checks on a real card; skipped where there is none. `Testing/gpu/run` reports figures as well."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from FastSAM3DCore.cuda_graphs import GraphedModule
from FastSAM3DCore.host_staging import HostStaging
from FastSAM3DCore.kernels.dispatch import failure_of_proof
from FastSAM3DCore.modeling.config import STUDENT
from FastSAM3DCore.modeling.hires import HiresConfig, build_hires
from FastSAM3DCore.modeling.sam3d import Sam3D
from FastSAM3DCore.training.config import SizePlan, TrainConfig
from FastSAM3DCore.training.data.components import component_labels
from FastSAM3DCore.training.loop import Trainer
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


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_training_on_the_card_is_finite_fused_and_goes_on_from_its_checkpoint(tmp_path: Path, optimizer: str) -> None:
    small = HiresConfig(stem=16, middle=16, width=32, heads=2, depth=2, attention_from=0, decoder=(16, 16, 32))
    config = TrainConfig(output=str(tmp_path), network="custom", custom=small, optimizer=optimizer, steps=6,
                         plans=(SizePlan(size=16, crops=4, targets=2),))  # fmt: skip
    first = Trainer(config, "cuda:0")
    first.run(stop_at=3)
    assert first.optimizer.param_groups[-1]["fused"] is True
    again = Trainer(config, "cuda:0")
    assert again.resume()
    again.run()
    assert again.step == 6
    assert all(bool(p.isfinite().all()) and p.is_cuda for p in again.model.parameters())


@pytest.mark.parametrize("share", [0.0, 0.2, 0.35, 2.0])
def test_components_on_the_card_are_those_of_the_cpu(share: float) -> None:
    mask = torch.rand(48, 40, 32, generator=torch.Generator().manual_seed(0)) < share
    labels, sizes = component_labels(mask)
    there, there_sizes = component_labels(mask.to(CUDA))
    assert torch.equal(there.cpu(), labels)
    assert there_sizes == sizes
