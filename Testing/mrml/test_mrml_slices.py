"""Slice-by-slice work: changes stay in the slice, slabs, oblique planes, accepted slices."""

from __future__ import annotations

import numpy as np
import pytest

from FastSAM3DCore import VoxelBox
from FastSAM3DCore.errors import PromptError
from FastSAM3DSlicerLib import SliceLimit
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld
from Testing.mrml.conftest import SHAPE, whole

WHOLE = VoxelBox((0, 0, 0), SHAPE[::-1])


def sliceNode(logic, ijk, axis, tilt=0.0):
    """A slice view through a voxel, along a voxel axis, possibly tilted by an angle."""
    node = logic.scene.AddNewNodeByClass("vtkMRMLSliceNode")
    toWorld = ijkToWorld(logic.volumeNode)
    axes = toWorld[:3, :3] / np.linalg.norm(toWorld[:3, :3], axis=0)
    normal, u = axes[:, axis], axes[:, (axis + 1) % 3]
    normal = np.cos(tilt) * normal + np.sin(tilt) * u
    across = np.cross(normal, u if abs(normal @ u) < 0.9 else axes[:, (axis + 2) % 3])
    along = np.cross(across, normal)
    p = toWorld[:3, :3] @ ijk + toWorld[:3, 3]
    node.SetSliceToRASByNTP(*normal, *(along / np.linalg.norm(along)), *p, 0)
    return node


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("between", [-0.4, 0.0, 0.4])
def test_a_slice_view_names_one_slice_of_the_scan(logic, axis, between):
    ijk = np.array([21.0, 24.0, 13.0])
    ijk[axis] += between
    limit = SliceLimit.fromSliceNode(sliceNode(logic, ijk, axis), logic.volumeNode)
    inside = np.nonzero(limit.inside(WHOLE))[2 - axis]
    assert set(inside.tolist()) == {[21, 24, 13][axis]}
    assert limit.axis == axis
    assert limit.index(WHOLE.shape_ijk) == [21, 24, 13][axis]
    assert limit.bounds(WHOLE).contains([21, 24, 13])
    assert limit.bounds(WHOLE).shape_ijk[axis] <= 3


def test_a_slab_takes_the_slices_within_its_thickness(logic):
    spacing = np.linalg.norm(ijkToWorld(logic.volumeNode)[:3, 2])
    limit = SliceLimit.fromSliceNode(sliceNode(logic, [20, 20, 13], 2), logic.volumeNode, slabMm=4.2 * spacing)
    assert set(np.nonzero(limit.inside(WHOLE))[0].tolist()) == {11, 12, 13, 14, 15}


@pytest.mark.parametrize("tilt", [0.0, 0.35, 0.8])
def test_the_bounds_of_a_slab_hold_all_its_voxels(logic, tilt):
    limit = SliceLimit.fromSliceNode(sliceNode(logic, [30, 25, 15], 2, tilt), logic.volumeNode)
    inside = limit.inside(WHOLE)
    outside = inside.copy()
    outside[limit.bounds(WHOLE).slices_kji] = False
    assert inside.sum() > 0.8 * min(SHAPE[1] * SHAPE[2], SHAPE[0] * SHAPE[1])
    assert not outside.any()


def test_prompts_change_the_current_slice_only_and_the_next_slice_gets_the_proposal(logic, at):
    logic.rules.limit = SliceLimit.fromSliceNode(sliceNode(logic, [20, 25, 15], 2), logic.volumeNode)
    logic.addPoint(at(20, 25, 15))
    assert set(np.nonzero(whole(logic))[0].tolist()) == {15}
    assert np.array_equal(whole(logic)[15], logic.link.session.mask()[15])
    logic.rules.limit = SliceLimit.fromSliceNode(sliceNode(logic, [20, 25, 17], 2), logic.volumeNode)
    logic.fillSlice()
    assert set(np.nonzero(whole(logic))[0].tolist()) == {15, 17}
    assert np.array_equal(whole(logic)[17], logic.link.session.mask()[17])
    logic.undo()
    assert set(np.nonzero(whole(logic))[0].tolist()) == {15}
    assert len(logic.prompts) == 1
    logic.addPoint(at(28, 25, 17))
    assert np.array_equal(whole(logic)[17], logic.link.session.mask()[17])
    logic.undo()
    logic.undo()
    assert whole(logic).sum() == 0


def test_a_hand_edit_in_slice_mode_keeps_the_proposals_for_other_slices(logic, at):
    from Testing.mrml.conftest import setWhole

    logic.rules.limit = SliceLimit.fromSliceNode(sliceNode(logic, [20, 25, 15], 2), logic.volumeNode)
    logic.addPoint(at(20, 25, 15))
    edited = whole(logic)
    edited[15, 40:44, 40:44] = 1
    setWhole(logic, logic.active.segmentId, edited)
    logic.addPoint(at(24, 25, 15))
    assert whole(logic)[15, 40:44, 40:44].all()
    assert logic.link.session.mask()[16, 25, 20]
    assert set(np.nonzero(whole(logic))[0].tolist()) == {15}


def test_an_accepted_slice_never_changes_again(logic, at):
    logic.addPoint(at(20, 25, 15))
    logic.rules.accepted.append(SliceLimit.fromSliceNode(sliceNode(logic, [20, 25, 15], 2), logic.volumeNode))
    before = whole(logic)
    logic.addPoint(at(28, 25, 15))
    logic.addPoint(at(20, 25, 15), positive=False)
    after = whole(logic)
    assert np.array_equal(after[15], before[15])
    assert not np.array_equal(after[14], before[14])


def test_filling_a_slice_needs_slice_mode(logic, at):
    logic.addPoint(at(20, 25, 15))
    with pytest.raises(PromptError, match="Slice mode is off"):
        logic.fillSlice()
