"""The seam to SimpleITK: voxels without a copy, LPS to RAS, and a quiet standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

__all__ = ["affine_from_image", "array_from_image", "first_sentence", "hidden_native_output", "image_from_array"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

# Warnings of ITK's own classes (non-orthogonal sform, uneven slices) go straight to the terminal; what a
# user has to know of them is checked, and said, by this package.
sitk.ProcessObject.SetGlobalWarningDisplay(False)


class _HeldImage:
    """Lends an image's buffer to numpy and keeps the image alive as long as the array."""

    def __init__(self, image: sitk.Image) -> None:
        self.image = image
        view = sitk.GetArrayViewFromImage(image)
        self.__array_interface__ = view.__array_interface__


def array_from_image(image: sitk.Image) -> NDArray[Any]:
    """The voxels of a scalar image, indexed [k, j, i], in their own dtype: read-only, not copied.

    A copy of a 512x512x800 CT would cost another 0.4 GB.
    """
    return np.asarray(_HeldImage(image))


def affine_from_image(image: sitk.Image) -> NDArray[np.float64]:
    """(4, 4) matrix from voxel indices (i, j, k, 1) to RAS mm of a 3D image (ITK's own frame is LPS)."""
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    ijk_to_lps[:3, 3] = image.GetOrigin()
    return np.asarray(LPS_TO_RAS @ ijk_to_lps)


def image_from_array(array_kji: NDArray[Any], ijk_to_ras: NDArray[np.float64]) -> sitk.Image:
    """A 3D image, copied; a fourth array axis becomes the components of each voxel."""
    image = sitk.GetImageFromArray(array_kji, isVector=array_kji.ndim == 4)
    ijk_to_lps = LPS_TO_RAS @ ijk_to_ras
    spacing = np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
    image.SetSpacing([float(v) for v in spacing])
    image.SetDirection([float(v) for v in (ijk_to_lps[:3, :3] / spacing).reshape(-1)])
    image.SetOrigin([float(v) for v in ijk_to_lps[:3, 3]])
    return image


def first_sentence(error: RuntimeError) -> str:
    """The informative end of one of ITK's many-line messages, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else "no reason given"
    return text.removeprefix("ITK ERROR: ")[:200]


@contextmanager
def hidden_native_output() -> Iterator[None]:
    """Drop what C++ libraries print to the process's standard error meanwhile (MetaImage, niftilib, GDCM).

    Python's own messages and progress go on to the terminal. Swaps the file descriptor of the whole process: for
    command-line programs, not for servers.
    """
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # no standard error at all: nothing can be printed
        yield
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    os.close(sink)
    try:
        with _python_stderr_on(saved):
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@contextmanager
def _python_stderr_on(descriptor: int) -> Iterator[None]:
    """Let `sys.stderr` write to another descriptor, unless something else has taken its place already."""
    own = sys.stderr
    if own is not sys.__stderr__:
        yield
        return
    encoding, errors = (getattr(own, name, None) for name in ("encoding", "errors"))
    with open(descriptor, "w", buffering=1, encoding=encoding, errors=errors, closefd=False) as stream:
        sys.stderr = stream
        try:
            yield
        finally:
            sys.stderr = own
