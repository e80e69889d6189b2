"""A mouse in a real slice view: what it draws is segmented, is seen, and goes away with undo."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from FastSAM3DSlicerLib import OVERLAP
from FastSAM3DSlicerLib.StrokeDrawer import StrokeDrawer
from Testing.views.rendering import ORIENTATIONS, reddish


@pytest.mark.parametrize("tag", list(ORIENTATIONS))
def test_a_click_in_a_slice_view_paints_red_and_undo_takes_it_away(case, tag):
    views, target = case.views, case.at(40, 45, 30)
    assert reddish(views.grab(tag)) == 0
    views.place(case.sync.pointsNode(True))
    views.click(tag, *views.pixel(tag, target))
    assert len(case.logic.prompts) == 1
    assert case.at(*case.logic.prompts[0].point_ijk) == pytest.approx(target, abs=0.6)
    painted = reddish(views.grab(tag))
    assert painted > 500
    case.logic.undo()
    case.sync.mirror()
    assert reddish(views.grab(tag)) == 0
    case.logic.redo()
    case.sync.mirror()
    assert reddish(views.grab(tag)) == painted


def test_a_negative_click_takes_red_away(case):
    views = case.views
    views.place(case.sync.pointsNode(True))
    views.click("Red", *views.pixel("Red", case.at(40, 45, 30)))
    before = reddish(views.grab("Red"))
    views.place(case.sync.pointsNode(False))
    views.click("Red", *views.pixel("Red", case.at(47, 45, 30)))
    assert [p.positive for p in case.logic.prompts] == [True, False]
    views.stopPlacing()
    case.sync.markups.pointsNode(False).GetDisplayNode().SetVisibility(False)  # its marker is red as well
    assert reddish(views.grab("Red")) < before
    case.sync.markups.pointsNode(False).GetDisplayNode().SetVisibility(True)


def test_in_an_oblique_reformat_a_click_lands_where_it_is_seen(case):
    views, target = case.views, case.at(44, 40, 33)
    node = views.sliceNode("Red")
    normal = np.array([0.3, 0.4, 0.866])
    node.SetSliceToRASByNTP(*(normal / np.linalg.norm(normal)), 1, 0, 0, *target, 0)
    views.place(case.sync.pointsNode(True))
    views.click("Red", *views.pixel("Red", target))
    views.stopPlacing()
    assert case.logic.prompts[0].point_ijk == pytest.approx((44, 40, 33), abs=0.6)
    assert reddish(views.grab("Red")) > 500
    node.SetOrientationToAxial()


def test_a_click_beside_the_scan_changes_nothing_and_says_so(case):
    views = case.views
    views.place(case.sync.pointsNode(True))
    views.click("Red", 3, 3)
    assert case.logic.prompts == ()
    assert case.sync.pointsNode(True).GetNumberOfDefinedControlPoints() == 0
    assert "outside Scan" in case.said[-1]
    assert reddish(views.grab("Red")) == 0


def test_a_click_in_the_3d_view_changes_nothing(case):
    views = case.views
    case.sync.limitToSliceViews([views.sliceNode(tag) for tag in ORIENTATIONS])
    views.place(case.sync.pointsNode(True))
    views.click("ThreeD", 200, 200)
    assert case.logic.prompts == ()
    assert reddish(views.grab("Red")) == 0


@pytest.fixture
def drawer(case):
    made = []

    def start(kind, positive=True):
        new = {
            "scribble": lambda: case.sync.newScribble(positive),
            "lasso": lambda: case.sync.newLasso(positive),
            "box": case.sync.newBox,
        }[kind]
        drawer = StrokeDrawer(new, case.sync.commit, case.sync.cancel)
        for tag in ORIENTATIONS:
            drawer.attach(case.views.interactor(tag), case.views.sliceNode(tag))
        made.append(drawer)
        return drawer

    yield start
    for each in made:
        each.detach()


@pytest.mark.parametrize("tag", list(ORIENTATIONS))
def test_a_drawn_scribble_paints_along_its_stroke(case, drawer, tag):
    drawer("scribble")
    views = case.views
    x, y = views.pixel(tag, case.at(40, 45, 30))
    views.drag(tag, [(x - 60 + 6 * n, y) for n in range(21)])
    (prompt,) = case.logic.prompts
    assert prompt.kind == "scribble"
    assert prompt.positive
    middle = views.world(tag, (x, y))
    distance = min(np.linalg.norm(case.at(*p) - middle) for p in prompt.points_ijk)
    assert distance < 2.5
    assert reddish(views.grab(tag)) > 300
    case.logic.undo()
    case.sync.mirror()
    assert reddish(views.grab(tag)) == 0
    assert case.views.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsCurveNode") == 0


@pytest.mark.parametrize("tag", list(ORIENTATIONS))
def test_a_drawn_lasso_fills_its_inside(case, drawer, tag):
    drawer("lasso")
    views = case.views
    x, y = views.pixel(tag, case.at(40, 45, 30))
    ring = [(x + round(40 * np.cos(t)), y + round(40 * np.sin(t))) for t in np.linspace(0, 6.1, 40)]
    views.drag(tag, ring)
    (prompt,) = case.logic.prompts
    assert prompt.kind in ("lasso", "scribble")  # a scribble where the scan's 8 degrees make the slice oblique
    picture = views.grab(tag)
    assert reddish(picture[y - 20 : y + 20, x - 20 : x + 20]) > 0.7 * 40 * 40
    case.logic.undo()
    case.sync.mirror()
    assert reddish(views.grab(tag)) == 0


def test_a_dragged_rectangle_is_a_box_of_one_slice_that_can_be_made_thicker(case, drawer):
    drawer("box")
    views = case.views
    x, y = views.pixel("Red", case.at(40, 45, 30))
    views.drag("Red", [(x - 50, y - 40), (x, y), (x + 50, y + 40)])
    (prompt,) = case.logic.prompts
    assert prompt.thin_axes == (2,)
    assert prompt.box.lower[2] == 30
    assert reddish(views.grab("Red")) > 60 * 60
    roi = case.sync.markups.shapes[prompt.id]
    size = np.zeros(3)
    roi.GetSizeWorld(size)
    roi.SetSize(size[0], size[1], 31.5)
    roi.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent)
    assert case.logic.prompts[0].box.shape_ijk[2] == 21


def test_a_twitch_of_the_hand_is_no_stroke(case, drawer):
    drawer("lasso")
    x, y = case.views.pixel("Red", case.at(40, 45, 30))
    case.views.drag("Red", [(x, y), (x + 1, y)])
    assert case.logic.prompts == ()
    assert case.views.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsClosedCurveNode") == 0


def test_drawing_does_not_move_the_view_and_shift_leaves_slicers_gestures_alone(case, drawer):
    drawer("scribble")
    views = case.views
    before = [views.sliceNode("Red").GetXYToRAS().GetElement(r, c) for r in range(4) for c in range(4)]
    x, y = views.pixel("Red", case.at(40, 45, 30))
    views.drag("Red", [(x - 30, y), (x, y), (x + 30, y)])
    after = [views.sliceNode("Red").GetXYToRAS().GetElement(r, c) for r in range(4) for c in range(4)]
    assert before == after
    views.interactor("Red").SetShiftKey(1)
    views.drag("Red", [(x - 30, y + 20), (x, y + 20), (x + 30, y + 20)])
    views.interactor("Red").SetShiftKey(0)
    assert len(case.logic.prompts) == 1


def test_dragging_a_marker_with_the_mouse_runs_the_prompt_again(case):
    views = case.views
    start, end = case.at(40, 45, 30), case.at(52, 45, 30)
    views.place(case.sync.pointsNode(True))
    views.click("Red", *views.pixel("Red", start))
    views.stopPlacing()
    x0, y0 = views.pixel("Red", start)
    x1, y1 = views.pixel("Red", end)
    views.move("Red", x0, y0)
    views.views["Red"].render()
    views.move("Red", x0, y0)
    views.drag("Red", [(x0, y0), ((x0 + x1) // 2, (y0 + y1) // 2), (x1, y1)])
    assert case.logic.prompts[0].point_ijk == pytest.approx((52, 45, 30), abs=1.0)


def test_the_image_key_survives_rendering(case):
    from FastSAM3DSlicerLib.VolumeBridge import imageKey

    key = imageKey(case.volume)
    for tag in ORIENTATIONS:
        case.views.grab(tag)
    assert imageKey(case.volume) == key


def test_two_segments_that_overlap_are_both_seen(case):
    case.logic.rules.policy = OVERLAP
    case.logic.addPoint(case.at(36, 45, 30))
    first = reddish(case.views.grab("Red"))
    case.logic.addSegment(case.logic.active.node, "Second")
    case.logic.active.segment.SetColor(0.0, 0.0, 1.0)
    case.logic.addPoint(case.at(52, 45, 30))
    picture = case.views.grab("Red").astype(int)
    assert ((picture[..., 2] - picture[..., 1]) > 25).sum() > 500
    assert reddish(case.views.grab("Red")) > 0.5 * first


def test_an_roi_placed_with_two_clicks_becomes_a_box_when_placement_ends(case):
    views = case.views
    x, y = views.pixel("Red", case.at(40, 45, 30))
    views.place(case.sync.newBox(), persistent=False)
    views.click("Red", x - 40, y - 30)
    assert case.logic.prompts == ()
    views.move("Red", x, y)
    views.click("Red", x + 40, y + 30)
    (prompt,) = case.logic.prompts
    assert prompt.kind == "box"
    assert prompt.box.contains((40, 45, 30))
    assert reddish(views.grab("Red")) > 40 * 30


def test_a_curve_placed_point_by_point_becomes_a_scribble_when_placement_ends(case):
    views = case.views
    x, y = views.pixel("Red", case.at(40, 45, 30))
    views.place(case.sync.newScribble(True), persistent=False)
    for step in (-40, 0, 40):
        views.click("Red", x + step, y)
    assert case.logic.prompts == ()
    views.stopPlacing()
    (prompt,) = case.logic.prompts
    assert prompt.kind == "scribble"
    assert reddish(views.grab("Red")) > 200


def test_an_roi_handle_dragged_with_the_mouse_runs_the_box_again(case):
    from FastSAM3DCore import VoxelBox
    from FastSAM3DCore.prompts import BoxPrompt
    from FastSAM3DSlicerLib.PromptMarkups import placeRoi
    from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld

    views = case.views
    drawing = case.sync.newBox()
    placeRoi(drawing, BoxPrompt(0, VoxelBox((30, 35, 25), (50, 55, 36))), ijkToWorld(case.volume))
    case.sync.commit(drawing)
    before = case.logic.prompts[0].box
    roi = next(iter(case.sync.markups.shapes.values()))
    views.grab("Red")
    x0, y0 = views.pixel("Red", case.at(49.5, 45, 30))
    x1, y1 = views.pixel("Red", case.at(60, 45, 30))
    views.move("Red", x0, y0)
    views.views["Red"].render()
    views.move("Red", x0, y0)
    views.drag("Red", [(x0, y0), ((x0 + x1) // 2, (y0 + y1) // 2), (x1, y1)])
    assert roi.GetDisplayNode().GetHandlesInteractive()
    assert case.logic.prompts[0].box != before


def test_the_uncertainty_overlay_colours_the_rim_and_goes_away(case):
    from FastSAM3DSlicerLib.Uncertainty import UncertaintyOverlay

    views = case.views
    case.logic.wantProbability = True
    case.logic.addPoint(case.at(40, 45, 30))
    case.logic.active.node.GetDisplayNode().SetVisibility(False)
    coloured = lambda: int((np.ptp(views.grab("Red").astype(int), axis=-1) > 40).sum())  # noqa: E731
    assert coloured() == 0
    overlay = UncertaintyOverlay(views.scene)
    overlay.show(case.volume, case.logic.probability)
    rim = coloured()
    assert rim > 300
    x, y = views.pixel("Red", case.at(40, 45, 30))
    picture = views.grab("Red").astype(int)
    assert np.ptp(picture[y, x]) < 40  # certain in the middle: the scan shows through
    overlay.hide()
    assert coloured() == 0


def test_slice_mode_changes_the_slice_that_is_shown_and_no_other(case):
    from FastSAM3DSlicerLib import SliceLimit
    from FastSAM3DSlicerLib.SlicePointer import SlicePointer

    views, target = case.views, case.at(40, 45, 30)
    x, y = views.pixel("Red", target)
    pointer = SlicePointer(views.scene)
    pointer.follow()
    for tag in ("Green", "Red"):
        views.move(tag, x, y)
        assert pointer.node is views.sliceNode(tag)  # the one under the mouse
        views.leave(tag)
        assert views.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode").GetCursorPositionXYZ([0, 0, 0]) is None
        assert pointer.node is views.sliceNode(tag)  # the last one that was
    pointer.close()
    node = views.sliceNode("Red")
    case.logic.rules.limit = SliceLimit.fromSliceNode(node, case.volume)
    views.place(case.sync.pointsNode(True))
    views.click("Red", x, y)
    views.stopPlacing()
    assert reddish(views.grab("Red")) > 500
    node.JumpSliceByOffsetting(*case.at(40, 45, 32))
    assert reddish(views.grab("Red")) == 0
    case.logic.rules.limit = None
