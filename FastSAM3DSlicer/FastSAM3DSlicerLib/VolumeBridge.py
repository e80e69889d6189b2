"""Between MRML nodes and voxels: volumes, parent transforms, ROI boxes and time points.

World coordinates are RAS in mm, as markups report them; voxel coordinates are those of the volume node,
continuous, (i, j, k). Everything here only reads the scene.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from FastSAM3DCore.errors import ImageError, PromptError
from FastSAM3DCore.types import Volume, VoxelBox

# A face of a box that lies this close to a voxel border counts as on it: markups round to float32.
EDGE_TOLERANCE = 1e-3
# Scans with voxels outside this range, or more of them, are rarely what was meant to be loaded.
FINE_MM, COARSE_MM, HUGE_GIGAVOXELS = 0.1, 15.0, 0.5


def arrayFromMatrix(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    """The 4x4 numbers of a VTK matrix, float64."""
    array = np.empty(16)
    matrix.DeepCopy(array, matrix)
    return array.reshape(4, 4)


def matrixFromArray(array: np.ndarray) -> vtk.vtkMatrix4x4:
    """A VTK matrix of a (4, 4) array."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(array, dtype=float).ravel())
    return matrix


def nodeToWorld(node: Any) -> np.ndarray:
    """The (4, 4) matrix of a node's parent transforms; identity without one.

    Raises:
        ImageError: a parent transform bends space, so that one matrix cannot describe it.
    """
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        raise ImageError(
            f"{node.GetName()} is under the non-linear transform {parent.GetName()}. "
            "Harden it (Transforms module) or take the node out of it."
        )
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return arrayFromMatrix(matrix)


def ijkToWorld(volumeNode: Any) -> np.ndarray:
    """The (4, 4) matrix from a volume's voxels to world RAS, parent transforms included."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return nodeToWorld(volumeNode) @ arrayFromMatrix(matrix)


def transformPoints(matrix: np.ndarray, points: Any) -> np.ndarray:
    """Points (N, 3) through a (4, 4) matrix."""
    return np.asarray(points, dtype=float).reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]


def checkVolume(volumeNode: Any) -> None:
    """Refuse what cannot be segmented, with the reason.

    Raises:
        ImageError: no node, no voxels, several components, or a non-linear parent transform.
    """
    if volumeNode is None or not volumeNode.IsA("vtkMRMLScalarVolumeNode"):
        raise ImageError("No volume is selected. Load a scan and choose it first.")
    image = volumeNode.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise ImageError(f"{volumeNode.GetName()} has no voxels. Load the scan again or choose another volume.")
    if image.GetNumberOfScalarComponents() != 1:
        raise ImageError(
            f"{volumeNode.GetName()} is a colour volume with {image.GetNumberOfScalarComponents()} components. "
            "Convert it to a scalar volume (Vector to Scalar Volume module)."
        )
    nodeToWorld(volumeNode)


def shownVolume(scene: Any) -> Any:
    """The scan the user is looking at: the slice views' background; None without one."""
    composite = scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    node = scene.GetNodeByID(composite.GetBackgroundVolumeID() or "") if composite is not None else None
    return node if node is not None and node.IsA("vtkMRMLScalarVolumeNode") else None


def shapeIjk(volumeNode: Any) -> tuple[int, int, int]:
    """Voxels along i, j, k."""
    i, j, k = volumeNode.GetImageData().GetDimensions()
    return (i, j, k)


def sizeNote(volumeNode: Any) -> str:
    """A warning about a scan of unusual resolution or size, empty for the usual ones."""
    spacing = np.linalg.norm(ijkToWorld(volumeNode)[:3, :3], axis=0)
    gigavoxels = float(np.prod(np.array(shapeIjk(volumeNode), dtype=float))) / 1e9
    if gigavoxels > HUGE_GIGAVOXELS:
        return f"This scan is very large ({gigavoxels:.1f} billion voxels): crop it if prompts are slow."
    if spacing.min() < FINE_MM or spacing.max() > COARSE_MM:
        text = " x ".join(f"{s:.3g}" for s in spacing)
        return f"Its voxels are {text} mm, far from usual scans; check the spacing if results are poor."
    return ""


def voxels(volumeNode: Any) -> np.ndarray:
    """The scan's voxels as a view, indexed [k, j, i]; it stays valid after the node is gone."""
    image = volumeNode.GetImageData()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def volumeFromNode(volumeNode: Any) -> Volume:
    """The scan as the engine takes it, voxels not copied, geometry in world RAS.

    A parent transform that shears (a 12-parameter registration) cannot be given to the engine; it then sees
    the scan's own geometry. Prompts are voxels, so they land in the same place either way.

    Raises:
        ImageError: see `checkVolume` and `Volume`.
    """
    checkVolume(volumeNode)
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    try:
        return Volume(voxels(volumeNode), ijkToWorld(volumeNode))
    except ImageError:
        return Volume(voxels(volumeNode), arrayFromMatrix(matrix))


def frameIndex(volumeNode: Any) -> int:
    """Which time point of a sequence the node shows now; 0 when it belongs to no sequence."""
    scene = volumeNode.GetScene()
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode")):
        browser = scene.GetNthNodeByClass(n, "vtkMRMLSequenceBrowserNode")
        if browser.IsProxyNodeID(volumeNode.GetID()):
            return max(0, browser.GetSelectedItemNumber())
    return 0


def imageKey(volumeNode: Any) -> tuple[Any, ...]:
    """Changes whenever the engine must be given the scan again: other node, voxels, place or time point."""
    image = volumeNode.GetImageData()
    matrix = ijkToWorld(volumeNode)
    return (
        volumeNode.GetID(),
        image.GetAddressAsString(""),
        image.GetMTime(),
        frameIndex(volumeNode),
        matrix.tobytes(),
    )


def pointsToIjk(volumeNode: Any, pointsRas: Any) -> np.ndarray:
    """World points (N, 3) as continuous voxel coordinates.

    Raises:
        PromptError: no points, or not finite.
    """
    points = np.asarray(pointsRas, dtype=float).reshape(-1, 3)
    if not len(points) or not np.isfinite(points).all():
        raise PromptError("The prompt has no usable position; place it again.")
    return transformPoints(np.linalg.inv(ijkToWorld(volumeNode)), points)


def checkInside(volumeNode: Any, pointsIjk: np.ndarray) -> None:
    """Every point must be in a voxel of the scan.

    Raises:
        PromptError: a point is outside.
    """
    shape = np.array(shapeIjk(volumeNode))
    nearest = np.rint(pointsIjk)
    if (nearest < 0).any() or (nearest >= shape).any():
        raise PromptError(f"That is outside {volumeNode.GetName()}; nothing was changed. Click inside the scan.")


def boxFromRoi(roiNode: Any, volumeNode: Any) -> VoxelBox:
    """The voxels an ROI encloses: those whose centre is inside the (possibly rotated) box's bounds.

    A rotated ROI becomes the voxel box around it; one thinner than a voxel becomes one slice.

    Raises:
        PromptError: the ROI is not placed yet, or lies outside the scan.
    """
    size = np.zeros(3)
    roiNode.GetSizeWorld(size)
    if not np.isfinite(size).all() or np.count_nonzero(size > 0) < 2:
        raise PromptError("The box has no area yet; place both corners.")
    toWorld = arrayFromMatrix(roiNode.GetObjectToWorldMatrix())
    scale = np.linalg.norm(toWorld[:3, :3], axis=0)
    half = size / 2 / np.where(scale > 0, scale, 1)
    corners = np.array(list(itertools.product(*((-h, h) for h in half))))
    ijk = pointsToIjk(volumeNode, transformPoints(toWorld, corners))
    return boxAround(ijk, shapeIjk(volumeNode))


def boxAround(cornersIjk: np.ndarray, shape: tuple[int, int, int]) -> VoxelBox:
    """The half-open box of the voxels whose centres lie between the corners, at least one slice thick.

    Raises:
        PromptError: no voxel of the scan is in it.
    """
    low, high = cornersIjk.min(axis=0), cornersIjk.max(axis=0)
    lower = np.ceil(low - EDGE_TOLERANCE).astype(int)
    upper = np.floor(high + EDGE_TOLERANCE).astype(int) + 1
    thin = upper <= lower  # between two centres: the slice nearest to its middle
    middle = np.floor((low + high) / 2 + 0.5).astype(int)
    lower, upper = np.where(thin, middle, lower), np.where(thin, middle + 1, upper)
    box = VoxelBox(tuple(lower), tuple(upper)).intersect(VoxelBox((0, 0, 0), shape))
    if box.is_empty:
        raise PromptError("The box lies outside the scan; nothing was changed. Place it over the scan.")
    return box
