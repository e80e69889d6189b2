"""The optional parts of an installation, and how to get one."""

from __future__ import annotations

__all__ = ["EXTRAS", "how_to_install", "what_is_missing"]

# Extra of pyproject.toml -> the modules that it brings.
EXTRAS = {
    "plot": ("matplotlib",),
    "web": ("trame_slicer", "trame", "aiohttp", "slicer", "vtk"),
    "server": ("fastapi", "uvicorn"),
    "train": ("scipy",),
    "sample": ("nilearn",),
}


def how_to_install(extra: str) -> str:
    """The command that installs an extra; the package is not on PyPI, so it works in a clone."""
    return f"in the folder of FastSAM3DSlicer: pip install '.[{extra}]'"


def what_is_missing(error: ModuleNotFoundError) -> str | None:
    """What to do about a module that an extra would have brought, as a sentence; None for any other."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules:
            return f"This needs {module}, which is not installed; {how_to_install(extra)}"
    return None
