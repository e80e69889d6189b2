"""Fixtures: a real scene, a scan with an awkward orientation, the logic with a predictable session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

from FastSAM3DSlicerLib import SegmentationLogic
from FastSAM3DSlicerLib.Controller import Controller
from FastSAM3DSlicerLib.DeferredSession import DeferredSession
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, transformPoints
from Testing.core.fakes import FakeSession
from Testing.mrml.scene import OBLIQUE, HeadlessScene
from Testing.mrml.slow import SlowSession

SHAPE = (30, 50, 60)


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """VTK prints and swallows exceptions raised in observers: no test may leave one behind."""
    yield
    assert "Traceback" not in capfd.readouterr().err


@pytest.fixture
def headless() -> HeadlessScene:
    return HeadlessScene()


@pytest.fixture
def scan(headless: HeadlessScene) -> Any:
    voxels = np.random.default_rng(0).integers(0, 100, SHAPE).astype(np.int16)
    return headless.addVolume(voxels, OBLIQUE)


@pytest.fixture
def logic(headless: HeadlessScene, scan: Any) -> SegmentationLogic:
    """Working on an empty segment "Liver" of a new segmentation; `logic.said` collects status lines."""
    logic = SegmentationLogic(headless.scene, FakeSession())
    logic.said = []
    logic.onStatus = logic.said.append
    logic.setVolume(scan)
    logic.addSegment(headless.addSegmentation(), "Liver")
    return logic


@pytest.fixture
def session() -> SlowSession:
    """What the controller's worker asks."""
    return SlowSession()


@pytest.fixture
def controller(headless: HeadlessScene, scan: Any, session: SlowSession) -> Iterator[Controller]:
    """A controller with a worker of its own, an empty segment, and short cuts: `at`, `click`, `said`."""
    import slicer

    said: list[str] = []
    sliceNode = headless.scene.AddNewNodeByClass("vtkMRMLSliceNode")
    sliceNode.SetLayoutName("Red")
    headless.scene.AddNode(slicer.vtkMRMLInteractionNode())
    headless.scene.AddNode(slicer.vtkMRMLSelectionNode())
    controller = Controller(headless.scene, DeferredSession(lambda: session), list, said.append)
    controller.said = said
    node = headless.addSegmentation()
    controller.select(scan, None, "")
    controller.nextSegment(node)
    controller.at = lambda *ijk: transformPoints(ijkToWorld(scan), [ijk])[0]
    controller.click = lambda *ijk: controller.sync.pointsNode(True).AddControlPointWorld(*controller.at(*ijk))
    yield controller
    session.gate.set()
    controller.close()


@pytest.fixture
def at(logic: SegmentationLogic) -> Callable[..., np.ndarray]:
    """World position of a voxel of the current volume."""
    return lambda *ijk: transformPoints(ijkToWorld(logic.volumeNode), [ijk])[0]


def whole(logic: SegmentationLogic, segmentId: str | None = None) -> np.ndarray:
    """A segment over the whole scan, read back by Slicer's own code, uint8 [k, j, i]."""
    import slicer
    from vtk.util.numpy_support import vtk_to_numpy

    from FastSAM3DSlicerLib.VolumeBridge import matrixFromArray, nodeToWorld

    node, volume = logic.active.node, logic.volumeNode
    geometry = slicer.vtkOrientedImageData()
    geometry.SetDimensions(*volume.GetImageData().GetDimensions())
    toLocal = np.linalg.inv(nodeToWorld(node)) @ ijkToWorld(volume)
    geometry.SetGeometryFromImageToWorldMatrix(matrixFromArray(toLocal))
    source, out = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(segmentId or logic.active.segmentId, source)
    if source.GetNumberOfPoints() == 0:
        return np.zeros(volume.GetImageData().GetDimensions()[::-1], np.uint8)
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(source, geometry, out)
    return vtk_to_numpy(out.GetPointData().GetScalars()).reshape(out.GetDimensions()[::-1]).astype(np.uint8)


def setWhole(logic: SegmentationLogic, segmentId: str, mask: np.ndarray) -> None:
    """Replace a segment's content by Slicer's own code, as another module or script would."""
    import slicer
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    from FastSAM3DSlicerLib.VolumeBridge import matrixFromArray, nodeToWorld

    node, volume = logic.active.node, logic.volumeNode
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*mask.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(mask.astype(np.uint8).ravel(), 1, vtk.VTK_UNSIGNED_CHAR))
    toLocal = np.linalg.inv(nodeToWorld(node)) @ ijkToWorld(volume)
    image.SetGeometryFromImageToWorldMatrix(matrixFromArray(toLocal))
    L = slicer.vtkSlicerSegmentationsModuleLogic
    assert L.SetBinaryLabelmapToSegment(image, node, segmentId, L.MODE_REPLACE, image.GetExtent())


def addOther(logic: SegmentationLogic, mask: np.ndarray, name: str = "Other") -> str:
    """Another segment with a given content; the active one stays active."""
    segmentId = logic.active.node.GetSegmentation().AddEmptySegment("", name)
    setWhole(logic, segmentId, mask)
    return segmentId
