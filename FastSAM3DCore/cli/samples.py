"""Sample scans: which there are, and how to get one with or without a network."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import requests

from ..errors import FastSAM3DError, ImageError, OutputError
from ..extras import how_to_install
from ..resources import resource_path
from ..weights.cache import cache_folder
from ..weights.files import delete_leftover, make_folder, sha256_of, take_name
from ..weights.transfer import append, reason_of

__all__ = ["SampleScan", "fetch", "list_samples", "locate"]

log = logging.getLogger(__name__)

CONNECT_S, READ_S = 4.0, 15.0


@dataclass(frozen=True, slots=True)
class SampleScan:
    """A sample scan and the prompts that go with it.

    Either `url` and `sha256` say where to download it, or `package` and `package_file` where an installed
    Python package keeps it.
    """

    name: str
    description: str
    segment: str
    prompts: str
    file: str = ""
    url: str = ""
    sha256: str = ""
    package: str = ""
    package_file: str = ""

    @property
    def prompt_file(self) -> Path:
        return resource_path("samples", self.prompts)


def list_samples(manifest: Path | None = None) -> list[SampleScan]:
    """The sample scans of Resources/samples.json, in the order to try them.

    Raises:
        FastSAM3DError: the list is missing or damaged.
    """
    path = manifest or resource_path("samples.json")
    try:
        return [SampleScan(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))["samples"]]
    except (ValueError, KeyError, TypeError) as error:
        raise FastSAM3DError(f"The list of samples {path} is damaged ({error}); install FastSAM3D again.") from error


def locate(samples: list[SampleScan], *, offline: bool = False, cache: Path | None = None) -> tuple[SampleScan, Path]:
    """The first sample that can be had, and its file; downloads are kept.

    Raises:
        ImageError: none can; the message says how to get one.
    """
    for sample in samples:
        path = _packaged(sample) if sample.package else _downloaded(sample, offline, cache or cache_folder())
        if path is not None:
            return sample, path
    raise ImageError(
        "No sample scan: there is no network, and nilearn, which brings one along, is not installed; "
        + how_to_install("sample")
    )


def _packaged(sample: SampleScan) -> Path | None:
    spec = find_spec(sample.package)
    for root in (spec.submodule_search_locations or []) if spec else []:
        path = Path(root, *sample.package_file.split("/"))
        if path.is_file():
            return path
    return None


def _downloaded(sample: SampleScan, offline: bool, cache: Path) -> Path | None:
    path = cache / "samples" / sample.file
    if path.is_file() and sha256_of(path) == sample.sha256:
        return path
    if offline:
        return None
    try:
        fetch(sample, path)
    except (requests.RequestException, ImageError, OutputError) as error:
        log.warning("%s cannot be downloaded (%s); trying another sample.", sample.name, _short(error))
        return None
    return path


def fetch(sample: SampleScan, target: Path) -> None:
    """Download a sample; it takes its name only when its SHA-256 is right.

    Raises:
        requests.RequestException: no network, a connection that breaks, or the server refuses.
        ImageError: what came is another file.
        OutputError: it cannot be kept.
    """
    part = make_folder(target.parent) / f".{os.getpid()}.{target.name}"
    try:
        with requests.get(sample.url, stream=True, timeout=(CONNECT_S, READ_S)) as answer:
            answer.raise_for_status()
            append(answer.iter_content(1 << 18), part, None, lambda *_: None, restart=True)
        if sha256_of(part) != sample.sha256:
            raise ImageError(f"{sample.name} arrived damaged: its SHA-256 is not the listed one")
        take_name(part, target)
    finally:
        delete_leftover(part)


def _short(error: Exception) -> str:
    return "no connection" if isinstance(error, requests.ConnectionError | requests.Timeout) else reason_of(error)
