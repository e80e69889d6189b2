"""Prompts from what the user drew: world positions and markups to voxels of the scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from FastSAM3DCore.errors import PromptError
from FastSAM3DCore.prompts import BoxPrompt, LassoPrompt, PointPrompt, ScribblePrompt, as_ijk, as_ijk_list

from .Oblique import insidePath
from .VolumeBridge import boxFromRoi, checkInside, pointsToIjk, shapeIjk

# A contour whose points stay this close to one slice lies in that slice; hand-drawn ones come from a slice view
# and are exact, but a view may sit between two slices.
FLAT_VOXELS = 0.51
# Points of a stroke closer together than this add nothing (a freehand stroke has hundreds).
STROKE_STEP_VOXELS = 0.5


def pointPrompt(volumeNode: Any, ras: Any, positive: bool, id: int = 0) -> PointPrompt:
    """A click; PromptError outside the scan."""
    ijk = pointsToIjk(volumeNode, ras)[:1]
    checkInside(volumeNode, ijk)
    return PointPrompt(id, as_ijk(ijk[0]), positive)


def boxPrompt(volumeNode: Any, roiNode: Any, id: int = 0) -> BoxPrompt:
    """A markups ROI."""
    return BoxPrompt(id, boxFromRoi(roiNode, volumeNode))


def scribblePrompt(volumeNode: Any, curveNode: Any, positive: bool, id: int = 0) -> ScribblePrompt:
    """A markups curve; the part outside the scan is left away."""
    ijk = thinned(pointsToIjk(volumeNode, curvePoints(curveNode)))
    inside = ijk[((np.rint(ijk) >= 0) & (np.rint(ijk) < shapeIjk(volumeNode))).all(axis=1)]
    if not len(inside):
        checkInside(volumeNode, ijk)
    return ScribblePrompt(id, as_ijk_list(inside), positive)


def lassoPrompt(volumeNode: Any, curveNode: Any, positive: bool, id: int = 0) -> LassoPrompt | ScribblePrompt:
    """A closed markups curve. In an oblique slice: a stroke over the contour's inside, which says the same."""
    ijk = thinned(pointsToIjk(volumeNode, curvePoints(curveNode)))
    if len(ijk) < 3:
        raise PromptError("A lasso needs at least three points; draw around the structure.")
    shape = np.array(shapeIjk(volumeNode))
    if ((ijk.max(axis=0) < -0.5) | (ijk.min(axis=0) >= shape - 0.5)).any():
        checkInside(volumeNode, ijk)
    axis = int(np.ptp(ijk, axis=0).argmin())
    if np.ptp(ijk[:, axis]) > 2 * FLAT_VOXELS:
        path = insidePath(ijk, shapeIjk(volumeNode))
        if not len(path):
            raise PromptError("The contour encloses no voxel of the scan; draw a larger one.")
        return ScribblePrompt(id, as_ijk_list(path), positive)
    ijk[:, axis] = np.clip(np.rint(np.median(ijk[:, axis])), 0, shape[axis] - 1)
    return LassoPrompt(id, as_ijk_list(np.clip(ijk, 0, shape - 1)), positive)


def curvePoints(curveNode: Any) -> np.ndarray:
    """World positions (N, 3) along a curve: the line drawn if it has one, else its control points."""
    points = curveNode.GetCurvePointsWorld()
    if points is not None and points.GetNumberOfPoints() > 1:
        return np.array(vtk_to_numpy(points.GetData()), dtype=float)
    control = vtk.vtkPoints()
    curveNode.GetControlPointPositionsWorld(control)
    if control.GetNumberOfPoints() == 0:
        raise PromptError("The curve has no points; draw it again.")
    return np.array(vtk_to_numpy(control.GetData()), dtype=float)


def thinned(pointsIjk: np.ndarray) -> np.ndarray:
    """The polyline without points that lie within half a voxel of the one kept before."""
    kept = [0]
    for n in range(1, len(pointsIjk)):
        if np.abs(pointsIjk[n] - pointsIjk[kept[-1]]).max() >= STROKE_STEP_VOXELS:
            kept.append(n)
    return pointsIjk[kept]
