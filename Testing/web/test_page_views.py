"""Looking around, the segment list, messages and keys."""

from __future__ import annotations

import numpy as np

from FastSAM3DWeb.tools import ACTIONS, TOOLS
from Testing.web.driver import AppPage
from Testing.web.phantom import Phantom


def test_the_page_asks_nobody_else_and_reports_no_error(app: AppPage) -> None:
    assert app.problems == []
    assert app.page.title() == "FastSAM3D"
    icon = app.page.get_attribute("link[rel=icon]", "href")
    assert icon.startswith("f3d/")
    assert "kitware" not in app.page.inner_text("body").lower()


def test_the_wheel_scrolls_slices(fresh: AppPage) -> None:
    before = fresh.state("slice_Red")["value"]
    box = fresh.view_box("Red")
    fresh.page.mouse.move(box["x"] + 60, box["y"] + 60)
    fresh.page.wait_for_timeout(150)
    fresh.page.mouse.wheel(0, -120)
    fresh.page.wait_for_function("before => window.trame.state.get('slice_Red').value !== before", arg=before)
    assert abs(abs(fresh.state("slice_Red")["value"] - before) - 1.5) < 1e-3


def test_the_right_button_zooms_and_fit_restores(fresh: AppPage) -> None:
    wide = fresh.state("mm_across")["Red"]
    box = fresh.view_box("Red")
    fresh.page.mouse.move(box["x"] + 200, box["y"] + 120)
    fresh.page.wait_for_timeout(150)
    fresh.page.mouse.down(button="right")
    fresh.page.mouse.move(box["x"] + 200, box["y"] + 200, steps=5)
    fresh.page.mouse.up(button="right")
    fresh.page.wait_for_function("wide => Math.abs(window.trame.state.get('mm_across').Red - wide) > 10", arg=wide)
    fresh.key("r")
    fresh.page.wait_for_function("wide => Math.abs(window.trame.state.get('mm_across').Red - wide) < 0.5", arg=wide)


def test_dragging_while_looking_around_changes_window_and_level(fresh: AppPage) -> None:
    fresh.tool("navigate")
    fresh.page.wait_for_function("() => window.trame.state.get('tool') === 'navigate'")
    before = (fresh.state("window_width"), fresh.state("level"))
    picture = fresh.picture("Red").astype(int)
    box = fresh.view_box("Red")
    x, y = box["x"] + 150, box["y"] + 150
    fresh.page.mouse.move(x, y)
    fresh.page.wait_for_timeout(200)
    fresh.page.mouse.down()
    fresh.page.mouse.move(x + 60, y + 40, steps=6)
    fresh.page.mouse.up()
    fresh.page.wait_for_function("w => window.trame.state.get('window_width') !== w", arg=before[0])
    assert fresh.state("preset") == "By hand"
    assert np.abs(fresh.picture("Red").astype(int) - picture).mean() > 1
    fresh.page.get_by_label("Window preset").select_option("Auto")
    fresh.page.wait_for_function("w => Math.abs(window.trame.state.get('window_width') - w) < 1e-6", arg=before[0])


def test_a_click_while_looking_around_moves_the_other_slices(fresh: AppPage, phantom: Phantom) -> None:
    fresh.tool("navigate")
    fresh.page.wait_for_function("() => window.trame.state.get('tool') === 'navigate'")
    target = phantom.balls[2].center_ras
    fresh.show_slice("Red", target)
    fresh.page.mouse.click(*fresh.place("Red", target))
    fresh.page.wait_for_function(
        "([a, l]) => Math.abs(window.trame.state.get('slice_Green').value - a) < 2.5"
        " && window.trame.state.get('slice_Yellow').text.startsWith('L')"
        " && Math.abs(Math.abs(window.trame.state.get('slice_Yellow').value) - l) < 2.5",
        arg=[target[1], -target[0]],
    )


def test_a_view_can_be_enlarged_and_put_back(fresh: AppPage) -> None:
    small = fresh.view_box("Green")["width"]
    fresh.page.hover(".cell-Green")
    fresh.page.click(".cell-Green .f3d-corner")
    fresh.page.wait_for_function("small => document.querySelector('.cell-Green').clientWidth > 1.8 * small", arg=small)
    fresh.page.wait_for_timeout(400)
    assert fresh.picture("Green").mean() > 5
    fresh.page.click(".cell-Green .f3d-corner")
    fresh.page.wait_for_function("small => document.querySelector('.cell-Green').clientWidth < 1.1 * small", arg=small)


def test_the_segment_list_renames_recolours_hides_and_locks(fresh: AppPage, phantom: Phantom) -> None:
    fresh.click("Red", phantom.balls[0].center_ras)
    shown = fresh.tinted("Red")
    fresh.page.fill(".f3d-name", "Left kidney")
    fresh.page.keyboard.press("Enter")
    fresh.wait_status("Left kidney")
    fresh.page.click(".f3d-segments button[title=Hide]")
    fresh.page.wait_for_function("() => !window.trame.state.get('segments')[0].visible")
    assert fresh.tinted("Red") < shown / 4
    fresh.page.click(".f3d-segments button[title=Show]")
    fresh.page.wait_for_function("() => window.trame.state.get('segments')[0].visible")
    fresh.page.click(".f3d-segments button[title^=Lock]")
    fresh.page.wait_for_function("() => window.trame.state.get('segments')[0].locked")
    fresh.click("Red", phantom.balls[1].center_ras)
    assert "is locked" in fresh.status()
    fresh.page.click(".f3d-segments button[title=Unlock]")
    fresh.page.wait_for_function("() => !window.trame.state.get('segments')[0].locked")
    fresh.page.locator(".f3d-swatch input").evaluate(
        "(e) => { e.value = '#ff8800'; e.dispatchEvent(new Event('change')); }"
    )
    fresh.page.wait_for_function("() => window.trame.state.get('segments')[0].color === '#ff8800'")
    assert fresh.tinted("Red", "orange") > 800
    fresh.page.locator(".f3d-swatch input").evaluate(
        "(e) => { e.value = '#4fbfad'; e.dispatchEvent(new Event('change')); }"
    )


def test_a_click_outside_the_scan_is_refused_and_changes_nothing(fresh: AppPage, phantom: Phantom) -> None:
    fresh.click("Red", phantom.balls[0].center_ras)
    volume = fresh.state("segments")[0]["volume"]
    before = fresh.answers()
    box = fresh.view_box("Red")
    fresh.page.mouse.click(box["x"] + 12, box["y"] + box["height"] / 2)
    fresh.wait_answer(before)
    assert "outside" in fresh.status()
    assert fresh.state("segments")[0]["volume"] == volume


def test_a_long_click_shows_that_it_is_busy_and_can_be_cancelled(fresh: AppPage, phantom: Phantom) -> None:
    slow = phantom.affine[:3, :3] @ [10, 56, 40] + phantom.affine[:3, 3]
    fresh.show_slice("Red", slow)
    before = fresh.answers()
    fresh.page.mouse.click(*fresh.place("Red", slow))
    fresh.page.wait_for_selector("#cancel")
    value = fresh.state("slice_Green")["value"]
    box = fresh.view_box("Green")
    fresh.page.mouse.move(box["x"] + 60, box["y"] + 60)
    fresh.page.mouse.wheel(0, -120)
    fresh.page.wait_for_function("value => window.trame.state.get('slice_Green').value !== value", arg=value)
    fresh.page.click("#cancel")
    fresh.wait_answer(before)
    assert "Cancelled" in fresh.status()
    assert fresh.state("segments")[0]["volume"] == ""


def test_the_help_lists_every_tool_and_key(fresh: AppPage) -> None:
    fresh.key("?")
    fresh.page.wait_for_selector("#help-page")
    text = fresh.page.inner_text("#help-page")
    for entry in (*TOOLS, *ACTIONS):
        assert entry.title in text
    fresh.key("?")
    fresh.page.wait_for_selector("#help-page", state="hidden")


def test_every_tool_has_its_key(fresh: AppPage) -> None:
    for tool in TOOLS:
        fresh.key(tool.key)
        fresh.page.wait_for_function("name => window.trame.state.get('tool') === name", arg=tool.name)
        fresh.wait_status(tool.hint)


def test_keys_typed_into_a_name_do_not_change_the_tool(fresh: AppPage) -> None:
    fresh.page.click(".f3d-name")
    fresh.page.keyboard.type("bed")
    assert fresh.state("tool") == "positive"
    fresh.page.keyboard.press("Escape")
    fresh.page.fill(".f3d-name", "Segment 1")
    fresh.page.keyboard.press("Enter")


def test_the_time_until_the_answer_is_seen_is_shown(fresh: AppPage, phantom: Phantom) -> None:
    fresh.click("Red", phantom.balls[0].center_ras)
    fresh.page.wait_for_selector("#last-click")
    assert 0 < fresh.state("click_ms") < 20_000
    assert "engine" in fresh.page.get_attribute("#last-click", "title")
