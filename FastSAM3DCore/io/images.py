"""Reading scans and label maps: NIfTI, NRRD, MetaImage, DICOM, and every way in which they can be unusable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..types import Volume
from ..voxels import check_voxels
from . import dicom
from .native import affine_from_image, array_from_image
from .reading import read_image

__all__ = ["load_labels", "load_volume"]

# Voxels looked at in one go when values are checked: keeps the temporary arrays below 64 MB.
CHUNK_VOXELS = 1 << 24


def load_volume(path: Path | str, *, frame: int | None = None, series: str | None = None) -> Volume:
    """Read a scan.

    Args:
        path: an image file, one DICOM file, or a folder of DICOM files.
        frame: which volume of a 4D file, channel of a multi-channel file, or time point of a DICOM series.
        series: which DICOM series of a folder: its UID, the end of it, its number or its description.
            Without it the series with most images is taken, and a log message names the others.

    Returns:
        The voxels in the file's own dtype, indexed [k, j, i], not copied, and where they are in RAS mm.

    Raises:
        ImageError: missing, empty, truncated or unreadable; not an image; 2D, 4D or colour without a choice
            of `frame`; unusable geometry; NaN, infinite, huge or constant voxels.
    """
    path = Path(path)
    volume = _read(path, frame, series)
    check_voxels(volume.array_kji, path.name)
    return volume


def load_labels(path: Path | str, *, frame: int | None = None) -> Volume:
    """Read a label map: a volume of whole numbers (floating-point files with whole values are converted).

    Raises:
        ImageError: as `load_volume`, or values that are not whole numbers. A constant map is fine.
    """
    path = Path(path)
    volume = _read(path, frame, None)
    array = volume.array_kji
    if array.dtype.kind != "f":
        return volume
    rounded = np.zeros(array.shape, np.int32)
    for chunk in _chunks(array):
        part = array[chunk]
        if not np.isfinite(part).all() or (np.rint(part) != part).any():
            raise ImageError(f"{path.name} is not a label map: its values are not whole numbers.")
        rounded[chunk] = part
    return Volume(rounded, volume.ijk_to_ras)


def _chunks(array_kji: NDArray[Any]) -> Iterator[slice]:
    """Runs of slices along k."""
    step = max(1, CHUNK_VOXELS // max(1, int(np.prod(array_kji.shape[1:]))))
    for start in range(0, array_kji.shape[0], step):
        yield slice(start, start + step)


def _read(path: Path, frame: int | None, series: str | None) -> Volume:
    _check_there(path)
    with _named(path):
        if path.is_dir():
            return dicom.load_series(path, series, frame)
        image = read_image(path, frame)
        return Volume(array_from_image(image), affine_from_image(image))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file's name before messages of layers that do not know it."""
    try:
        yield
    except ImageError as error:
        if path.name in str(error):
            raise
        raise ImageError(f"{path.name}: {error}") from error


def _check_there(path: Path) -> None:
    if not path.exists():
        raise ImageError(f"{path} does not exist; check the path.")
    if path.is_dir():
        if not os.access(path, os.R_OK | os.X_OK):
            raise ImageError(f"The folder {path} cannot be read; check its permissions.")
        return
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror or error}); check its permissions.") from error
    if empty:
        raise ImageError(f"{path} is empty; copy or download it again.")
