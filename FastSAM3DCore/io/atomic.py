"""Outputs that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import OutputError

__all__ = ["atomic_path", "check_writable", "write_text"]


def check_writable(path: Path | str) -> Path:
    """Refuse an output path early, before the work whose result it should hold.

    Raises:
        OutputError: the folder does not exist or cannot be written, or the path is a folder.
    """
    path = Path(path)
    folder = path.parent
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give a file name.")
    if not folder.is_dir():
        raise OutputError(f"The folder {folder} does not exist; create it or choose another place for {path.name}.")
    # os.access() is wrong on network shares and for root on read-only mounts: try it.
    probe = _temporary_name(path)
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"Cannot write to {folder}: {error.strerror or error}; choose another place.") from error
    return path


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """A temporary path beside `target`, with its suffix, that takes its name when the block ends well.

    On failure the temporary file is removed and whatever was at `target` stays.

    Raises:
        OutputError: the file could not be written in full (no space, no permission, folder gone).
    """
    target = Path(target)
    temporary = _temporary_name(target)
    try:
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except (OSError, RuntimeError) as error:
            reason = _reason(error)
            raise OutputError(f"Cannot write {target}: {reason}; free space or choose another place.") from error
        _sync_folder(target.parent)
    finally:
        # Gone already after the rename; what else stops the removal must not hide the first error.
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(target: Path | str, text: str) -> None:
    """Write a text file atomically, UTF-8."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _temporary_name(target: Path) -> Path:
    """Hidden, unique, and with the suffixes that tell a writer the format, in the lower case that ITK knows."""
    return target.parent / f".{uuid.uuid4().hex[:12]}.tmp-{target.name.lower()}"


def _reason(error: OSError | RuntimeError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"the file could not be written in full ({lines[-1][:120] if lines else 'no reason given'})"


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable where folders can be synced (not on Windows)."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):  # some network file systems refuse; the file itself is synced
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
