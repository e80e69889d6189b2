"""Encode and decode of every network could be recorded as CUDA graphs: proved on the CPU by watching every call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from FastSAM3DCore.kernels.dispatch import sparse_attention_3d
from FastSAM3DCore.modeling.config import STUDENT, TEACHER
from FastSAM3DCore.modeling.hires import HiresConfig, build_hires
from FastSAM3DCore.modeling.sam3d import Sam3D
from Testing.core.device_discipline import DeviceDiscipline

SMALL = {
    "image_size": 32,
    "patch_size": 8,
    "dim": 48,
    "heads": 2,
    "mlp_dim": 64,
    "neck_dim": 24,
    "decoder_mlp_dim": 32,
    "decoder_heads": 2,
}


def networks() -> dict[str, Any]:
    hires = HiresConfig(stem=8, middle=16, width=32, heads=2, depth=3, embedding=4, decoder=(8, 16, 32))
    return {
        "student": Sam3D(replace(STUDENT, depth=3, **SMALL)),
        "teacher": Sam3D(replace(TEACHER, depth=3, **SMALL)),
        "hires": build_hires(hires),
    }


def test_the_watch_sees_what_a_recording_cannot_hold() -> None:
    x = torch.arange(4.0)
    with DeviceDiscipline() as watch:
        _ = x.sum().item()
        _ = x[x > 1]
        _ = torch.tensor([1.0])
        _ = torch.zeros(3)
        _ = bool(x.any())
    assert len(watch.offences) == 5


@pytest.mark.parametrize("name", ["student", "teacher", "hires"])
def test_encode_and_decode_never_wait_for_the_device(name: str) -> None:
    model = networks()[name].eval()
    size = 32
    points, labels = torch.rand(1, 2, 3) * size, torch.tensor([[1, 0]])
    mask = torch.rand(1, 1, *[size // model.traits.mask_stride] * 3)
    boxes = torch.tensor([[[2.0, 2, 2], [20, 20, 20]]])
    prompts = {"boxes": boxes} if model.traits.box_prompts else {}
    image = torch.rand(1, 1, size, size, size)
    with torch.inference_mode(), DeviceDiscipline() as watch:
        embedding = model.encode(image)
        model.decode(embedding, points, labels, mask, **prompts)
        model.decode(embedding, points, labels, None if not model.traits.mask_prompt_zero else mask)
    assert watch.calls > 50
    assert watch.offences == []


def test_sparse_attention_never_waits_for_the_device() -> None:
    q, k, v = torch.rand(3, 1, 2, 210, 16)
    with DeviceDiscipline() as watch:
        sparse_attention_3d(q, k, v, (5, 6, 7), 4)
    assert watch.offences == []
