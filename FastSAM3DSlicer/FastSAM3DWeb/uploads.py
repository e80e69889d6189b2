"""Uploads: received file by file into a folder, bounded, then checked and turned into one path to open."""

from __future__ import annotations

import re
import secrets
import shutil
import zipfile
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from FastSAM3DCore.errors import ImageError

from .loading import default_name

__all__ = ["Batch", "Upload", "Uploads"]

MAX_FILES = 20_000
SEGMENTATION_ENDING = ".seg.nrrd"
IMAGE_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
UNNAMED_SERIES = "DICOM series"
# Text and pictures that come along with DICOM folders and are nothing to read.
IGNORED_ENDINGS = tuple(f".{e}" for e in "txt xml json pdf htm html jpg jpeg png inf exe ds_store".split())  # noqa: SIM905


@dataclass(slots=True)
class Batch:
    """Files that belong together."""

    folder: Path
    size: int = 0
    files: int = 0


@dataclass(frozen=True, slots=True)
class Upload:
    """What a batch turned out to be.

    Attributes:
        path: what to open.
        name: how the person calls it.
        is_segmentation: by its ending.
        folder: holds all of it.
    """

    path: Path
    name: str
    is_segmentation: bool
    folder: Path

    def remove(self) -> None:
        """It was not opened."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Uploads:
    """Receives uploads for one session.

    Args:
        folder: where they are kept; a scan is read again from here after a restart.
        limit: bytes of one batch, unpacked.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._batches: dict[str, Batch] = {}

    def begin(self) -> str:
        """Start a batch; one that was begun and left is deleted."""
        for name in list(self._batches):
            self.drop(name)
        name = secrets.token_hex(8)
        batch = Batch(self.folder / name)
        batch.folder.mkdir(mode=0o700, parents=True)
        self._batches[name] = batch
        return name

    def drop(self, name: str) -> None:
        batch = self._batches.pop(name, None)
        if batch is not None:
            shutil.rmtree(batch.folder, ignore_errors=True)

    def _find(self, name: str) -> Batch:
        batch = self._batches.get(name)
        if batch is None:
            raise ImageError("This upload is not known any more; start it again.")
        return batch

    async def receive(self, batch_name: str, file_name: str, chunks: AsyncIterator[bytes]) -> None:
        """Write one file.

        Raises:
            ImageError: too large, too many, or a name without letters.
        """
        batch = self._find(batch_name)
        if batch.files >= MAX_FILES:
            raise ImageError(f"More than {MAX_FILES} files; upload one series at a time.")
        path = batch.folder / safe_name(file_name)
        if path.exists():
            path = path.with_name(f"{batch.files}-{path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        batch.files += 1
        with path.open("wb") as file:
            async for chunk in chunks:
                batch.size += len(chunk)
                if batch.size > self.limit:
                    file.close()
                    self.drop(batch_name)
                    raise ImageError(too_large(self.limit))
                file.write(chunk)

    def finish(self, batch_name: str) -> Upload:
        """Decide what was uploaded. Runs on any thread.

        Raises:
            ImageError: nothing usable in it.
        """
        batch = self._find(batch_name)
        files = [p for p in sorted(batch.folder.rglob("*")) if p.is_file()]
        name = ""
        if len(files) == 1 and zipfile.is_zipfile(files[0]):
            name = default_name(files[0], batch.folder)
            inner = batch.folder / "unpacked" / name
            unpack(files[0], inner, self.limit)
            files[0].unlink()
            files = [p for p in sorted(inner.rglob("*")) if p.is_file()]
        files = [p for p in files if not p.name.lower().endswith(IGNORED_ENDINGS) and p.stat().st_size > 0]
        if not files:
            raise ImageError("There is no scan in the upload; send a NIfTI, NRRD, MHA or DICOM file.")
        images = [p for p in files if p.name.lower().endswith(IMAGE_ENDINGS)]
        headers = [p for p in images if p.name.lower().endswith((".mhd", ".nhdr"))]
        if headers:
            images = headers
        if len(images) > 1:
            names = ", ".join(p.name for p in images[:3])
            raise ImageError(f"{len(images)} scans at once ({names}, ...); upload one.")
        if images:
            path = images[0]
        elif len(files) == 1:
            path = files[0]
        else:  # a DICOM series: the folder that holds most of its files
            path = Counter(p.parent for p in files).most_common(1)[0][0]
            name = name or next(iter(path.relative_to(batch.folder).parts), UNNAMED_SERIES)
        del self._batches[batch_name]
        is_segmentation = path.name.lower().endswith(SEGMENTATION_ENDING)
        return Upload(path, name or default_name(path, batch.folder), is_segmentation, batch.folder)


def too_large(limit: int) -> str:
    return f"The upload is larger than the {limit >> 20} MB that this server takes; ask for a larger --max-upload-mb."


def safe_name(name: str) -> Path:
    """A relative path below the batch's folder, whatever the page sent.

    Raises:
        ImageError: nothing is left of it.
    """
    parts = [re.sub(r"[^\w.\- (),+]", "_", part)[:120] for part in PurePosixPath(name.replace("\\", "/")).parts]
    kept = [part for part in parts if part.strip(". ") and part not in ("/", "_")]
    if not kept:
        raise ImageError(f"{name!r} is no file name.")
    # The uppermost folder is the one that was dropped.
    return Path(*kept[:1], *kept[1:][-3:])


def unpack(archive: Path, folder: Path, limit: int) -> None:
    """Unpack a zip file, trusting nothing in it.

    Raises:
        ImageError: damaged, encrypted, too many files or too large unpacked.
    """
    try:
        with zipfile.ZipFile(archive) as source:
            entries = [e for e in source.infolist() if not e.is_dir() and "__MACOSX" not in e.filename]
            if len(entries) > MAX_FILES:
                raise ImageError(f"The zip file holds {len(entries)} files; up to {MAX_FILES} are taken.")
            written = 0
            folder.mkdir(parents=True)
            for number, entry in enumerate(entries):
                target = folder / safe_name(entry.filename).name
                if target.exists():
                    target = target.with_name(f"{number}-{target.name}")
                with source.open(entry) as packed, target.open("wb") as file:
                    # Counted while unpacking: the sizes in the archive's directory can be wrong on purpose.
                    while chunk := packed.read(1 << 20):
                        written += len(chunk)
                        if written > limit:
                            raise ImageError(too_large(limit))
                        file.write(chunk)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError, EOFError) as error:
        raise ImageError(f"The zip file cannot be unpacked ({error}); pack it again without a password.") from error
