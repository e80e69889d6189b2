"""NIfTI files that ITK would misread without a word, caught from their header.

Measured with SimpleITK 2.5: a truncated .nii or .nii.gz is read as if complete, the missing voxels zero or
undefined; a zero pixdim becomes 1 mm; a sheared sform is ignored when there is a qform; a full disk cuts
a written file short without an error. The layout follows the NIfTI-1 and NIfTI-2 standards.
"""

from __future__ import annotations

import gzip
import logging
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..types import SHEAR_TOLERANCE

__all__ = ["NiftiHeader", "check_complete", "check_finite", "check_geometry", "is_nifti", "read_header"]

log = logging.getLogger(__name__)

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class NiftiHeader:
    """The fields of a NIfTI header that decide geometry and file length."""

    shape: tuple[int, ...]
    pixdim: tuple[float, ...]
    data_offset: int
    data_bytes: int
    float_dtype: str
    """numpy dtype of floating-point voxels, empty for other types."""
    qform_code: int
    sform_code: int
    sform: NDArray[np.float64]
    """(3, 4) rows srow_x, srow_y, srow_z: voxel indices to RAS mm."""


def is_nifti(path: Path) -> bool:
    """Whether the name is that of a single-file NIfTI."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


def read_header(path: Path) -> NiftiHeader | None:
    """Read the header of a single-file NIfTI; None if the file is not one after all.

    Raises:
        ImageError: the compressed stream ends inside the header, or the header's data offset is no place in a file.
    """
    try:
        with gzip.open(path, "rb") if _is_gzip(path) else path.open("rb") as file:
            raw = file.read(544)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ImageError(f"{path.name} is truncated or damaged ({error}); copy or download it again.") from error
    for order in "<>":
        if len(raw) >= 348 and struct.unpack(order + "i", raw[:4])[0] == 348:
            return _parse(raw, order, _NIFTI1)
        if len(raw) >= 540 and struct.unpack(order + "i", raw[:4])[0] == 540:
            return _parse(raw, order, _NIFTI2)
    return None


# Field name -> (byte offset, struct format) in the two versions of the standard.
_NIFTI1 = {
    "datatype": (70, "h"),
    "dim": (40, "8h"),
    "bitpix": (72, "h"),
    "pixdim": (76, "8f"),
    "vox_offset": (108, "f"),
}
_NIFTI1 |= {"qform_code": (252, "h"), "sform_code": (254, "h"), "srow": (280, "12f")}
_NIFTI2 = {
    "datatype": (12, "h"),
    "dim": (16, "8q"),
    "bitpix": (14, "h"),
    "pixdim": (104, "8d"),
    "vox_offset": (168, "q"),
}
_NIFTI2 |= {"qform_code": (344, "i"), "sform_code": (348, "i"), "srow": (400, "12d")}

_FLOATS = {16: "f4", 64: "f8"}
CHUNK = 1 << 22


def _parse(raw: bytes, order: str, layout: dict[str, tuple[int, str]]) -> NiftiHeader:
    def read(name: str) -> tuple[Any, ...]:
        offset, code = layout[name]
        return struct.unpack_from(order + code, raw, offset)

    dim, offset = read("dim"), read("vox_offset")[0]
    if not 0 <= offset < math.inf:  # nor NaN
        raise ImageError(f"The header is damaged (vox_offset {offset:g}); copy or download the file again.")
    rank = dim[0] if 1 <= dim[0] <= 7 else 0
    shape = tuple(int(n) for n in dim[1 : rank + 1])
    voxels = int(np.prod([max(n, 0) for n in shape], dtype=object)) if shape else 0
    return NiftiHeader(
        shape=shape,
        pixdim=tuple(float(v) for v in read("pixdim")[1 : rank + 1]),
        data_offset=int(offset),
        data_bytes=voxels * int(read("bitpix")[0]) // 8,
        float_dtype=order + _FLOATS[read("datatype")[0]] if read("datatype")[0] in _FLOATS else "",
        qform_code=int(read("qform_code")[0]),
        sform_code=int(read("sform_code")[0]),
        sform=np.array(read("srow"), dtype=np.float64).reshape(3, 4),
    )


def check_complete(path: Path, header: NiftiHeader) -> None:
    """Compare the file's length with what its header promises.

    Raises:
        ImageError: the file is shorter, or its compressed stream is damaged.
    """
    expected = header.data_offset + header.data_bytes
    if not _is_gzip(path):
        size = path.stat().st_size
        if size < expected:
            raise ImageError(f"{path.name} is truncated: {size:,} of {expected:,} bytes; copy or download it again.")
        return
    with path.open("rb") as file:
        file.seek(-4, 2)
        stored = struct.unpack("<I", file.read(4))[0]
    # The stream's last four bytes are its uncompressed length modulo 2^32; only when they disagree (cut
    # short, or several streams in one file) is it worth decompressing all of it.
    if stored != expected % 2**32 and _uncompressed_size(path) < expected:
        raise ImageError(f"{path.name} is truncated or damaged: its compressed data end early; download it again.")


def _uncompressed_size(path: Path) -> int:
    """Length of what can be decompressed, to within one chunk."""
    size = 0
    try:
        with gzip.open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                size += len(chunk)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        log.debug("%s stops after %d bytes: %s", path, size, error)
    return size


def check_finite(path: Path, header: NiftiHeader) -> None:
    """Look for NaN and infinity in the file itself: niftilib reads them as zero without a word.

    Costs decompressing floating-point files once more, 0.3 s for 256^3 voxels.

    Raises:
        ImageError: there are some.
    """
    if not header.float_dtype:
        return
    left = header.data_bytes
    with gzip.open(path, "rb") if _is_gzip(path) else path.open("rb") as file:
        file.seek(header.data_offset)
        while left > 0 and (chunk := file.read(min(CHUNK, left))):
            left -= len(chunk)
            values = np.frombuffer(chunk, header.float_dtype)
            if not np.isfinite(values).all():
                raise ImageError(f"{path.name} holds NaN or infinite voxels; replace them with a number first.")


def check_geometry(path: Path, header: NiftiHeader) -> bool:
    """Refuse what ITK would silently replace.

    Returns:
        True if the sform is the only geometry and so nearly orthogonal (rounded numbers) that it should be
        used although ITK's own, tighter test refuses it.

    Raises:
        ImageError: zero or non-finite spacing; singular or sheared sform without a qform to fall back on.
    """
    spacing = header.pixdim[:3]
    if not np.isfinite(spacing).all() or 0 in spacing:
        raise ImageError(f"{path.name} has a voxel spacing of zero along an axis; correct pixdim in its header.")
    if header.sform_code <= 0 or len(header.shape) < 3:
        return False
    columns = header.sform[:, :3]
    lengths = np.linalg.norm(columns, axis=0)
    if not np.isfinite(columns).all() or (lengths < 1e-6).any():
        raise ImageError(f"{path.name} has a voxel spacing of zero along an axis; correct the sform in its header.")
    cosines = columns / lengths
    if abs(np.linalg.det(cosines)) < 1e-3:
        raise ImageError(f"{path.name} has dependent axes (singular sform); correct its header.")
    shear = np.abs(cosines.T @ cosines - np.eye(3)).max()
    if shear <= SHEAR_TOLERANCE:
        return header.qform_code <= 0
    if header.qform_code <= 0:
        raise ImageError(
            f"{path.name} is sheared (its axes are not at right angles); resample it to a regular grid first."
        )
    log.warning("%s has a sheared sform; its qform is used instead, as in 3D Slicer.", path.name)
    return False
