"""What the views show: prompts in every slice view, the overlay and what was there before it, new segments."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk

from FastSAM3DCore import VoxelBox
from FastSAM3DCore.prompts import BoxPrompt
from FastSAM3DSlicerLib.PromptMarkups import placeRoi
from FastSAM3DSlicerLib.Uncertainty import OPACITY
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, matrixFromArray
from Testing.mrml.slow import finish

# -- a layout with other slice views -------------------------------------------------------------------


@pytest.fixture
def layout(controller):
    """The layout's views, as the controller asks for them; `add` makes one more."""
    shown = []

    def add(name):
        node = controller.scene.AddNewNodeByClass("vtkMRMLSliceNode")
        node.SetLayoutName(name)
        shown.append((vtk.vtkRenderWindowInteractor(), node))
        return shown[-1]

    controller._views = controller.tools._views = lambda: shown
    add("Green")
    controller.enter()
    controller.add = add
    return controller


def viewIds(node):
    display = node.GetDisplayNode()
    return [display.GetNthViewNodeID(n) for n in range(display.GetNumberOfViewNodeIDs())]


def test_prompts_of_every_kind_are_shown_in_views_that_came_later(layout):
    box = layout.sync.newBox()
    placeRoi(box, BoxPrompt(0, VoxelBox((15, 20, 10), (30, 32, 20))), ijkToWorld(layout.logic.volumeNode))
    layout.sync.commit(box)
    finish(layout)
    layout.click(25, 25, 15)
    finish(layout)
    drawing = layout.sync.newScribble(True)
    _, yellow = layout.add("Yellow")
    layout.layoutChanged()
    points = [layout.sync.pointsNode(sign) for sign in (True, False)]
    for node in (*points, *layout.sync.markups.shapes.values(), drawing):
        assert viewIds(node)[-1] == yellow.GetID(), node.GetName()
        assert len(viewIds(node)) == 2
    assert len(layout.sync.markups.shapes) == 1
    layout.leave()
    layout.add("Late")
    layout.layoutChanged()  # nobody is there to see it
    assert layout.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0


def draw(layout, interactor, sliceNode):
    """A square around the middle of the scan, with the mouse held down."""
    matrix = np.eye(4)
    toWorld = ijkToWorld(layout.logic.volumeNode)
    matrix[:3, :3] = toWorld[:3, :3] / np.linalg.norm(toWorld[:3, :3], axis=0)
    matrix[:3, 3] = layout.at(25, 25, 15)
    sliceNode.SetDimensions(100, 100, 1)
    sliceNode.SetFieldOfView(50, 50, 1)
    sliceNode.GetSliceToRAS().DeepCopy(matrixFromArray(matrix))
    sliceNode.UpdateMatrices()
    path = [(40, 40), (60, 40), (60, 60), (40, 60), (41, 59)]
    for event, places in (("LeftButtonPress", path[:1]), ("MouseMove", path), ("LeftButtonRelease", path[-1:])):
        for x, y in places:
            interactor.SetEventPosition(x, y)
            interactor.InvokeEvent(f"{event}Event")
    finish(layout)


@pytest.mark.parametrize("tool", ["box", "scribble", "lasso"])
def test_the_tool_in_hand_draws_in_views_that_came_later(layout, tool):
    layout.useTool(tool)
    finish(layout)
    late = layout.add("Yellow")
    draw(layout, *late)
    assert layout.logic.prompts == ()
    layout.layoutChanged()
    assert layout.tools.tool == tool
    draw(layout, *late)
    assert [prompt.kind for prompt in layout.logic.prompts] == [tool], layout.said[-1]
    layout.tools.use("")
    draw(layout, *late)
    assert len(layout.logic.prompts) == 1


def test_the_point_tool_stays_in_hand_and_other_modules_tools_are_left_alone(layout):
    interaction = layout.scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    layout.useTool("point")
    layout.toggleSign()
    layout.layoutChanged()
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    assert (layout.tools.tool, layout.tools.positive) == ("point", False)
    layout.tools.use("")
    interaction.SetCurrentInteractionMode(interaction.Place)  # a ruler, say
    layout.layoutChanged()
    assert interaction.GetCurrentInteractionMode() == interaction.Place


# -- the overlay, and what was there before ------------------------------------------------------------


@pytest.fixture
def fused(controller, headless):
    """A PET over the scan in one slice view, nothing in another; `foreground` tells what a view shows."""
    pet = headless.addVolume(np.zeros((5, 5, 5), np.int16), name="PET")
    composites = [controller.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode") for _ in range(2)]
    composites[0].SetForegroundVolumeID(pet.GetID())
    composites[0].SetForegroundOpacity(0.35)
    composites[1].SetForegroundOpacity(0.8)
    controller.click(25, 25, 15)
    finish(controller)
    controller.pet, controller.composites = pet, composites
    controller.foreground = lambda n: (composites[n].GetForegroundVolumeID(), composites[n].GetForegroundOpacity())
    return controller


def overlay(controller, on):
    controller.setOverlay(on)
    finish(controller)


def test_hiding_the_overlay_brings_the_users_foreground_and_opacity_back(fused):
    for _ in range(2):
        overlay(fused, True)
        assert fused.foreground(0) == fused.foreground(1) == (fused.overlay.node.GetID(), OPACITY)
        fused.click(30, 25, 15)  # drawn again
        finish(fused)
        overlay(fused, False)
        assert fused.foreground(0) == (fused.pet.GetID(), 0.35)
        assert fused.foreground(1) == (None, 0.8)


def test_a_foreground_that_is_gone_is_not_brought_back_but_its_opacity_is(fused):
    overlay(fused, True)
    fused.scene.RemoveNode(fused.pet)
    overlay(fused, False)
    assert fused.foreground(0) == (None, 0.35)


def test_a_foreground_chosen_while_the_overlay_was_on_stays(fused):
    overlay(fused, True)
    fused.composites[1].SetForegroundVolumeID(fused.pet.GetID())
    fused.composites[1].SetForegroundOpacity(0.2)
    fused.click(30, 25, 15)
    finish(fused)
    assert fused.foreground(1) == (fused.pet.GetID(), 0.2)
    overlay(fused, False)
    assert fused.foreground(1) == (fused.pet.GetID(), 0.2)


def test_a_slice_view_that_came_later_shows_the_overlay_as_well(fused):
    overlay(fused, True)
    late = fused.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    late.SetForegroundOpacity(0.1)
    fused.layoutChanged()
    assert late.GetForegroundVolumeID() == fused.overlay.node.GetID()
    overlay(fused, False)
    assert late.GetForegroundVolumeID() is None
    assert late.GetForegroundOpacity() == 0.1


# -- segmentations that were made without a display node ------------------------------------------------


def test_a_segmentation_from_a_node_selector_can_be_seen(controller):
    bare = controller.scene.AddNode(slicer.vtkMRMLSegmentationNode())
    assert bare.GetDisplayNode() is None
    segmentId = controller.nextSegment(bare)
    assert bare.GetDisplayNode().GetSegmentVisibility(segmentId)
    controller.click(25, 25, 15)
    finish(controller)
    assert "hidden" not in controller.said[-1]


def test_a_scripts_segmentation_can_be_seen_and_a_display_node_that_is_there_stays(controller, headless):
    bare = controller.scene.AddNode(slicer.vtkMRMLSegmentationNode())
    bare.GetSegmentation().AddEmptySegment("organ", "Organ")
    assert controller.select(controller.logic.volumeNode, bare, "organ")
    display = bare.GetDisplayNode()
    assert display.GetVisibility()
    display.SetOpacity(0.25)
    assert controller.nextSegment(bare)
    assert bare.GetNumberOfDisplayNodes() == 1
    assert bare.GetDisplayNode().GetOpacity() == 0.25
