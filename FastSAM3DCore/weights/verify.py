"""Check that weights are still what was installed."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import WeightsError
from .cache import CacheRecord, WeightsCache
from .files import Progress, sha256_of
from .install import bundled_file
from .manifest import ModelEntry, load_manifest

__all__ = ["Verified", "verify_weights"]


@dataclass(frozen=True, slots=True)
class Verified:
    """One line of `weights verify`.

    Attributes:
        ok: None if there was nothing to compare.
    """

    name: str
    ok: bool | None
    detail: str


def verify_weights(
    cache: WeightsCache, names: list[str] | None = None, progress: Progress | None = None
) -> list[Verified]:
    """Compare the digest of every model on this machine with the manifest's or the recorded one.

    Args:
        names: only these; by default all that are bundled or installed.

    Raises:
        WeightsError: a name that is neither in the manifest nor in the cache.
    """
    manifest, records = load_manifest(), cache.records()
    for name in names or []:
        if name not in manifest and name not in records:
            raise WeightsError(f"Unknown model {name!r}; known are {', '.join({**manifest, **records})}.")
    results = []
    for name in names or {**manifest, **records}:
        entry = manifest.get(name)
        if entry is not None and entry.bundled:
            results.append(verify_bundled(entry, progress))
        else:
            results.append(verify_cached(name, cache, records.get(name), progress))
    return results


def verify_bundled(entry: ModelEntry, progress: Progress | None) -> Verified:
    file = bundled_file(entry)
    if file is None:
        return Verified(entry.name, False, f"Resources/{entry.file} is missing; install FastSAM3D again")
    digest = sha256_of(file, progress)
    if entry.sha256 is None:
        return Verified(entry.name, None, f"bundled; SHA-256 {digest}; the manifest states none to compare with")
    if digest != entry.sha256:
        return Verified(entry.name, False, f"SHA-256 is {digest}, the manifest says {entry.sha256}; install again")
    return Verified(entry.name, True, f"bundled; SHA-256 {digest} as in the manifest")


def verify_cached(name: str, cache: WeightsCache, record: CacheRecord | None, progress: Progress | None) -> Verified:
    file = cache.path_of(name)
    if not file.is_file():
        if record is None:
            return Verified(name, None, "not installed")
        return Verified(name, False, f"{file} is gone; download or import it again")
    if record is None:
        return Verified(name, False, f"{file} is not in the cache's index; remove and import it again")
    digest = sha256_of(file, progress)
    if digest != record.sha256:
        return Verified(name, False, f"{file} has changed since it was installed; remove and import it again")
    said = {
        "manifest": "its source had the SHA-256 of the manifest",
        "pinned": "its source had the SHA-256 pinned by the user",
    }.get(record.trusted, "its source was trusted on first use, for want of a published digest")
    return Verified(name, True, f"unchanged since installed; {said}: {record.source_sha256}")
