"""Downloading a tiny published-style file from a test server, and what must be there afterwards."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from FastSAM3DCore import load_model
from FastSAM3DCore.modeling.config import Sam3DConfig
from FastSAM3DCore.weights.cache import CacheRecord, WeightsCache
from FastSAM3DCore.weights.download import download_weights
from Testing.core.weights_helpers import TINY_STUDENT, answer, install_tree, tiny_model, tiny_state
from Testing.core.weights_server import WeightsServer


def checkpoint_bytes(config: Sam3DConfig = TINY_STUDENT) -> bytes:
    buffer = io.BytesIO()
    torch.save({"model_state_dict": tiny_state(config), "optimizer_state_dict": {"m": torch.zeros(1000)}}, buffer)
    return buffer.getvalue()


def download(
    server: WeightsServer,
    cache: WeightsCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    mirror: str | None = None,
    sha256: str | None = None,
) -> tuple[CacheRecord, list[tuple[int, int | None]]]:
    """Download "fastsam3d", whose only address is the server's; returns its record and the reported progress."""
    if not (tmp_path / "installed").exists():
        install_tree(tmp_path, monkeypatch, fastsam3d={"urls": [server.url()]})
    reported: list[tuple[int, int | None]] = []
    record = download_weights(
        "fastsam3d",
        cache,
        lambda done, total: reported.append((done, total)),
        mirror=mirror,
        sha256=sha256,
        attempts=3,
        backoff=0.0,
    )
    return record, reported


def assert_installed(cache: WeightsCache) -> None:
    loaded = load_model("fastsam3d", "cpu", cache_dir=cache.folder)
    torch.testing.assert_close(answer(loaded), answer(tiny_model()), atol=0, rtol=0)
    assert loaded.traits.name == "fastsam3d"
    assert sorted(p.name for p in cache.folder.rglob("*") if p.is_file()) == [
        "fastsam3d.lock",
        "fastsam3d.safetensors",
        "index.json",
    ]


def assert_nothing_installed(cache: WeightsCache) -> None:
    assert not cache.path_of("fastsam3d").exists()
    assert "fastsam3d" not in cache.records()
