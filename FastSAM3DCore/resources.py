"""Where the files of Resources/ are: beside the checkout or the Slicer module, or inside the installed package."""

from __future__ import annotations

from pathlib import Path

from .errors import FastSAM3DError

__all__ = ["resource_path", "resource_roots"]

PACKAGE = Path(__file__).resolve().parent
MARKER = "models.json"
"""Every Resources folder of this project holds the model manifest; Slicer's own Resources folders do not."""


def resource_roots() -> list[Path]:
    """The Resources folders that exist, in the order they are searched."""
    candidates = (
        PACKAGE / "_resources",  # an installed wheel
        PACKAGE.parent / "Resources",  # a source checkout, or Slicer's folder of scripted modules
    )
    return [root for root in candidates if (root / MARKER).is_file()]


def resource_path(*parts: str) -> Path:
    """A file or folder of Resources/.

    Args:
        parts: path below Resources/, as in `resource_path("weights", "default.safetensors")`.

    Raises:
        FastSAM3DError: it is not there.
    """
    for root in resource_roots():
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise FastSAM3DError(f"Resources/{'/'.join(parts)} is missing from this installation; install FastSAM3D again.")
