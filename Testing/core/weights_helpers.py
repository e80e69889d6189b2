"""Tiny published-style networks, and an installation tree whose manifest points to a local server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from FastSAM3DCore import resources
from FastSAM3DCore.modeling.build import build_sam3d
from FastSAM3DCore.modeling.config import Sam3DConfig
from FastSAM3DCore.modeling.sam3d import Sam3D

SIZES: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 4,
    "dim": 24,
    "heads": 2,
    "mlp_dim": 48,
    "neck_dim": 48,
    "decoder_mlp_dim": 64,
    "iou_hidden_dim": 32,
}
TINY_STUDENT = Sam3DConfig(
    name="fastsam3d", depth=3, window=0, global_attention=(0, 1), skip_blocks=1, residual="normed", **SIZES
)
TINY_TEACHER = Sam3DConfig(name="sam-med3d-turbo", depth=4, window=7, global_attention=(1, 3), **SIZES)


def tiny_model(config: Sam3DConfig = TINY_STUDENT) -> Sam3D:
    torch.manual_seed(7)
    return build_sam3d(config)


def tiny_state(config: Sam3DConfig = TINY_STUDENT) -> dict[str, Tensor]:
    return dict(tiny_model(config).state_dict())


def answer(model: Any) -> Tensor:
    """What a model says to one fixed click."""
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(1, 1, 16, 16, 16, generator=generator)
    with torch.no_grad():
        logits: Tensor = model.decode(model.encode(image), torch.tensor([[[4.0, 9.0, 2.0]]]), torch.ones(1, 1), None)[0]
    return logits


def install_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: dict[str, Any]) -> Path:
    """An installation of its own, with the real manifest changed per model; returns its Resources folder."""
    manifest = json.loads(resources.resource_path("models.json").read_text(encoding="utf-8"))
    for model in manifest["models"]:
        model.update(changes.get(model["name"].replace("-", "_"), {}))
    folder = tmp_path / "installed" / "Resources"
    folder.mkdir(parents=True)
    (folder / "models.json").write_text(json.dumps(manifest), encoding="utf-8")
    monkeypatch.setattr(resources, "PACKAGE", folder.parent / "FastSAM3DCore")
    return folder
