"""The panel's Refine and Statistics sections: threshold, uncertainty, slice by slice, reference."""

from __future__ import annotations

import numpy as np
import pytest

from FastSAM3DSlicerLib.SliceReview import acceptedSlices
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, matrixFromArray, voxels
from Testing.mrml.conftest import setWhole, whole
from Testing.slicer.steps import at, place


@pytest.fixture
def axial(ready):
    """A slice view along the scan's own axes through slice 15; `shown()` tells which slice it shows."""
    node = ready.scene.GetFirstNodeByClass("vtkMRMLSliceNode") or ready.scene.AddNewNodeByClass("vtkMRMLSliceNode")
    node.SetLayoutName("Red")
    toWorld = ijkToWorld(ready.scan)

    def show(k):
        matrix = np.eye(4)
        matrix[:3, :3] = toWorld[:3, :3] / np.linalg.norm(toWorld[:3, :3], axis=0)
        matrix[:3, 3] = at(ready, 25, 25, k)
        node.GetSliceToRAS().DeepCopy(matrixFromArray(matrix))
        node.UpdateMatrices()

    def shown():
        origin = [node.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
        return round(float((np.linalg.inv(toWorld) @ [*origin, 1])[2]))

    show(15)
    ready.show, ready.shown = show, shown
    return ready


def slices(panel):
    return sorted(set(np.nonzero(whole(panel.logic))[0].tolist()))


def test_the_button_goes_to_the_slice_where_the_engine_is_least_sure(axial):
    axial.ui.uncertainButton.click()
    axial.settle()
    assert axial.ui.statusLabel.text in ("Nothing to look at yet; give a prompt first.", "No slice needs a look.")
    place(axial, 25, 25, 9)
    axial.show(28)
    axial.ui.uncertainButton.click()
    axial.settle()
    p = axial.installer.sessions[0].probability()
    doubt = (4 * p * (1 - p)).sum(axis=(1, 2))
    # The engine is asked only where something was written.
    reach = axial.logic.link.reach
    expected = reach.lower[2] + int((4 * p[reach.slices_kji] * (1 - p[reach.slices_kji])).sum(axis=(1, 2)).argmax())
    assert axial.shown() == expected
    assert doubt[axial.shown()] > doubt[28]
    assert axial.ui.statusLabel.text.startswith(f"Slice {expected + 1}:")


def test_slice_mode_limits_prompts_and_says_so(axial):
    axial.ui.sliceModeCheck.click()
    axial.ui.pointButton.click()
    axial.ui.pointButton.click()
    assert "(this slice only)" in axial.ui.statusLabel.text
    place(axial, 25, 25, 15)
    assert slices(axial) == [15]
    axial.ui.sliceModeCheck.click()
    place(axial, 27, 25, 15)
    assert len(slices(axial)) > 5


def test_the_slab_takes_the_slices_within_its_thickness(axial):
    spacing = np.linalg.norm(ijkToWorld(axial.scan)[:3, 2])
    axial.ui.sliceModeCheck.click()
    axial.ui.slabSpin.setValue(4.2 * spacing)
    axial.settle()
    assert axial.parameters().slabMm == pytest.approx(4.2 * spacing, abs=0.01)
    place(axial, 25, 25, 15)
    assert slices(axial) == [13, 14, 15, 16, 17]


def test_fill_accept_and_release_work_through_a_structure_slice_by_slice(axial):
    axial.ui.sliceModeCheck.click()
    place(axial, 25, 25, 15)
    seen = [15]
    for _ in range(2):
        axial.ui.acceptButton.click()
        axial.settle()
        assert axial.shown() not in seen
        seen.append(axial.shown())
        axial.ui.fillButton.click()
        axial.settle()
        assert slices(axial) == sorted(seen)
    accepted = whole(axial.logic)[15]
    axial.show(15)
    place(axial, 30, 25, 15)
    assert np.array_equal(whole(axial.logic)[15], accepted)
    axial.ui.releaseButton.click()
    assert acceptedSlices(axial.logic.active.segment) == []
    place(axial, 31, 25, 15)
    assert whole(axial.logic)[15].sum() > accepted.sum()


def test_the_overlay_shows_the_engines_doubt_and_follows_the_prompts(ready):
    place(ready, 20, 25, 15)
    ready.ui.uncertaintyCheck.click()
    ready.settle()
    for _ in range(2):
        p = ready.installer.sessions[0].probability()
        box = ready.logic.link.reach
        expected = (4 * p * (1 - p) * 100)[box.slices_kji]
        assert np.abs(voxels(ready.controller.overlay.node)[box.slices_kji] - expected).max() <= 0.51
        place(ready, 40, 25, 15)


def test_dice_follows_the_chosen_reference_segment(ready):
    place(ready, 20, 25, 15)
    reference = ready.harness.headless.addSegmentation(ready.scan, "Truth")
    mask = whole(ready.logic)
    shifted = np.roll(mask, 3, axis=2)
    mine, ready.logic.active.node = ready.logic.active.node, reference
    for name, content in (("Same", mask), ("Shifted", shifted)):
        setWhole(ready.logic, reference.GetSegmentation().AddEmptySegment(name, name), content)
    ready.logic.active.node = mine
    ready.ui.referenceSelector.setCurrentNode(reference)
    ready.settle()
    assert ready.parameters().reference is reference
    combo = ready.ui.referenceSegmentCombo
    assert [combo.itemText(n) for n in range(combo.count)] == ["Same", "Shifted"]
    assert ready.ui.diceLabel.text == "1.000"
    combo.setCurrentIndex(1)
    ready.settle()
    expected = 2 * (mask & shifted).sum() / (mask.sum() + shifted.sum())
    assert float(ready.ui.diceLabel.text) == pytest.approx(expected, abs=5e-4)
    ready.scene.RemoveNode(reference)
    place(ready, 26, 25, 15)
    assert ready.ui.diceLabel.text == "-"


def test_the_volume_label_is_the_segments_size(ready):
    place(ready, 20, 25, 15)
    voxel = abs(np.linalg.det(ijkToWorld(ready.scan)[:3, :3]))
    assert ready.ui.volumeLabel.text == f"{whole(ready.logic).sum() * voxel / 1000:.2f} ml"
