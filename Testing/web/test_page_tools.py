"""Every tool of the page, used with the mouse in a real browser; masks are checked in the downloaded file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from Testing.web.driver import AppPage
from Testing.web.phantom import Phantom, dice


def test_a_click_in_a_slice_segments_the_structure_and_shows_it(fresh: AppPage, phantom: Phantom, out: Path) -> None:
    before = fresh.tinted("Red")
    fresh.click("Red", phantom.balls[0].center_ras)
    assert fresh.tinted("Red") > before + 1500
    assert dice(fresh.labels(out) == 1, phantom.label(0)) > 0.95


def test_the_other_slices_and_the_3d_view_follow_the_click(fresh: AppPage, phantom: Phantom) -> None:
    fresh.click("Red", phantom.balls[1].center_ras)
    assert fresh.tinted("Green") > 800
    assert fresh.tinted("Yellow") > 800
    fresh.page.wait_for_function("() => window.trame.state.get('has_surface')")
    assert fresh.tinted("ThreeD") > 1500


def test_a_click_in_each_orientation_hits_the_same_voxels(fresh: AppPage, phantom: Phantom, out: Path) -> None:
    for view in ("Red", "Green", "Yellow"):
        fresh.click(view, phantom.balls[0].center_ras)
        assert dice(fresh.labels(out) == 1, phantom.label(0)) > 0.93, view
        fresh.action("undo")


def test_a_negative_click_takes_away_what_spilled_over(fresh: AppPage, phantom: Phantom, out: Path) -> None:
    center = np.array(phantom.balls[0].center_ras)
    fresh.click("Red", center)
    whole = int((fresh.labels(out) == 1).sum())
    fresh.tool("negative")
    fresh.click("Red", np.add(center, (9.0, 0.0, 0.0)))
    left = int((fresh.labels(out) == 1).sum())
    assert 0 < left < whole
    assert [p["positive"] for p in fresh.prompts(out)] == [True, False]


def test_taking_away_from_an_empty_segment_says_what_to_do_first(fresh: AppPage, phantom: Phantom) -> None:
    center = phantom.balls[0].center_ras
    fresh.tool("negative")
    fresh.click("Red", center)
    assert "Nothing to take away yet: press A and click inside the structure." in fresh.status()
    fresh.tool("positive")
    fresh.click("Red", np.add(center, (0.0, 15.0, 0.0)))
    assert "Nothing to take away" not in fresh.status()
    fresh.action("undo")
    fresh.action("undo")
    fresh.click("Red", center)
    assert "Too much?" in fresh.status()


def test_undo_takes_the_pixels_away_and_redo_brings_them_back(fresh: AppPage, phantom: Phantom) -> None:
    nothing = fresh.tinted("Red")
    fresh.click("Red", phantom.balls[0].center_ras)
    something = fresh.tinted("Red")
    fresh.action("undo")
    assert abs(fresh.tinted("Red") - nothing) < 60
    fresh.action("redo")
    assert abs(fresh.tinted("Red") - something) < 120


def test_undo_and_redo_by_keyboard(fresh: AppPage, phantom: Phantom) -> None:
    fresh.click("Red", phantom.balls[0].center_ras)
    before = fresh.answers()
    fresh.key("Control+z")
    fresh.wait_answer(before)
    assert fresh.state("segments")[0]["volume"] == ""
    fresh.key("Control+y")
    fresh.wait_answer(before + 1)
    assert fresh.state("segments")[0]["volume"] == "28 ml"


def extent_mm(mask: np.ndarray) -> np.ndarray:
    """Sides of the box around a mask, along i, j, k."""
    return (np.ptp(np.argwhere(mask), axis=0) + 1)[::-1] * 1.5


def test_a_box_drawn_in_a_slice_is_three_dimensional(fresh: AppPage, phantom: Phantom, out: Path) -> None:
    fresh.tool("box")
    center = np.array(phantom.balls[0].center_ras)
    fresh.stroke("Red", [np.add(center, (18, 12, 0)), center - [18, 12, 0]])
    assert np.abs(extent_mm(fresh.labels(out) == 1) - [36, 24, 24]).max() <= 3.1
    (prompt,) = fresh.prompts(out)
    assert prompt["kind"] == "box"


def test_pulling_a_side_of_the_box_in_another_view_makes_the_segment_again(
    fresh: AppPage, phantom: Phantom, out: Path
) -> None:
    fresh.tool("box")
    center = np.array(phantom.balls[0].center_ras)
    fresh.stroke("Red", [np.add(center, (18, 15, 0)), center - [18, 15, 0]])
    drawn = fresh.labels(out) == 1
    assert fresh.page.locator(".f3d-boxes .side.guessed").count() == 4
    fresh.pull_box("Green", np.add(center, (6, 0, 15)), (0, 0, 12))
    pulled = fresh.labels(out) == 1
    assert np.abs(extent_mm(pulled) - extent_mm(drawn) - [0, 0, 12]).max() <= 1.6
    assert pulled[drawn].all()
    assert fresh.page.locator(".f3d-boxes .side.guessed").count() == 0
    fresh.pull_box("Yellow", np.add(center, (0, -15, 9)), (0, 9, 0))
    assert np.abs(extent_mm(fresh.labels(out) == 1) - extent_mm(pulled) + [0, 9, 0]).max() <= 1.6
    assert len(fresh.prompts(out)) == 1
    fresh.action("undo")
    assert np.array_equal(fresh.labels(out) == 1, pulled)
    fresh.tool("positive")
    assert not fresh.page.locator(".f3d-boxes").first.is_visible()


def test_a_box_with_ctrl_fills_one_slice(fresh: AppPage, phantom: Phantom, out: Path) -> None:
    fresh.tool("box")
    center = np.array(phantom.balls[0].center_ras)
    fresh.page.keyboard.down("Control")
    fresh.stroke("Red", [np.add(center, (15, 15, 0)), center - [15, 15, 0]])
    fresh.page.keyboard.up("Control")
    assert np.abs(extent_mm(fresh.labels(out) == 1) - [30, 30, 1.5]).max() <= 3.1


def test_a_scribble_adds_along_the_stroke_and_with_ctrl_takes_away(fresh: AppPage, phantom: Phantom, out: Path) -> None:
    fresh.tool("scribble")
    center = np.array(phantom.balls[1].center_ras)
    fresh.stroke("Green", [center - [12, 0, 0], np.add(center, (12, 0, 0))])
    added = int((fresh.labels(out) == 1).sum())
    assert added > 200
    fresh.page.keyboard.down("Control")
    fresh.stroke("Green", [center - [12, 0, 0], center])
    fresh.page.keyboard.up("Control")
    assert int((fresh.labels(out) == 1).sum()) < added
    assert [p["kind"] for p in fresh.prompts(out)] == ["scribble", "scribble"]


def test_a_lasso_fills_its_inside_in_one_slice(fresh: AppPage, phantom: Phantom, out: Path) -> None:
    fresh.tool("lasso")
    center = np.array(phantom.balls[0].center_ras)
    angles = np.linspace(0, 2 * np.pi, 16)
    circle = [np.add(center, (0, 14 * np.cos(a), 14 * np.sin(a))) for a in angles]
    fresh.stroke("Yellow", circle)
    filled = np.argwhere(fresh.labels(out) == 1)
    assert np.ptp(filled[:, 2]) == 0
    assert abs(len(filled) * 1.5**2 - np.pi * 14**2) < 0.15 * np.pi * 14**2


def test_paint_and_erase_change_exactly_the_stroke_and_can_be_undone(
    fresh: AppPage, phantom: Phantom, out: Path
) -> None:
    center = np.array(phantom.balls[0].center_ras)
    fresh.tool("paint")
    fresh.stroke("Red", [center - [10, 0, 0], np.add(center, (10, 0, 0))])
    painted = int((fresh.labels(out) == 1).sum())
    expected = (20 * 8 + np.pi * 4**2) / 1.5**2
    assert abs(painted - expected) < 0.3 * expected
    fresh.tool("erase")
    fresh.stroke("Red", [center, np.add(center, (10, 0, 0))])
    erased = int((fresh.labels(out) == 1).sum())
    assert erased < painted
    fresh.action("undo")
    assert int((fresh.labels(out) == 1).sum()) == painted
    fresh.action("undo")
    assert not (fresh.labels(out) == 1).any()


def test_a_click_after_painting_keeps_what_was_painted(fresh: AppPage, phantom: Phantom, out: Path) -> None:
    far = np.array(phantom.balls[1].center_ras)
    fresh.tool("paint")
    fresh.stroke("Red", [far - [6, 0, 0], np.add(far, (6, 0, 0))])
    painted = fresh.labels(out) == 1
    fresh.tool("positive")
    fresh.click("Red", phantom.balls[0].center_ras)
    after = fresh.labels(out) == 1
    assert after[painted].all()
    assert after.sum() > painted.sum() + 5000


def test_next_segment_leaves_the_first_one_as_it_is(fresh: AppPage, phantom: Phantom, out: Path) -> None:
    fresh.click("Red", phantom.balls[0].center_ras)
    first = fresh.labels(out) == 1
    fresh.page.click("#do-next_segment")
    fresh.page.wait_for_function("() => window.trame.state.get('segments').length === 2")
    fresh.click("Red", phantom.balls[1].center_ras)
    labels = fresh.labels(out)
    assert np.array_equal(labels == 1, first)
    assert dice(labels == 2, phantom.label(1)) > 0.95
    assert fresh.tinted("Red", "orange") > 800


def test_reset_empties_the_segment_and_undo_restores_it(fresh: AppPage, phantom: Phantom, out: Path) -> None:
    fresh.click("Red", phantom.balls[0].center_ras)
    full = fresh.labels(out)
    fresh.action("reset")
    assert not fresh.labels(out).any()
    fresh.action("undo")
    assert np.array_equal(fresh.labels(out), full)


def test_the_threshold_slider_grows_and_shrinks_the_segment(fresh: AppPage, phantom: Phantom, out: Path) -> None:
    fresh.click("Red", phantom.balls[0].center_ras)
    sizes = {}
    for value in ("0.3", "0.7"):
        before = fresh.answers()
        fresh.page.locator("#threshold").fill(value)
        fresh.wait_answer(before)
        sizes[value] = int((fresh.labels(out) == 1).sum())
    assert sizes["0.3"] > 1.5 * sizes["0.7"] > 0


def test_other_segments_are_kept_overwritten_or_overlapped_as_chosen(
    fresh: AppPage, phantom: Phantom, out: Path
) -> None:
    center = np.array(phantom.balls[0].center_ras)
    fresh.click("Red", center)
    first = fresh.labels(out) == 1
    fresh.key("e")
    fresh.page.wait_for_function("() => window.trame.state.get('segments').length === 2")
    overlap = fresh.page.get_by_label("What happens to other segments")
    overlap.select_option("keep")
    fresh.page.wait_for_function("() => window.trame.state.get('overlap') === 'keep'")
    fresh.click("Red", np.add(center, (-12, 0, 0)))
    labels = fresh.labels(out)
    assert np.array_equal(labels == 1, first)
    assert (labels == 2).any()
    fresh.action("undo")
    overlap.select_option("overwrite")
    fresh.page.wait_for_function("() => window.trame.state.get('overlap') === 'overwrite'")
    fresh.click("Red", np.add(center, (-12, 0, 0)))
    labels = fresh.labels(out)
    assert (first & (labels == 2)).any()
    assert (labels == 1).sum() < first.sum()
    assert fresh.volumes()[0] == f"{(labels == 1).sum() * 1.5**3 / 1000:.0f} ml"
    fresh.action("undo")
    assert fresh.volumes() == ["28 ml", ""]


def test_the_uncertainty_is_shown_over_the_slices_and_found(fresh: AppPage, phantom: Phantom) -> None:
    fresh.click("Red", phantom.balls[0].center_ras)
    plain = fresh.picture("Red").astype(int)
    fresh.page.click("#overlay")
    fresh.page.wait_for_function("() => window.trame.state.get('overlay')")
    doubtful = fresh.picture("Red").astype(int)
    warm = (doubtful[..., 0] - doubtful[..., 2] > 40) & (plain[..., 0] - plain[..., 2] < 20)
    assert warm.sum() > 500
    fresh.page.click("#overlay")
    fresh.page.wait_for_function("() => !window.trame.state.get('overlay')")
    assert np.abs(fresh.picture("Red").astype(int) - plain).mean() < 1


def test_the_jump_leads_into_the_doubtful_part(fresh: AppPage, phantom: Phantom) -> None:
    ball = phantom.balls[0]
    fresh.click("Red", ball.center_ras)
    fresh.show_slice("Red", np.add(ball.center_ras, (0, 0, -45)))
    fresh.key("u")
    fresh.wait_status("least sure")
    fresh.page.wait_for_function(
        "([z, r]) => Math.abs(window.trame.state.get('slice_Red').value - z) < r",
        arg=[ball.center_ras[2], ball.radius],
    )
