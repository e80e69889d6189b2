"""Looking around, the segment list, messages and keys."""

from __future__ import annotations

import numpy as np
import pytest

from FastSAM3DWeb.tools import ACTIONS, TOOLS
from Testing.web.driver import VIEWPORT, AppPage
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
    fresh.until_still("mm_across")
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
    fresh.until_still("window_width")
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


def test_escape_closes_help_and_menus_and_other_keys_wait(fresh: AppPage) -> None:
    fresh.page.click("#help")
    fresh.page.wait_for_selector("#help-page")
    fresh.key("b")
    fresh.key("Escape")
    fresh.page.wait_for_selector("#help-page", state="hidden")
    assert fresh.state("tool") == "positive"
    fresh.page.click("#download")
    fresh.page.wait_for_selector("#download-seg")
    fresh.key("Escape")
    fresh.page.wait_for_selector("#download-seg", state="hidden")


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


def test_the_opacity_slider_fades_the_segments(fresh: AppPage, phantom: Phantom) -> None:
    fresh.click("Red", phantom.balls[0].center_ras)
    slider = fresh.page.get_by_label("Segment opacity")
    shown = fresh.tinted("Red")
    slider.fill("0")
    fresh.page.wait_for_function("() => window.trame.state.get('opacity') === 0")
    assert fresh.tinted("Red") < shown / 4
    slider.fill("0.45")
    fresh.page.wait_for_function("() => window.trame.state.get('opacity') === 0.45")
    assert abs(fresh.tinted("Red") - shown) < 0.1 * shown


def test_segments_are_chosen_and_deleted_but_never_while_locked(fresh: AppPage) -> None:
    fresh.page.click("#add-segment")
    rows = fresh.page.locator(".f3d-segments li")
    fresh.page.wait_for_function("() => window.trame.state.get('segments').length === 2")
    second = fresh.state("active_segment")
    rows.nth(0).click()
    fresh.page.wait_for_function("id => window.trame.state.get('active_segment') !== id", arg=second)
    fresh.wait_status("Working on Segment 1")
    fresh.segment_button(1, "Lock")
    fresh.page.wait_for_function("() => window.trame.state.get('segments')[1].locked")
    fresh.segment_button(1, "Delete")
    fresh.wait_status("is locked; nothing was changed")
    fresh.segment_button(1, "Unlock")
    fresh.page.wait_for_function("() => !window.trame.state.get('segments')[1].locked")
    fresh.segment_button(1, "Delete")
    fresh.page.wait_for_function("() => window.trame.state.get('segments').length === 1")


def test_the_3d_view_turns_and_the_crosshair_can_be_hidden(fresh: AppPage, phantom: Phantom) -> None:
    fresh.tool("box")
    center = np.array(phantom.balls[0].center_ras)
    fresh.stroke("Red", [np.add(center, (24, 9, 0)), center - [24, 9, 0]])
    fresh.page.wait_for_function("() => window.trame.state.get('has_surface')")
    before = fresh.picture("ThreeD").astype(int)
    box = fresh.view_box("ThreeD")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    fresh.page.mouse.move(x, y)
    fresh.page.wait_for_timeout(150)
    fresh.page.mouse.down()
    fresh.page.mouse.move(x + 120, y + 30, steps=6)
    fresh.page.mouse.up()
    assert np.abs(fresh.picture("ThreeD").astype(int) - before).mean() > 1
    with_lines = fresh.picture("Red").astype(int)
    fresh.page.click("text=Shown")
    fresh.page.wait_for_function("() => !window.trame.state.get('crosshair')")
    assert (np.abs(fresh.picture("Red").astype(int) - with_lines).max(axis=2) > 40).sum() > 300
    fresh.page.click("text=Hidden")
    fresh.page.wait_for_function("() => window.trame.state.get('crosshair')")


NAMELESS = """() => [...document.querySelectorAll('button, input, select, [role=listbox]')].filter(e =>
  !(e.textContent.trim() || e.title || e.getAttribute('aria-label') || e.closest('label')?.innerText.trim()
    || e.closest('label')?.title)).map(e => e.outerHTML)"""

# Text that is wider than its place, and parts of the frame that reach out of the window.
CUT_OFF = """() => {
  const out = [];
  for (const e of document.querySelectorAll('.f3d-app *')) {
    const style = getComputedStyle(e), box = e.getBoundingClientRect();
    if (!box.width || e.closest('svg, .remote-controlled-area')) continue;
    if (box.right > innerWidth + 1 || box.bottom > innerHeight + 1) out.push(`outside the window: ${e.className}`);
    const text = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (text && style.overflow !== 'visible' && e.scrollWidth > e.clientWidth + 1) out.push(`cut off: ${e.innerText}`);
  }
  return out;
}"""

# Contrast of each piece of text with the nearest background that is not transparent (WCAG 2.1).
FAINT = """() => {
  const light = c => c.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [.2126, .7152, .0722][n], 0);
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const out = [];
  for (const e of document.querySelectorAll('.f3d-top *, .f3d-panel *, .f3d-status *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || e.closest(':disabled, option')) continue;
    let under = e;
    while (under && (rgb(getComputedStyle(under).backgroundColor)[3] ?? 1) < 1) under = under.parentElement;
    const [a, b] = [light(rgb(getComputedStyle(e).color).slice(0, 3)),
                    light(rgb(getComputedStyle(under ?? document.body).backgroundColor).slice(0, 3))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) out.push(`${ratio.toFixed(1)}: ${e.innerText}`);
  }
  return out;
}"""


def test_every_control_has_a_name_and_text_stands_out(fresh: AppPage, phantom: Phantom) -> None:
    fresh.click("Red", phantom.balls[0].center_ras)
    assert fresh.page.evaluate(NAMELESS) == []
    assert fresh.page.evaluate(FAINT) == []


@pytest.mark.parametrize(("width", "height", "text_px"), [(1280, 720, 13), (1920, 1080, 15), (3840, 2160, 27)])
def test_the_page_fits_laptops_and_4k_screens(fresh: AppPage, width: int, height: int, text_px: int) -> None:
    try:
        fresh.page.set_viewport_size({"width": width, "height": height})
        fresh.page.wait_for_timeout(300)
        size = fresh.page.evaluate("() => parseFloat(getComputedStyle(document.querySelector('.f3d-row')).fontSize)")
        assert size >= text_px
        assert fresh.page.evaluate(CUT_OFF) == []
        assert fresh.view_box("Red")["width"] > 0.3 * width
    finally:
        fresh.page.set_viewport_size(VIEWPORT)
        fresh.page.wait_for_timeout(500)
        fresh.key("r")
