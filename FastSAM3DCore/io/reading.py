"""Reading one image file as a scalar 3D image, and saying in one line why it cannot be."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import SimpleITK as sitk

from ..errors import ImageError
from . import nifti
from .dicom_slices import check_complete

__all__ = ["read_image"]

log = logging.getLogger(__name__)

FORMATS = "NIfTI (.nii, .nii.gz), NRRD, MetaImage (.mha, .mhd) or DICOM"


def read_image(path: Path, frame: int | None = None) -> sitk.Image:
    """Read one file as a scalar 3D image.

    Raises:
        ImageError: see `load_volume`.
    """
    permissive = _check_nifti(path) if nifti.is_nifti(path) else False
    with _sform_tolerance(permissive):
        reader = _open(path)
        if reader.GetImageIO() == "GDCMImageIO":
            check_complete(str(path), reader)
        _choose_frame(reader, path, frame)
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise _read_error(path, error) from error
    if reader.GetImageIO() == "GDCMImageIO" and image.GetSize()[2] == 1:
        log.warning("%s is a single DICOM slice; give its folder to read the whole series.", path.name)
    components = image.GetNumberOfComponentsPerPixel()
    if components > 1:
        return _choose_channel(image, path, frame)
    if "complex" in image.GetPixelIDTypeAsString():
        raise ImageError(f"{path.name} holds complex numbers; convert it to magnitudes first.")
    return image


def _check_nifti(path: Path) -> bool:
    header = nifti.read_header(path)
    if header is None:
        return False  # SimpleITK says what it is, or that it is nothing
    nifti.check_complete(path, header)
    nifti.check_finite(path, header)
    return nifti.check_geometry(path, header)


@contextmanager
def _sform_tolerance(permissive: bool) -> Iterator[None]:
    """Let ITK accept an sform whose rounded cosines miss its own tolerance but not this project's."""
    name = "ITK_NIFTI_SFORM_PERMISSIVE"
    before = os.environ.get(name)
    if permissive:
        os.environ[name] = "ON"
    try:
        yield
    finally:
        if permissive and before is None:
            del os.environ[name]
        elif permissive and before is not None:
            os.environ[name] = before


def _open(path: Path) -> sitk.ImageFileReader:
    """A reader that has read the header."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        io_name = sitk.ImageFileReader.GetImageIOFromFileName(str(path))
    except RuntimeError:
        io_name = ""
    if not io_name:
        raise ImageError(f"{path.name} is not an image that can be read; use {FORMATS}.")
    reader.SetImageIO(io_name)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _read_error(path, error) from error
    return reader


def _choose_frame(reader: sitk.ImageFileReader, path: Path, frame: int | None) -> None:
    size = list(reader.GetSize())
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    if len(size) < 3:
        shape = " x ".join(str(n) for n in size)
        raise ImageError(f"{path.name} is a 2D image ({shape}); a 3D scan is needed, or the folder of a DICOM series.")
    if len(size) > 4:
        raise ImageError(f"{path.name} has {len(size)} dimensions; extract one 3D volume from it first.")
    single = reader.GetNumberOfComponents() == 1
    if len(size) == 4:
        chosen = _check_frame(path, frame, size[3], f"{path.name} is 4D: {size[3]} volumes")
    elif frame and single:
        raise ImageError(f"{path.name} has only one volume; leave out --frame {frame}.")
    else:
        chosen = 0
    if reader.GetDimension() > 3:
        extra = reader.GetDimension() - 3
        reader.SetExtractSize([*size[:3], *([0] * extra)])
        reader.SetExtractIndex([0, 0, 0, chosen, *([0] * (extra - 1))])


def _choose_channel(image: sitk.Image, path: Path, frame: int | None) -> sitk.Image:
    count = image.GetNumberOfComponentsPerPixel()
    what = "colour" if count in (3, 4) and "8-bit" in image.GetPixelIDTypeAsString() else "multi-channel"
    message = f"{path.name} is a {what} image: {count} values per voxel"
    return sitk.VectorIndexSelectionCast(image, _check_frame(path, frame, count, message))


def _check_frame(path: Path, frame: int | None, count: int, message: str) -> int:
    if frame is None:
        raise ImageError(f"{message}; choose one with --frame 0 to {count - 1}.")
    if not 0 <= frame < count:
        raise ImageError(f"{path.name} has no frame {frame}; choose one with --frame 0 to {count - 1}.")
    return frame


def _read_error(path: Path, error: RuntimeError) -> ImageError:
    """What ITK meant."""
    text = str(error)
    if "Zero-valued spacing" in text or "spacing of zero" in text.lower():
        return ImageError(f"{path.name} has a voxel spacing of zero along an axis; correct its header.")
    if "determinant is 0" in text:
        return ImageError(f"{path.name} has dependent axes (singular direction); correct its header.")
    if "orthonormal" in text:
        return ImageError(f"{path.name} is sheared (its axes are not at right angles); resample it first.")
    if "memory" in text.lower() or "bad_alloc" in text:
        return ImageError(f"{path.name} does not fit into memory, or its header is damaged.")
    log.debug("%s: %s", path, text)
    return ImageError(f"{path.name} is damaged or truncated; copy or download it again.")
