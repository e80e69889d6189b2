"""Which slice is meant: the one under the mouse pointer, or the last one that was, as it was when the user clicked."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from FastSAM3DSlicerLib.SlicePointer import SlicePointer
from FastSAM3DSlicerLib.SliceReview import acceptedSlices
from FastSAM3DSlicerLib.VolumeBridge import arrayFromMatrix, ijkToWorld, matrixFromArray
from Testing.mrml.conftest import whole
from Testing.mrml.slow import finish


@pytest.fixture
def views(controller):
    """Two slice views along the scan's slices; Red comes first in the scene."""
    scene = controller.scene
    crosshair = scene.AddNode(slicer.vtkMRMLCrosshairNode())
    controller.enter()
    green = scene.AddNewNodeByClass("vtkMRMLSliceNode")
    green.SetLayoutName("Green")
    nodes = {"Red": scene.GetFirstNodeByClass("vtkMRMLSliceNode"), "Green": green}
    toWorld = ijkToWorld(controller.logic.volumeNode)

    class Views:
        def show(self, name, k):
            """Step a view to slice `k` of the scan."""
            matrix = np.eye(4)
            matrix[:3, :3] = toWorld[:3, :3] / np.linalg.norm(toWorld[:3, :3], axis=0)
            matrix[:3, 3] = controller.at(25, 25, k)
            nodes[name].GetSliceToRAS().DeepCopy(matrixFromArray(matrix))
            nodes[name].UpdateMatrices()

        def shown(self, name):
            origin = arrayFromMatrix(nodes[name].GetSliceToRAS())[:, 3]
            return round(float((np.linalg.inv(toWorld) @ origin)[2]))

        def over(self, name):
            """The mouse pointer moves in a view, or leaves the views."""
            if name:
                crosshair.SetCursorPositionXYZ([10.0, 10.0, 0.0], nodes[name])
            else:
                crosshair.SetCursorPositionInvalid()

    made = Views()
    made.nodes, made.crosshair = nodes, crosshair
    made.show("Red", 5)
    made.show("Green", 15)
    return made


def slices(controller):
    return sorted(set(np.nonzero(whole(controller.logic))[0].tolist()))


def test_buttons_outside_the_views_act_on_the_view_the_pointer_was_in_last(controller, views):
    controller.setSliceMode(True)
    views.over("Green")
    controller.click(25, 25, 15)
    finish(controller)
    assert slices(controller) == [15]
    views.over("")  # to the panel
    controller.acceptSlice()
    finish(controller)
    assert [abs(round(s.plane[3] / s.plane[2])) for s in acceptedSlices(controller.logic.active.segment)] == [15]
    assert views.shown("Red") == 5
    next_ = views.shown("Green")
    assert next_ != 15
    controller.fillSlice()
    finish(controller)
    assert slices(controller) == sorted({15, next_})
    controller.goToUncertain()
    finish(controller)
    assert views.shown("Red") == 5


def test_a_view_that_left_the_scene_is_forgotten(controller, views):
    views.over("Green")
    views.over("")
    assert controller.pointer.node is views.nodes["Green"]
    controller.scene.RemoveNode(views.nodes["Green"])
    assert controller.pointer.node is views.nodes["Red"]
    controller.scene.RemoveNode(views.nodes["Red"])
    assert controller.pointer.node is None


def test_before_the_pointer_was_in_any_view_the_first_one_counts(headless):
    pointer = SlicePointer(headless.scene)
    pointer.follow()  # a scene without a crosshair
    assert pointer.node is None
    node = headless.scene.AddNewNodeByClass("vtkMRMLSliceNode")
    assert pointer.node is node
    pointer.close()


def test_the_pointer_is_watched_only_while_the_panel_is_open(controller, views):
    event = views.crosshair.CursorPositionModifiedEvent
    assert views.crosshair.HasObserver(event)
    controller.enter()
    controller.leave()
    assert not views.crosshair.HasObserver(event)
    views.over("Green")
    assert controller.pointer.node is views.nodes["Red"]
    controller.enter()
    assert controller.pointer.node is views.nodes["Green"]


def test_a_prompt_that_waited_changes_the_slice_it_was_given_in(controller, views, session):
    controller.setSliceMode(True)
    views.over("Green")
    session.gate.clear()
    controller.click(25, 25, 15)
    views.show("Green", 17)
    controller.click(25, 25, 17)  # waits
    views.show("Green", 20)
    views.over("Red")
    session.gate.set()
    finish(controller)
    assert slices(controller) == [15, 17]


def test_the_running_prompts_slice_stays_although_another_one_is_accepted_meanwhile(controller, views, session):
    controller.setSliceMode(True)
    views.over("Green")
    controller.click(25, 25, 15)
    finish(controller)
    before = whole(controller.logic)
    session.gate.clear()
    controller.click(30, 25, 15)
    views.show("Green", 17)
    assert controller.review.accept()
    session.gate.set()
    finish(controller)
    assert slices(controller) == [15]
    assert not np.array_equal(whole(controller.logic), before)


def test_slice_mode_that_was_switched_off_after_the_click_still_limits_it(controller, views, session):
    controller.setSliceMode(True)
    views.over("Green")
    session.gate.clear()
    controller.click(20, 25, 15)
    controller.click(30, 25, 15)
    controller.setSliceMode(False)
    session.gate.set()
    finish(controller)
    assert slices(controller) == [15]
