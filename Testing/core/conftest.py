"""Fixtures that several tests of the core share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from FastSAM3DCore.weights.cache import WeightsCache
from Testing.core.weights_downloading import checkpoint_bytes


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch computes in one thread: tiny networks only wait for a second one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cache(tmp_path: Path) -> WeightsCache:
    """An empty folder for downloaded and imported weights."""
    return WeightsCache(tmp_path / "cache")


@pytest.fixture(scope="session")
def content() -> bytes:
    """A tiny student's checkpoint as its authors would publish it."""
    return checkpoint_bytes()
