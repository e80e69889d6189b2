"""Download a published model from the first address that has it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import WeightsError
from .cache import CacheRecord, WeightsCache
from .files import WEIGHT_SUFFIXES, Progress, delete_leftover, exclusive, sha256_of, take_name
from .install import Digest, keep, problem_of, stated_digest
from .manifest import ModelEntry, manifest_entry
from .transfer import ATTEMPTS, discard, fetch, name_in_url

__all__ = ["download_weights", "mirror_urls"]


def mirror_urls(entry: ModelEntry, mirror: str | None = None, env: Mapping[str, str] | None = None) -> list[str]:
    """Addresses to try, in order: the mirror asked for, the one in FASTSAM3D_MIRROR, then the manifest's.

    A mirror is the address of the file itself, if it ends like one, or of a server or folder that keeps the
    official path below it, as in MIRROR/techlove/FastSAM3D/resolve/main/FastSAM3D.pth.
    """
    env = os.environ if env is None else env
    urls = []
    for base in (mirror, env.get("FASTSAM3D_MIRROR")):
        if base and base.endswith(WEIGHT_SUFFIXES):
            urls.append(base)
        elif base:
            urls += [base.rstrip("/") + urlsplit(url).path for url in entry.urls]
    return list(dict.fromkeys([*urls, *entry.urls]))


def download_weights(
    name: str,
    cache: WeightsCache,
    progress: Progress,
    *,
    mirror: str | None = None,
    sha256: str | None = None,
    attempts: int = ATTEMPTS,
    backoff: float = 1.0,
) -> CacheRecord:
    """Download a published model, check it, and keep its weights as safetensors.

    The caller has shown the licence. An interrupted download is continued by the next call.

    Args:
        name: a model of the manifest that is not bundled.
        cache: where to keep it.
        progress: told bytes done and bytes in all.
        mirror: see `mirror_urls`.
        sha256: digest that the file must have; wins over the manifest's.
        attempts: see `transfer.fetch`.
        backoff: see `transfer.fetch`.

    Raises:
        WeightsError: unknown or bundled name; the file is not to be had, damaged, or has another digest.
        OutputError: the cache cannot be written or is full.
    """
    entry = manifest_entry(name)
    if entry.bundled:
        raise WeightsError(f"The model {name!r} comes with the installation; there is nothing to download.")
    stated = stated_digest(name, cache, sha256)
    with exclusive(cache.downloads / f"{name}.lock"):
        part = cache.part_of(name)
        url, complete, digest = first_good(mirror_urls(entry, mirror), part, stated, progress, attempts, backoff)
        try:
            return keep(complete, digest, stated, url, cache, name)[1]
        finally:
            delete_leftover(complete)


def first_good(
    urls: list[str], part: Path, stated: Digest | None, progress: Progress, attempts: int, backoff: float
) -> tuple[str, Path, str]:
    """The first address whose file passes its checks, that file under its own name, and its digest.

    Raises:
        WeightsError: the last address's problem.
    """
    problems = []
    for url in urls:
        try:
            digest = fetch_checked(url, part, stated, progress, attempts, backoff)
        except WeightsError as error:
            problems.append(error)
            continue
        complete = part.with_name(f"{part.stem}.{name_in_url(url)}")
        take_name(part, complete)
        discard(part)
        return url, complete, digest
    raise problems[-1]


def fetch_checked(
    url: str, part: Path, stated: Digest | None, progress: Progress, attempts: int, backoff: float
) -> str:
    """Complete `part` from one address and check it before anything else may use it.

    A file put together from several answers gets one fresh start if it turns out wrong.

    Returns:
        Its SHA-256.

    Raises:
        WeightsError: not to be had, or wrong; a wrong file is deleted.
    """
    while True:
        transfer = fetch(url, part, progress, attempts=attempts, backoff=backoff)
        announced = Digest(transfer.announced_sha256, "server") if transfer.announced_sha256 else None
        digest = sha256_of(part)
        problem = problem_of(part, digest, stated or announced)
        if problem is None:
            return digest
        discard(part)
        if not transfer.resumed:
            raise WeightsError(f"{url}: the file was deleted because {problem}.")
