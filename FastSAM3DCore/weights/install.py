"""Bring weights into the cache, and list what there is."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from ..errors import WeightsError
from .cache import CacheRecord, WeightsCache
from .files import WEIGHT_SUFFIXES, Progress, delete_leftover, exclusive, sha256_of, take_name
from .manifest import ModelEntry, load_manifest

__all__ = [
    "Digest",
    "ModelStatus",
    "bundled_file",
    "import_weights",
    "keep",
    "list_models",
    "problem_of",
    "stated_digest",
]

State = Literal["bundled", "installed", "not installed", "missing"]


class Digest(NamedTuple):
    """A SHA-256 that a file must have, and who said so: "pinned", "manifest", "first use" or "server"."""

    sha256: str
    stated_by: str


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One line of `weights list`."""

    name: str
    state: State
    architecture: str
    size_mb: int
    licence: str
    description: str


def list_models(cache: WeightsCache) -> list[ModelStatus]:
    """Every model of the manifest, then those imported under other names."""
    records, manifest = cache.records(), load_manifest()
    statuses = [status_of(entry, cache) for entry in manifest.values()]
    for name, record in records.items():
        if name not in manifest:
            size = max(1, round(record.size / 1e6))
            description = f"Imported from {record.source}."
            statuses.append(ModelStatus(name, "installed", record.architecture, size, "-", description))
    return statuses


def status_of(entry: ModelEntry, cache: WeightsCache) -> ModelStatus:
    if entry.bundled:
        state: State = "missing" if bundled_file(entry) is None else "bundled"
    else:
        state = "installed" if cache.path_of(entry.name).is_file() else "not installed"
    return ModelStatus(entry.name, state, entry.architecture, entry.approximate_mb, entry.licence, entry.description)


def bundled_file(entry: ModelEntry) -> Path | None:
    """The bundled file if it is there."""
    try:
        return entry.bundled_path
    except WeightsError:
        return None


def import_weights(
    path: Path,
    cache: WeightsCache,
    *,
    name: str | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> tuple[str, CacheRecord]:
    """Copy the weights of a file into the cache, as safetensors; the file itself stays as it is.

    Args:
        path: any published layout.
        name: a model of the manifest, or a new name; by default the published model of the same architecture.
        sha256: digest that the file must have.
        progress: told bytes hashed.

    Returns:
        The name it is loaded by, and its record.

    Raises:
        WeightsError: unusable file, a name it could not be loaded by, another digest, or another architecture than
            the name's.
        OutputError: the cache cannot be written.
    """
    digest = sha256_of(path, progress)
    stated = Digest(checked_hex(sha256), "pinned") if sha256 else None
    if name is not None:
        refuse_bundled(name)
        cache.path_of(name)  # refuses names that cannot be file names
        refuse_file_name(name)
        stated = stated or stated_digest(name, cache)
    if problem := problem_of(path, digest, stated):
        raise WeightsError(f"{path}: {problem}.")
    with exclusive(cache.downloads / "import.lock"):
        return keep(path, digest, stated, str(path.absolute()), cache, name)


def keep(
    file: Path, digest: str, stated: Digest | None, source: str, cache: WeightsCache, name: str | None
) -> tuple[str, CacheRecord]:
    """Convert a checked file into the cache and record it.

    Raises:
        WeightsError: not a full model, or of another architecture than `name` has in the manifest.
        OutputError: the cache cannot be written.
    """
    from .convert import convert_weights

    staged = cache.downloads / f"{name or 'import'}.safetensors"
    try:
        architecture = convert_weights(file, staged, extra={"source_sha256": digest})
        name = name_for(architecture, name)
        if stated is None and (problem := problem_of(file, digest, stated_digest(name, cache))):
            raise WeightsError(f"{file}: {problem}.")
        target = cache.path_of(name)
        size, converted = staged.stat().st_size, sha256_of(staged)
        take_name(staged, target)
    finally:
        delete_leftover(staged)
    trusted = stated.stated_by if stated is not None and stated.stated_by != "server" else "first use"
    record = CacheRecord(converted, digest, source, trusted, architecture, size)
    cache.record(name, record)
    return name, record


def refuse_bundled(name: str) -> None:
    """Raise WeightsError if a name belongs to a model that comes with the installation."""
    entry = load_manifest().get(name)
    if entry is not None and entry.bundled:
        raise WeightsError(f"The model {name!r} comes with the installation; choose another name.")


def refuse_file_name(name: str) -> None:
    """Raise WeightsError if `load_model` would take a name for the path of a file."""
    path = Path(name)
    if path.suffix in WEIGHT_SUFFIXES:
        raise WeightsError(f"{name!r} would be taken for a file at loading; name the model {path.stem!r} instead.")


def name_for(architecture: str, name: str | None) -> str:
    """The name to keep an architecture under.

    Raises:
        WeightsError: the name is taken by another architecture or by a bundled model, or one must be given.
    """
    manifest = load_manifest()
    if name is None:
        matching = [e.name for e in manifest.values() if e.architecture == architecture and not e.bundled]
        if not matching:
            raise WeightsError(f"A model of architecture {architecture} needs a name of its own; give one with --name.")
        return matching[0]
    refuse_bundled(name)
    entry = manifest.get(name)
    if entry is not None and entry.architecture != architecture:
        raise WeightsError(
            f"The file holds a network of architecture {architecture}, but {name!r} is {entry.architecture}; "
            "choose the other model or another --name."
        )
    return name


def stated_digest(name: str, cache: WeightsCache, pinned: str | None = None) -> Digest | None:
    """The digest that a model's published file must have: pinned by the user, in the manifest, or seen before."""
    if pinned:
        return Digest(checked_hex(pinned), "pinned")
    entry, record = load_manifest().get(name), cache.records().get(name)
    if entry is not None and entry.sha256:
        return Digest(entry.sha256, "manifest")
    return Digest(record.source_sha256, record.trusted) if record is not None else None


def checked_hex(sha256: str) -> str:
    """A digest as typed by a user, in lower case.

    Raises:
        WeightsError: not 64 hexadecimal digits.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise WeightsError(f"{sha256!r} is no SHA-256; give its 64 hexadecimal digits.")
    return sha256.lower()


def problem_of(path: Path, digest: str, stated: Digest | None) -> str | None:
    """Why a file must not be used: it has another digest, or its own checksums fail; None if it may."""
    if stated is not None:
        words = {"pinned": "as pinned", "manifest": "of the manifest", "server": "that the server announced"}
        who = words.get(stated.stated_by, "recorded when it was first installed ('weights remove' forgets it)")
        return None if digest == stated.sha256 else f"its SHA-256 is {digest}, not {stated.sha256} {who}"
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            return f"it is damaged (checksum of {damaged})" if damaged else None
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        return f"it is damaged ({error})"
    return None
