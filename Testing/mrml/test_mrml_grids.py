"""Segmentations on another grid or under another transform than the scan."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from FastSAM3DCore import VoxelBox
from FastSAM3DSlicerLib import SegmentationLogic
from FastSAM3DSlicerLib.Resampling import sampleNearest, wholeVoxelShift
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, matrixFromArray, transformPoints
from Testing.core.fakes import FakeSession
from Testing.mrml.conftest import SHAPE, whole
from Testing.mrml.scene import OBLIQUE, imageOf

MOVE = np.array([[0.8, -0.6, 0, 30.0], [0.6, 0.8, 0, -12.0], [0, 0, 1, 5.0], [0, 0, 0, 1.0]])


def put(node, segmentId, array, matrix):
    image = slicer.vtkOrientedImageData()
    image.DeepCopy(imageOf(array))
    image.SetGeometryFromImageToWorldMatrix(matrixFromArray(matrix))
    L = slicer.vtkSlicerSegmentationsModuleLogic
    assert L.SetBinaryLabelmapToSegment(image, node, segmentId, L.MODE_REPLACE, image.GetExtent())


def test_scan_and_segmentation_under_one_transform_stay_aligned(headless, scan):
    logic = SegmentationLogic(headless.scene, FakeSession())
    headless.addTransform(MOVE, scan)
    logic.setVolume(scan)
    node = headless.addSegmentation()
    logic.addSegment(node, "A")
    assert node.GetTransformNodeID() == scan.GetTransformNodeID()
    logic.addPoint(transformPoints(ijkToWorld(scan), [[20, 25, 15]])[0])
    assert logic.prompts[0].point_ijk == pytest.approx((20, 25, 15), abs=1e-4)
    assert np.array_equal(whole(logic), logic.link.session.mask())


def test_a_transform_added_later_to_both_changes_nothing(logic, at, headless):
    logic.addPoint(at(20, 25, 15))
    first = whole(logic)
    headless.addTransform(MOVE, logic.volumeNode, logic.active.node)
    assert np.array_equal(whole(logic), first)
    logic.addPoint(at(26, 25, 15))
    assert np.array_equal(whole(logic), logic.link.session.mask())
    logic.undo()
    assert np.array_equal(whole(logic), first)


def test_a_transform_added_later_to_the_scan_alone_writes_where_the_scan_is_seen(logic, at, headless):
    shift = np.eye(4)
    shift[:3, 3] = ijkToWorld(logic.volumeNode)[:3, :3] @ [5, 0, 0]  # five voxels along i
    headless.addTransform(shift, logic.volumeNode)
    logic.addPoint(at(20, 25, 15))
    stored = logic.active.image()
    assert np.array_equal(whole(logic), logic.link.session.mask())
    assert stored.box.contains((25, 25, 15))
    logic.undo()
    assert not stored.ownContent().any()


@pytest.mark.parametrize("fineness", [0.5, 2.0])
def test_a_segment_on_another_grid_keeps_its_detail_away_from_the_change(headless, scan, fineness):
    """Imported at another resolution: the click goes through the nearest voxel, the rest stays bit-exact."""
    logic = SegmentationLogic(headless.scene, FakeSession())
    logic.setVolume(scan)
    node = headless.addSegmentation()
    segmentId = node.GetSegmentation().AddEmptySegment("", "Imported")
    scale = np.diag([1 / fineness] * 3 + [1.0])
    shape = tuple(int(s * fineness) for s in SHAPE)
    speckle = (np.random.default_rng(1).random(shape) > 0.7).astype(np.uint8)
    speckle[:, :, shape[2] // 2 :] = 0
    put(node, segmentId, speckle, OBLIQUE @ scale)
    logic.setSegment(node, segmentId)
    before = logic.active.image().ownContent().copy(), logic.active.image().box
    logic.addPoint(transformPoints(ijkToWorld(scan), [[48, 25, 15]])[0])
    image = logic.active.image()
    half = VoxelBox((0, 0, 0), (shape[2] // 2 - 8, shape[1], shape[0])).intersect(before[1])
    assert np.array_equal(image._get(half), before[0][half.slices_kji])
    ball = logic.link.session.mask()
    ball[:, :, :35] = 0
    assert abs(int(whole(logic)[:, :, 35:].sum()) - int(ball.sum())) < 0.05 * ball.sum()
    logic.undo()
    assert np.array_equal(image._get(before[1]), before[0])


def test_nearest_sampling_agrees_with_slicers_resampling(headless, scan):
    rng = np.random.default_rng(2)
    source = rng.random((12, 14, 16)) > 0.5
    turn = OBLIQUE.copy()
    turn[:3, 3] += [3.3, -2.1, 4.7]
    image, geometry, out = (slicer.vtkOrientedImageData() for _ in range(3))
    image.DeepCopy(imageOf(source.astype(np.uint8)))
    image.SetGeometryFromImageToWorldMatrix(matrixFromArray(turn @ np.diag([1.3, 0.9, 0.7, 1.0])))
    geometry.SetDimensions(*SHAPE[::-1])
    geometry.SetGeometryFromImageToWorldMatrix(matrixFromArray(OBLIQUE))
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(image, geometry, out)
    from vtk.util.numpy_support import vtk_to_numpy

    theirs = vtk_to_numpy(out.GetPointData().GetScalars()).reshape(SHAPE)
    toSource = np.linalg.inv(turn @ np.diag([1.3, 0.9, 0.7, 1.0])) @ OBLIQUE
    box = VoxelBox((0, 0, 0), SHAPE[::-1])
    ours = sampleNearest(source, VoxelBox((0, 0, 0), (16, 14, 12)), toSource, box)
    assert (ours != theirs).mean() < 0.002  # ties between two voxels


def test_only_whole_voxel_shifts_count_as_the_same_grid():
    assert wholeVoxelShift(np.eye(4)).tolist() == [0, 0, 0]
    shifted = np.eye(4)
    shifted[:3, 3] = [3, -2, 0.001]
    assert wholeVoxelShift(shifted).tolist() == [3, -2, 0]
    for changed in (np.diag([1.01, 1, 1, 1]), MOVE, np.eye(4) + 0.3 * np.eye(4, k=3)):
        assert wholeVoxelShift(changed) is None
