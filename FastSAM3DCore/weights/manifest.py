"""Resources/models.json: the models this project knows, where they come from and under which licence.

    python -m FastSAM3DCore.weights.manifest --update

writes size and SHA-256 of the bundled files into the manifest, after they were replaced.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FastSAM3DError, WeightsError
from ..resources import resource_path
from .files import sha256_of, write_text_atomically

__all__ = ["ModelEntry", "load_manifest", "manifest_entry", "update_manifest"]

FORMAT = "fastsam3d-models/1"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model of the manifest.

    Attributes:
        name: what users type.
        description: one sentence.
        architecture: "fastsam3d-hires" (the project's own), "fastsam3d" or "sam-med3d" (published).
        file: path below Resources/ of a bundled model; the name to save a download under otherwise.
        bundled: whether it comes with the installation.
        urls: addresses of the download, the official one first.
        sha256: digest of that file, or None if its publisher states none.
        size: bytes, or None if not known exactly.
        approximate_mb: size for people.
        licence: SPDX identifier.
        licence_url: where the licence text or the publisher's statement is.
        source: who made it, and where it is described.
        input: how a scan must be prepared; the engine does it.
    """

    name: str
    description: str
    architecture: str
    file: str
    bundled: bool
    urls: tuple[str, ...]
    sha256: str | None
    size: int | None
    approximate_mb: int
    licence: str
    licence_url: str
    source: str
    input: str

    @property
    def bundled_path(self) -> Path | None:
        """The bundled file; None for models that are imported.

        Raises:
            WeightsError: it is missing from the installation.
        """
        if not self.bundled:
            return None
        try:
            return resource_path(*self.file.split("/"))
        except FastSAM3DError as error:
            raise WeightsError(
                f"The bundled model {self.name!r} is missing from this installation (Resources/{self.file}); "
                "install FastSAM3D again or choose another model."
            ) from error


def load_manifest(path: Path | None = None) -> dict[str, ModelEntry]:
    """All known models by name, in the manifest's order.

    Raises:
        WeightsError: the manifest is missing or damaged.
    """
    data = read_manifest(path)
    try:
        entries = [ModelEntry(**{**model, "urls": tuple(model["urls"])}) for model in data["models"]]
    except (KeyError, TypeError) as error:
        raise WeightsError(f"The model manifest is damaged ({error}); install FastSAM3D again.") from error
    return {entry.name: entry for entry in entries}


def manifest_entry(name: str) -> ModelEntry:
    """The entry of one model.

    Raises:
        WeightsError: unknown name; the message lists the known ones.
    """
    known = load_manifest()
    if name not in known:
        raise WeightsError(f"Unknown model {name!r}; known are {', '.join(known)}.")
    return known[name]


def read_manifest(path: Path | None) -> dict[str, Any]:
    try:
        path = path or resource_path("models.json")
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FastSAM3DError, OSError, ValueError) as error:
        raise WeightsError(f"The model manifest cannot be read ({error}); install FastSAM3D again.") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise WeightsError(f"The model manifest is not of the format {FORMAT!r}; install FastSAM3D again.")
    return data


def update_manifest(path: Path | None = None) -> list[str]:
    """Write size and digest of every bundled file that is there.

    Returns:
        Names of the models that were written.
    """
    path = path or resource_path("models.json")
    data = read_manifest(path)
    updated = []
    for model in data["models"]:
        file = path.parent / model["file"]
        if model["bundled"] and file.is_file():
            size = file.stat().st_size
            model |= {"sha256": sha256_of(file), "size": size, "approximate_mb": max(1, round(size / 1e6))}
            updated.append(model["name"])
    write_text_atomically(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    return updated


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write size and SHA-256 of bundled weights into the manifest.")
    parser.add_argument("--update", action="store_true", required=True)
    parser.parse_args()
    update_manifest()
