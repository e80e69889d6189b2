"""Image files for tests, good and bad, written byte by byte where a library would refuse to write them."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

SHAPE = (10, 12, 14)


def voxels(shape: tuple[int, ...] = SHAPE, dtype: Any = np.float32) -> NDArray[Any]:
    """Noise: does not compress to nothing, so that half a file is half an image."""
    return np.random.default_rng(0).integers(0, 1000, shape).astype(dtype)


def write_nifti(
    path: Path,
    array: NDArray[Any],
    sform: NDArray[np.float64] | None = None,
    pixdim: tuple[float, float, float] = (1, 1, 1),
    qform: bool = False,
) -> Path:
    """A NIfTI-1 file of float32 with any header, also one that makes no sense."""
    data = array.astype("<f4")
    dims = list(array.shape[::-1])
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(dims), *dims, *([1] * (7 - len(dims))))
    struct.pack_into("<hh", header, 70, 16, 32)
    struct.pack_into("<8f", header, 76, 1, *pixdim, 1, 1, 1, 1)
    struct.pack_into("<fff", header, 108, 352, 1, 0)
    struct.pack_into("<hh", header, 252, int(qform), int(sform is not None))
    struct.pack_into("<12f", header, 280, *(np.eye(4)[:3] if sform is None else sform[:3]).reshape(-1))
    header[344:348] = b"n+1\0"
    content = bytes(header) + data.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_nrrd(path: Path, directions: str, array: NDArray[Any] | None = None) -> Path:
    """A NRRD of float32 with any space directions."""
    data = voxels() if array is None else array
    sizes = " ".join(str(n) for n in data.shape[::-1])
    header = (
        f"NRRD0005\ntype: float\ndimension: 3\nspace: left-posterior-superior\nsizes: {sizes}\n"
        f"space directions: {directions}\nkinds: domain domain domain\nendian: little\nencoding: raw\n"
        "space origin: (0,0,0)\n\n"
    )
    path.write_bytes(header.encode() + data.astype("<f4").tobytes())
    return path


def write_mha(path: Path, matrix: str = "1 0 0 0 1 0 0 0 1", spacing: str = "1 1 1") -> Path:
    """A MetaImage of float32 with any geometry."""
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
        f"TransformMatrix = {matrix}\nOffset = 0 0 0\nElementSpacing = {spacing}\nDimSize = 14 12 10\n"
        "ElementType = MET_FLOAT\nElementDataFile = LOCAL\n"
    )
    path.write_bytes(header.encode() + voxels().astype("<f4").tobytes())
    return path


def write_image(path: Path, array: NDArray[Any], *, vector: bool = False) -> Path:
    """Any array through SimpleITK; a fourth dimension is time unless `vector`."""
    if array.ndim == 4 and not vector:
        image = sitk.JoinSeries([sitk.GetImageFromArray(frame) for frame in array])
    else:
        image = sitk.GetImageFromArray(array, isVector=vector)
    sitk.WriteImage(image, str(path))
    return path


def truncated(path: Path, share: float = 0.6) -> Path:
    """The beginning of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def _text(path: Path) -> Path:
    path.write_text("This is a shopping list, not an image.\n" * 40)
    return path


def _empty(path: Path) -> Path:
    path.touch()
    return path


def _with(array: NDArray[Any], value: float) -> NDArray[Any]:
    out = array.copy()
    out[4, 5, 6] = value
    return out


def _voxels_at(path: Path, offset: float) -> Path:
    """A NIfTI file whose header says that its voxels start at a place that is none."""
    content = bytearray(write_nifti(path, voxels()).read_bytes())
    struct.pack_into("<f", content, 108, offset)
    path.write_bytes(content)
    return path


SHEAR = np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])
SINGULAR = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])

# Name of the file -> (how to write it, words that the message must hold, case ignored).
BAD_SCANS: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "missing.nii.gz": (lambda path: path, ("does not exist",)),
    "empty.nii.gz": (_empty, ("is empty",)),
    "empty.dcm": (_empty, ("is empty",)),
    "text.nii": (_text, ("not an image",)),
    "text.nrrd": (_text, ("not an image",)),
    "text.dcm": (_text, ("not an image",)),
    "notes.txt": (_text, ("not an image", "nifti")),
    "cut.nii": (lambda p: truncated(write_nifti(p, voxels())), ("truncated",)),
    "cut.nii.gz": (lambda p: truncated(write_nifti(p, voxels())), ("truncated",)),
    "header_only.nii.gz": (lambda p: truncated(write_nifti(p, voxels()), 0.01), ("truncated",)),
    "nan_offset.nii": (lambda p: _voxels_at(p, np.nan), ("header is damaged", "vox_offset nan")),
    "inf_offset.nii": (lambda p: _voxels_at(p, np.inf), ("header is damaged", "vox_offset inf")),
    "negative_offset.nii": (lambda p: _voxels_at(p, -9), ("header is damaged", "vox_offset -9")),
    "cut.nrrd": (lambda p: truncated(write_image(p, voxels())), ("truncated",)),
    "cut.mha": (lambda p: truncated(write_image(p, voxels())), ("truncated",)),
    "flat.png": (lambda p: write_image(p, voxels((12, 14), np.uint8)), ("2D",)),
    "flat.nii.gz": (lambda p: write_image(p, voxels((12, 14))), ("2D",)),
    "movie.nii.gz": (lambda p: write_image(p, voxels((3, *SHAPE))), ("4D", "3 volumes", "--frame")),
    "colour.nrrd": (lambda p: write_image(p, voxels((*SHAPE, 3), np.uint8), vector=True), ("colour", "--frame")),
    "vectors.nrrd": (lambda p: write_image(p, voxels((*SHAPE, 2)), vector=True), ("multi-channel", "--frame")),
    "complex.nii.gz": (lambda p: write_image(p, voxels().astype(np.complex64)), ("complex",)),
    "nan.nii.gz": (lambda p: write_nifti(p, _with(voxels(), np.nan)), ("NaN",)),
    "inf.nii.gz": (lambda p: write_nifti(p, _with(voxels(), -np.inf)), ("infinite",)),
    "nan.nrrd": (lambda p: write_image(p, _with(voxels(), np.nan)), ("NaN",)),
    "filled.nii.gz": (lambda p: write_nifti(p, _with(voxels(), -3.4e38)), ("-3.4e+38", "no value")),
    "filled.nrrd": (lambda p: write_image(p, _with(voxels().astype(np.float64), 1e39)), ("1e+39", "no value")),
    "constant.nii.gz": (lambda p: write_nifti(p, np.full(SHAPE, 7.0)), ("same value (7)",)),
    "zero_pixdim.nii": (lambda p: write_nifti(p, voxels(), pixdim=(1, 1, 0)), ("spacing", "zero")),
    "zero_sform.nii": (lambda p: write_nifti(p, voxels(), sform=np.diag([1.0, 1, 0, 1])), ("spacing", "zero")),
    "zero.nrrd": (lambda p: write_nrrd(p, "(1,0,0) (0,1,0) (0,0,0)"), ("spacing", "zero")),
    "zero.mha": (lambda p: write_mha(p, spacing="1 1 0"), ("spacing", "zero")),
    "singular.nii": (lambda p: write_nifti(p, voxels(), sform=SINGULAR), ("singular",)),
    "singular.nrrd": (lambda p: write_nrrd(p, "(1,0,0) (1,0,0) (0,0,1)"), ("singular",)),
    "singular.mha": (lambda p: write_mha(p, "1 0 0 1 0 0 0 0 1"), ("singular",)),
    "shear.nii": (lambda p: write_nifti(p, voxels(), sform=SHEAR), ("sheared",)),
    "shear.nrrd": (lambda p: write_nrrd(p, "(1,0,0) (0.3,1,0) (0,0,1)"), ("sheared",)),
    "shear.mha": (lambda p: write_mha(p, "1 0 0 0.3 0.95 0 0 0 1"), ("sheared",)),
    "no_dicom_here": (lambda p: p.mkdir() or _text(p / "readme.txt").parent, ("no DICOM",)),
}
