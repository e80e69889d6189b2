"""Digests, atomic writing and locks."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import OutputError, WeightsError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = [
    "WEIGHT_SUFFIXES",
    "Progress",
    "atomic_target",
    "delete_leftover",
    "exclusive",
    "make_folder",
    "output_error",
    "part_state",
    "sha256_of",
    "take_name",
    "write_text_atomically",
]

Progress = Callable[[int, int | None], None]
"""Called with bytes done and bytes in all (None if not known)."""

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt")
"""What ends like this is the path or address of a file, not a model's name."""

logger = logging.getLogger(__name__)

CHUNK = 1 << 20
HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
"""What the systems say about a lock that somebody holds; network drives without locks say something else."""


def sha256_of(path: Path, progress: Progress | None = None) -> str:
    """SHA-256 of a file, in lower-case hexadecimal.

    Raises:
        WeightsError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        total = path.stat().st_size
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                if progress is not None:
                    progress(file.tell(), total)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror or error}); check the path.") from error
    return digest.hexdigest()


def output_error(path: Path, error: OSError) -> OutputError:
    """An OSError while writing, as the project's own."""
    reason = error.strerror or str(error)
    return OutputError(f"{path} cannot be written ({reason}); free some space or choose another place.")


def take_name(finished: Path, target: Path) -> None:
    """Give a finished file its name, in place of whatever had it.

    Raises:
        OutputError: it cannot have it; both files are as they were.
    """
    try:
        finished.replace(target)
    except OSError as error:
        raise output_error(target, error) from error


def make_folder(folder: Path) -> Path:
    """Create a folder and its parents.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    return folder


@contextmanager
def atomic_target(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name when the block ends, and vanishes if it fails.

    Raises:
        OutputError: the file cannot be written; whatever was at `path` is untouched.
    """
    make_folder(path.parent)
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp's 0600 would lock out the other users of a shared cache
        temporary.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        if temporary is not None:
            delete_leftover(temporary)


def write_text_atomically(path: Path, text: str) -> None:
    """Replace a text file as a whole.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_target(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def part_state(part: Path) -> Path:
    """The small file that remembers what an unfinished download is part of."""
    return part.with_name(part.name + ".json")


def delete_leftover(path: Path) -> None:
    """Delete a file that has served its purpose; one that is still open on Windows stays until the next run."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s could not be deleted (%s); delete it by hand.", path, error.strerror)


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Keep a second process from working on the same download.

    Raises:
        OutputError: another process holds the lock, or it cannot be made.
    """
    make_folder(lock.parent)
    try:
        file = lock.open("a+b")
    except OSError as error:
        raise output_error(lock, error) from error
    with file:
        try:
            if sys.platform == "win32":
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in HELD:
                raise OutputError(f"Another process is writing {lock.stem}; wait until it has finished.") from error
            logger.debug("%s cannot be locked on this file system (%s); going on without.", lock, error)
        yield
