"""Reference tensors of the published code, found beside the checkout; absent in most places."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "reference"

needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"no reference tensors at {REFERENCE}; the golden tensors cover the same code"
)


def load_reference(*parts: str) -> dict[str, Tensor]:
    """All tensors of one reference file."""
    return load_file(REFERENCE.joinpath(*parts))
