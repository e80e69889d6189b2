"""Scan files to MRML volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import vtk
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLScene
from vtkmodules.util.numpy_support import numpy_to_vtk

from FastSAM3DCore.types import Volume

__all__ = ["add_volume", "default_name", "replace_voxels"]


def add_volume(scene: vtkMRMLScene, volume: Volume, name: str) -> vtkMRMLScalarVolumeNode:
    """A volume node that shares the array's memory where VTK knows the type."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    replace_voxels(node, volume)
    node.CreateDefaultDisplayNodes()
    return node


def _displayable(array: np.ndarray) -> np.ndarray:
    """The same numbers in a type that the display pipeline handles."""
    if array.dtype == bool:
        return array.view(np.uint8)
    if array.dtype.itemsize == 8 and array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        return array.astype(np.int32 if low >= -(2**31) and high < 2**31 else np.float64)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def default_name(path: Path, above: Path | None = None) -> str:
    """The file's name without its endings; its folder's where every case has a file of the same name.

    Args:
        above: a folder whose name says nothing.
    """
    name = path.stem if path.is_file() else path.name
    for ending in (".nii.gz", ".seg.nrrd"):
        if path.name.lower().endswith(ending):
            name = path.name[: -len(ending)]
    folder = path.parent.name if path.parent != above else ""
    return folder if name.lower() in ("image", "img", "volume", "scan") and folder else name


def replace_voxels(node: vtkMRMLScalarVolumeNode, volume: Volume) -> None:
    """Give a volume node other voxels and another place."""
    array = np.ascontiguousarray(_displayable(volume.array_kji))
    image = vtk.vtkImageData()
    image.SetDimensions(*array.shape[::-1])
    scalars = numpy_to_vtk(array.ravel(), deep=0)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    matrix = vtk.vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            matrix.SetElement(row, column, float(volume.ijk_to_ras[row, column]))
    was_modifying = node.StartModify()
    node.SetIJKToRASMatrix(matrix)
    node.SetAndObserveImageData(image)
    node.EndModify(was_modifying)
