"""The folder that holds downloaded and imported weights, and its index."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import OutputError, WeightsError
from .files import part_state, write_text_atomically

__all__ = ["CacheRecord", "WeightsCache", "cache_folder"]

INDEX = "index.json"
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def cache_folder(cache_dir: str | Path | None = None, env: Mapping[str, str] | None = None) -> Path:
    """Where weights are kept.

    Args:
        cache_dir: the caller's choice; wins.
        env: environment; FASTSAM3D_CACHE comes next, then the system's cache folder.
    """
    env = os.environ if env is None else env
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    if env.get("FASTSAM3D_CACHE"):
        return Path(env["FASTSAM3D_CACHE"]).expanduser()
    if sys.platform == "win32":
        base = Path(env.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "fastsam3d"


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """What the index knows about one model.

    Attributes:
        sha256: digest of the converted file in the cache; `verify` recomputes it.
        source_sha256: digest of the file it was made from.
        source: address or path of that file.
        trusted: "manifest" or "pinned" if the source's digest was compared with a stated one, "first use" if
            there was none to compare with.
        architecture: as in the manifest.
        size: bytes of the converted file.
    """

    sha256: str
    source_sha256: str
    source: str
    trusted: str
    architecture: str
    size: int


class WeightsCache:
    """Converted weights by name.

    Args:
        folder: see `cache_folder`; made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path_of(self, name: str) -> Path:
        """Where the converted weights of a model are, or would be.

        Raises:
            WeightsError: the name cannot be a file name.
        """
        if not NAME_PATTERN.fullmatch(name):
            raise WeightsError(
                f"{name!r} cannot name a model; use up to 64 letters, digits, dots, dashes and underscores."
            )
        return self.folder / f"{name}.safetensors"

    def records(self) -> dict[str, CacheRecord]:
        """The index; empty if there is none.

        Raises:
            WeightsError: it is damaged.
        """
        path = self.folder / INDEX
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise WeightsError(f"The cache index {path} cannot be read ({error.strerror}).") from error
        try:
            return {name: CacheRecord(**record) for name, record in json.loads(text).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise WeightsError(f"The cache index {path} is damaged; delete it and import the weights again.") from error

    def record(self, name: str, record: CacheRecord) -> None:
        """Add or replace a model's record.

        Raises:
            OutputError: the index cannot be written.
        """
        self._write({**self.records(), name: record})

    def remove(self, name: str) -> int:
        """Delete a model's weights and what an interrupted download left of it, and forget its digest.

        Returns:
            Bytes freed.

        Raises:
            WeightsError: it is not in the cache.
            OutputError: it cannot be deleted.
        """
        part = self.part_of(name)
        files = [path for path in (self.path_of(name), part, part_state(part)) if path.is_file()]
        records = self.records()
        if name not in records and not files:
            raise WeightsError(f"The model {name!r} is not in the cache {self.folder}.")
        freed = 0
        for path in files:
            try:
                freed += path.stat().st_size
                path.unlink()
            except OSError as error:
                raise OutputError(f"{path} cannot be deleted ({error.strerror}).") from error
        self._write({other: record for other, record in records.items() if other != name})
        return freed

    def part_of(self, name: str) -> Path:
        """The unfinished download of a model."""
        return self.downloads / f"{name}.part"

    @property
    def downloads(self) -> Path:
        """Where downloads are until they are checked and converted."""
        return self.folder / "downloads"

    def _write(self, records: Mapping[str, CacheRecord]) -> None:
        data = {name: asdict(record) for name, record in records.items()}
        write_text_atomically(self.folder / INDEX, json.dumps(data, indent=2) + "\n")
