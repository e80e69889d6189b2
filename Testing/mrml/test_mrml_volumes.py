"""Volumes and markups to voxels: any direction, parent transforms, rotated and thin boxes, bad input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import slicer
import vtk

from FastSAM3DCore.errors import ImageError, PromptError
from FastSAM3DCore.types import VoxelBox
from FastSAM3DSlicerLib import VolumeBridge as bridge
from FastSAM3DSlicerLib.Prompts import lassoPrompt, scribblePrompt
from Testing.mrml.conftest import SHAPE
from Testing.mrml.scene import OBLIQUE, bend

FLIPS = [np.diag([*signs, 1.0]) for signs in itertools.product((1.0, -1.0), repeat=3)]
SWAPS = [np.eye(4)[[*order, 3]] for order in itertools.permutations(range(3))]
ROTATED = np.array([[0.8, -0.6, 0, 7.0], [0.6, 0.8, 0, -3.0], [0, 0, 1, 11.0], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("order", range(6))
@pytest.mark.parametrize("flip", range(8))
def test_a_world_point_lands_in_its_voxel_for_every_axis_order_and_flip(headless, order, flip):
    matrix = np.diag([0.7, 1.1, 2.5, 1.0]) @ SWAPS[order] @ FLIPS[flip]
    volume = headless.addVolume(np.zeros((5, 6, 7), np.int16), matrix)
    headless.addTransform(ROTATED, volume)
    world = (ROTATED @ matrix @ [4, 2, 3, 1])[:3]
    assert bridge.pointsToIjk(volume, world)[0] == pytest.approx([4, 2, 3], abs=1e-5)
    assert bridge.volumeFromNode(volume).ras_to_ijk(world) == pytest.approx([4, 2, 3], abs=1e-5)


def test_a_chain_of_parent_transforms_is_honoured(headless, scan):
    inner = headless.addTransform(ROTATED, scan)
    outer = headless.addTransform(np.diag([2.0, 1.0, 1.0, 1.0]), inner)
    expected = np.diag([2.0, 1.0, 1.0, 1.0]) @ ROTATED @ OBLIQUE
    assert outer.GetName() == "Transform"
    assert bridge.ijkToWorld(scan) == pytest.approx(expected, abs=1e-4)


def test_a_shearing_registration_still_gives_the_engine_a_usable_grid(headless, scan):
    shear = np.eye(4)
    shear[0, 1] = 0.4
    headless.addTransform(shear, scan)
    assert bridge.volumeFromNode(scan).ijk_to_ras == pytest.approx(OBLIQUE, abs=1e-4)


def test_a_bending_transform_is_refused_with_what_to_do(headless, scan):
    bend(headless.scene, scan)
    with pytest.raises(ImageError, match=r"non-linear transform Warp.*Harden"):
        bridge.checkVolume(scan)


def test_what_is_not_a_scalar_scan_is_refused_with_a_reason(headless):
    colour = headless.scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Photo")
    from Testing.mrml.scene import imageOf

    colour.SetAndObserveImageData(imageOf(np.zeros((3, 4, 5, 3), np.uint8)))
    empty = headless.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing")
    for node, reason in ((colour, "colour volume with 3"), (empty, "no voxels"), (None, "No volume is selected")):
        with pytest.raises(ImageError, match=reason):
            bridge.checkVolume(node)


def test_a_point_outside_is_refused_and_the_border_voxel_is_not(scan):
    bridge.checkInside(scan, np.array([[59.4, 49.4, 29.4]]))
    for outside in ([59.6, 0, 0], [-0.6, 0, 0], [0, 0, 30]):
        with pytest.raises(PromptError, match="outside Scan"):
            bridge.checkInside(scan, np.array([outside]))
    with pytest.raises(PromptError, match="no usable position"):
        bridge.pointsToIjk(scan, [np.nan, 0, 0])


def roi(headless, center, size, rotation=None):
    node = headless.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3) if rotation is None else rotation
    matrix[:3, 3] = center
    node.SetAndObserveObjectToNodeMatrix(bridge.matrixFromArray(matrix))
    node.SetSize(*size)
    return node


def test_an_roi_along_the_voxel_axes_gives_exactly_the_voxels_whose_centres_it_holds(headless, scan):
    toWorld = bridge.ijkToWorld(scan)
    axes = toWorld[:3, :3] / np.linalg.norm(toWorld[:3, :3], axis=0)
    center = bridge.transformPoints(toWorld, [[20, 25, 10]])[0]
    size = np.linalg.norm(toWorld[:3, :3], axis=0) * [4, 6, 2]
    box = bridge.boxFromRoi(roi(headless, center, size, axes), scan)
    assert box == VoxelBox((18, 22, 9), (23, 29, 12))


def test_a_rotated_roi_becomes_the_voxel_box_around_it(headless):
    volume = headless.addVolume(np.zeros((40, 40, 40), np.int16), np.eye(4))
    turn = ROTATED[:3, :3]
    box = bridge.boxFromRoi(roi(headless, (20, 20, 20), (10, 10, 4), turn), volume)
    # |0.8| * 5 + |0.6| * 5 = 7 voxels to each side in the rotated plane
    assert box == VoxelBox((13, 13, 18), (28, 28, 23))


def test_an_roi_under_a_transform_is_found_where_it_is_seen(headless):
    volume = headless.addVolume(np.zeros((40, 40, 40), np.int16), np.eye(4))
    node = roi(headless, (10, 10, 10), (4, 4, 4))
    move = np.eye(4)
    move[:3, 3] = [5, -2, 7]
    headless.addTransform(move, node)
    assert bridge.boxFromRoi(node, volume) == VoxelBox((13, 6, 15), (18, 11, 20))


@pytest.mark.parametrize("thickness", [0.0, 0.3])
def test_an_roi_thinner_than_a_voxel_becomes_one_slice(headless, thickness):
    volume = headless.addVolume(np.zeros((40, 40, 40), np.int16), np.eye(4))
    box = bridge.boxFromRoi(roi(headless, (20, 20, 15.4), (10, 10, thickness)), volume)
    assert (box.lower[2], box.upper[2]) == (15, 16)


def test_an_roi_outside_or_without_area_is_refused(headless, scan):
    with pytest.raises(PromptError, match="outside the scan"):
        bridge.boxFromRoi(roi(headless, (500, 500, 500), (10, 10, 10)), scan)
    with pytest.raises(PromptError, match="no area"):
        bridge.boxFromRoi(roi(headless, (0, 0, 0), (10, 0, 0)), scan)


def curve(headless, className, world):
    node = headless.scene.AddNewNodeByClass(className)
    for position in world:
        node.AddControlPointWorld(*position)
    return node


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_lasso_drawn_in_any_slice_orientation_lies_in_that_slice(headless, scan, axis):
    corners = np.array([[-8, -8], [8, -8], [8, 8], [-8, 8]])
    ijk = np.full((4, 3), [30.0, 25.0, 15.0])
    ijk[:, [a for a in range(3) if a != axis]] += corners
    node = curve(headless, "vtkMRMLMarkupsClosedCurveNode", bridge.transformPoints(bridge.ijkToWorld(scan), ijk))
    prompt = lassoPrompt(scan, node, positive=True)
    polygon = np.array(prompt.polygon_ijk)
    assert prompt.kind == "lasso"
    assert set(polygon[:, axis]) == {[30, 25, 15][axis]}
    assert np.ptp(polygon, axis=0).max() >= 15


def test_a_lasso_in_an_oblique_slice_becomes_a_stroke_over_its_inside(headless):
    volume = headless.addVolume(np.zeros((60, 60, 60), np.int16), np.eye(4))
    u, v = np.array([1, 0, 0.0]), np.array([0, 0.7071, 0.7071])
    ring = [30 + 10 * (np.cos(t) * u + np.sin(t) * v) for t in np.linspace(0, 2 * np.pi, 24, endpoint=False)]
    prompt = lassoPrompt(volume, curve(headless, "vtkMRMLMarkupsClosedCurveNode", ring), positive=False)
    path = np.array(prompt.points_ijk)
    offset = path - 30
    assert prompt.kind == "scribble"
    assert not prompt.positive
    assert np.abs(offset @ np.cross(u, v)).max() < 1e-3  # in the slice
    assert np.linalg.norm(offset, axis=1).max() < 10.6  # inside the contour
    assert np.abs(np.diff(path, axis=0)).max() < 1.01  # never jumps across
    assert len({tuple(p) for p in path}) == pytest.approx(np.pi * 100, rel=0.1)


def test_a_scribble_keeps_the_part_inside_the_scan(headless, scan):
    ijk = np.array([[-20.0, 25, 15], [10, 25, 15], [30, 25, 15]])
    node = curve(headless, "vtkMRMLMarkupsCurveNode", bridge.transformPoints(bridge.ijkToWorld(scan), ijk))
    points = np.array(scribblePrompt(scan, node, positive=True).points_ijk)
    assert points[:, 0].min() >= -0.5
    assert points[:, 0].max() == pytest.approx(30, abs=0.6)
    assert (points[:, 1:].round() == [25, 15]).all()


def test_the_image_key_changes_with_voxels_place_and_nothing_else(headless, scan):
    first = bridge.imageKey(scan)
    scan.SetName("renamed")
    assert bridge.imageKey(scan) == first
    scan.GetImageData().Modified()
    second = bridge.imageKey(scan)
    headless.addTransform(ROTATED, scan)
    assert len({first, second, bridge.imageKey(scan)}) == 3


def test_voxels_are_a_view_that_outlives_the_node(headless, scan):
    array = bridge.voxels(scan)
    assert array.shape == SHAPE
    total = int(array.sum())
    headless.scene.RemoveNode(scan)
    assert int(array.sum()) == total
    assert slicer.vtkMRMLScene is not None


@pytest.mark.parametrize(
    ("spacing", "note"), [(1.0, ""), (0.02, "0.02 x 0.02 x 0.02 mm"), (40.0, "40 x 40 x 40 mm"), (0.1001, "")]
)
def test_an_unusual_resolution_is_noted(headless, spacing, note):
    volume = headless.addVolume(np.zeros((4, 4, 4), np.int16), np.diag([spacing] * 3 + [1.0]))
    assert note in bridge.sizeNote(volume)
    assert bool(bridge.sizeNote(volume)) == bool(note)


def test_a_huge_scan_is_noted(headless, scan):
    image = vtk.vtkImageData()
    image.SetDimensions(1000, 1000, 700)  # no voxels behind it: only its size is looked at
    scan.SetAndObserveImageData(image)
    assert "0.7 billion voxels" in bridge.sizeNote(scan)
