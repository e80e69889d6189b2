"""A real MRML scene with the real module logics, without the Slicer application."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import slicer
from vtk.util.numpy_support import numpy_to_vtk

from FastSAM3DSlicerLib.VolumeBridge import matrixFromArray


def rightAngled(matrix: np.ndarray) -> np.ndarray:
    """The nearest matrix with axes at right angles and the same spacing."""
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    u, _, vt = np.linalg.svd(matrix[:3, :3] / spacing)
    out = matrix.copy()
    out[:3, :3] = (u @ vt) * spacing
    return out


# Rotated, flipped and anisotropic, so that a swapped axis or sign shows.
OBLIQUE = rightAngled(
    np.array([[-0.72, 0.26, 0.1, 40.0], [-0.27, -0.75, 0.3, 35.0], [0.08, 0.1, 1.9, -30.0], [0.0, 0.0, 0.0, 1.0]])
)


class HeadlessScene:
    """Scene, application logic and the module logics that register converters and storage; keep it alive."""

    def __init__(self) -> None:
        self.scene = slicer.vtkMRMLScene()
        self.application = slicer.vtkSlicerApplicationLogic()
        self.application.SetMRMLScene(self.scene)
        self.application.SetTemporaryPath(tempfile.mkdtemp())
        self.application.GetColorLogic().SetMRMLScene(self.scene)
        self.application.GetColorLogic().AddDefaultColorNodes()
        self.cache = slicer.vtkCacheManager()
        self.cache.SetRemoteCacheDirectory(tempfile.mkdtemp())
        self.dataManager = slicer.vtkDataIOManager()
        self.dataManager.SetCacheManager(self.cache)
        self.scene.SetCacheManager(self.cache)
        self.scene.SetDataIOManager(self.dataManager)
        self.logics = {}
        for name, logic in (
            ("Colors", slicer.vtkMRMLColorLogic()),
            ("Volumes", slicer.vtkSlicerVolumesLogic()),
            ("Segmentations", slicer.vtkSlicerSegmentationsModuleLogic()),
            ("Markups", slicer.vtkSlicerMarkupsLogic()),
            ("SubjectHierarchy", slicer.vtkSlicerSubjectHierarchyModuleLogic()),
            ("Sequences", slicer.vtkSlicerSequencesLogic()),
        ):
            logic.SetMRMLApplicationLogic(self.application)
            logic.SetMRMLScene(self.scene)
            self.application.SetModuleLogic(name, logic)
            self.logics[name] = logic

    def addVolume(self, array: np.ndarray, ijkToRas: np.ndarray = OBLIQUE, name: str = "Scan") -> Any:
        """A scalar volume node of an array indexed [k, j, i]."""
        node = self.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        node.SetIJKToRASMatrix(matrixFromArray(ijkToRas))
        node.SetAndObserveImageData(imageOf(array))
        return node

    def addSegmentation(self, volumeNode: Any = None, name: str = "Segmentation") -> Any:
        node = self.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.CreateDefaultDisplayNodes()
        if volumeNode is not None:
            node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
        return node

    def addTransform(self, matrix: np.ndarray, *nodes: Any) -> Any:
        transform = self.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Transform")
        transform.SetMatrixTransformToParent(matrixFromArray(matrix))
        for node in nodes:
            node.SetAndObserveTransformNodeID(transform.GetID())
        return transform


def bend(scene: Any, *nodes: Any) -> Any:
    """Put nodes under a transform that no matrix describes."""
    import vtk

    points = vtk.vtkPoints(), vtk.vtkPoints()
    for p in ((0, 0, 0), (10, 0, 0), (0, 10, 0), (0, 0, 10), (9, 9, 9)):
        points[0].InsertNextPoint(p)
        points[1].InsertNextPoint(p[0] + p[1] ** 2 * 0.1, p[1], p[2])
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetSourceLandmarks(points[0])
    spline.SetTargetLandmarks(points[1])
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode", "Warp")
    transform.SetAndObserveTransformToParent(spline)
    for node in nodes:
        node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def imageOf(array: np.ndarray) -> Any:
    """vtkImageData of an array indexed [k, j, i] or [k, j, i, component]."""
    import vtk

    image = vtk.vtkImageData()
    image.SetDimensions(*array.shape[2::-1])
    flat = np.ascontiguousarray(array).reshape(-1, array.shape[3]) if array.ndim == 4 else array.ravel()
    image.GetPointData().SetScalars(numpy_to_vtk(flat, deep=1))
    return image
