"""Overlap policy, locks and Segment Editor masks: the same voxels as Slicer's own editor logic changes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import slicer

from FastSAM3DCore.errors import PromptError
from FastSAM3DSlicerLib import KEEP, OVERLAP, OVERWRITE, setLocked
from FastSAM3DSlicerLib.EditMask import EDITOR
from FastSAM3DSlicerLib.SegmentImage import BINARY
from Testing.mrml.conftest import SHAPE, addOther, whole

N, E = slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLSegmentEditorNode


@pytest.fixture
def neighbours(logic):
    """Three others: two on one layer beside the click, one on a layer of its own over it."""
    masks = [np.zeros(SHAPE, np.uint8) for _ in range(3)]
    masks[0][10:20, 20:30, 22:30] = 1
    masks[1][10:20, 30:40, 10:20] = 1
    masks[2][12:15, 20:34, 12:26] = 1
    return {addOther(logic, mask, f"N{n}"): mask for n, mask in enumerate(masks)}


def test_overwrite_takes_voxels_from_every_neighbour(logic, at, neighbours):
    logic.rules.policy = OVERWRITE
    logic.addPoint(at(20, 27, 15))
    mine = whole(logic)
    assert np.array_equal(mine, logic.link.session.mask())
    for segmentId, mask in neighbours.items():
        assert np.array_equal(whole(logic, segmentId), mask & ~mine & 1)


def test_keep_existing_leaves_neighbours_and_fills_around_them(logic, at, neighbours):
    logic.rules.policy = KEEP
    logic.addPoint(at(20, 27, 15))
    union = np.maximum.reduce(list(neighbours.values()))
    assert np.array_equal(whole(logic), logic.link.session.mask() & ~union & 1)
    for segmentId, mask in neighbours.items():
        assert np.array_equal(whole(logic, segmentId), mask)


def test_allow_overlap_leaves_neighbours_and_fills_over_them(logic, at, neighbours):
    logic.rules.policy = OVERLAP
    images = {id: logic.active.image(id).image for id in neighbours}
    bytesBefore = {id: logic.active.image(id).labels().tobytes() for id in neighbours}
    logic.addPoint(at(20, 27, 15))
    assert np.array_equal(whole(logic), logic.link.session.mask())
    for segmentId, mask in neighbours.items():
        assert np.array_equal(whole(logic, segmentId), mask)
        assert logic.active.image(segmentId).image is images[segmentId]
        assert logic.active.image(segmentId).labels().tobytes() == bytesBefore[segmentId]


@pytest.mark.parametrize("policy", [OVERWRITE, KEEP, OVERLAP])
def test_a_locked_neighbour_never_changes(logic, at, neighbours, policy):
    logic.rules.policy = policy
    locked, mask = next(iter(neighbours.items()))
    setLocked(logic.active.node.GetSegmentation().GetSegment(locked), True)
    logic.addPoint(at(20, 27, 15))
    assert np.array_equal(whole(logic, locked), mask)
    assert not (whole(logic) & mask).any()


def test_a_locked_segment_refuses_prompts_and_undo_stays_as_it_was(logic, at):
    logic.addPoint(at(20, 27, 15))
    before = whole(logic)
    setLocked(logic.active.segment, True)
    for prompt in (lambda: logic.addPoint(at(30, 27, 15)), logic.undo, logic.reset):
        with pytest.raises(PromptError, match="Liver is locked"):
            prompt()
    assert np.array_equal(whole(logic), before)
    setLocked(logic.active.segment, False)
    logic.undo()
    assert whole(logic).sum() == 0


MODES = {
    "everywhere": N.EditAllowedEverywhere,
    "inside all": N.EditAllowedInsideAllSegments,
    "inside visible": N.EditAllowedInsideVisibleSegments,
    "outside all": N.EditAllowedOutsideAllSegments,
    "outside visible": N.EditAllowedOutsideVisibleSegments,
    "inside one": N.EditAllowedInsideSingleSegment,
}
OVERWRITES = {"all": E.OverwriteAllSegments, "visible": E.OverwriteVisibleSegments, "none": E.OverwriteNone}


@pytest.mark.parametrize(("mode", "overwrite"), list(itertools.product(MODES, OVERWRITES)))
@pytest.mark.parametrize("intensity", [False, True])
def test_masks_give_the_same_voxels_as_slicers_editor_logic(logic, at, neighbours, mode, overwrite, intensity):
    ids = list(neighbours)
    display = logic.active.node.GetDisplayNode()
    display.SetSegmentVisibility(ids[1], False)
    editor = slicer.vtkMRMLSegmentEditorNode()
    logic.scene.AddNode(editor)
    editor.SetAndObserveSegmentationNode(logic.active.node)
    editor.SetAndObserveSourceVolumeNode(logic.volumeNode)
    editor.SetSelectedSegmentID(logic.active.segmentId)
    editor.SetMaskMode(MODES[mode])
    editor.SetMaskSegmentID(ids[2])
    editor.SetOverwriteMode(OVERWRITES[overwrite])
    editor.SetSourceVolumeIntensityMask(intensity)
    editor.SetSourceVolumeIntensityMaskRange(20, 70)

    logic.rules.editorNode, logic.rules.policy = editor, EDITOR
    logic.addPoint(at(20, 27, 15))
    ours = [whole(logic), *(whole(logic, segmentId) for segmentId in ids)]
    wanted = logic.link.session.mask()
    logic.undo()
    assert whole(logic).sum() == 0

    reference = slicer.vtkSlicerSegmentEditorLogic()
    reference.SetMRMLScene(logic.scene)
    reference.SetSegmentEditorNode(editor)
    reference.UpdateReferenceGeometryImage()
    reference.UpdateAlignedSourceVolume()
    reference.UpdateMaskLabelmap()
    from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, matrixFromArray
    from Testing.mrml.scene import imageOf

    modifier = slicer.vtkOrientedImageData()
    modifier.DeepCopy(imageOf(wanted))
    modifier.SetGeometryFromImageToWorldMatrix(matrixFromArray(ijkToWorld(logic.volumeNode)))
    reference.ModifySegmentByLabelmap(
        logic.active.node, logic.active.segmentId, modifier, reference.ModificationModeAdd, True, False
    )
    theirs = [whole(logic), *(whole(logic, segmentId) for segmentId in ids)]
    for our, their in zip(ours, theirs, strict=True):
        assert np.array_equal(our, their)


def test_a_hidden_segment_sharing_the_layer_survives_growth_over_it(logic, at):
    """A new segment shares its layer with others; the active one grows across them."""
    block = np.zeros(SHAPE, np.uint8)
    block[14:17, 24:31, 24:31] = 1
    hidden = addOther(logic, block, "Hidden")
    logic.active.node.GetDisplayNode().SetSegmentVisibility(hidden, False)
    logic.active.node.GetSegmentation().CollapseBinaryLabelmaps(False)
    logic.rules.policy = OVERLAP
    for n in range(5):
        logic.addPoint(at(15 + 4 * n, 27, 15))
    assert np.array_equal(whole(logic, hidden), block)
    assert (whole(logic) & block).sum() == block.sum()
    assert logic.active.segment.GetRepresentation(BINARY) is not logic.active.node.GetSegmentation().GetSegment(
        hidden
    ).GetRepresentation(BINARY)
