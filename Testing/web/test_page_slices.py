"""Slice-by-slice mode, with the mouse and the keys in a real browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from Testing.web.driver import AppPage
from Testing.web.phantom import Phantom, dice


def test_slice_mode_changes_only_the_slice_in_view(fresh: AppPage, phantom: Phantom, out: Path) -> None:
    fresh.page.click("#slice-mode")
    fresh.click("Red", phantom.balls[0].center_ras)
    one = np.argwhere(fresh.labels(out) == 1)
    assert np.ptp(one[:, 0]) == 0
    assert len(one) > 300
    fresh.page.click("#accept")
    fresh.page.wait_for_timeout(500)
    fresh.tool("negative")
    fresh.click("Red", phantom.balls[0].center_ras)
    assert np.array_equal(np.argwhere(fresh.labels(out) == 1), one), "an accepted slice was changed"
    value = fresh.state("slice_Red")["value"]
    fresh.key("ArrowUp")
    fresh.page.wait_for_function("value => window.trame.state.get('slice_Red').value > value", arg=value)
    fresh.page.click("#slice-mode")
    fresh.page.wait_for_function("() => !window.trame.state.get('slice_mode')")


def test_enter_accepts_the_slice_after_a_button_was_pressed_with_the_mouse(fresh: AppPage, phantom: Phantom) -> None:
    center = phantom.balls[0].center_ras
    fresh.show_slice("Red", center)
    fresh.page.click("#slice-mode")
    before = fresh.answers()
    fresh.page.mouse.click(*fresh.place("Red", center))
    fresh.wait_answer(before)
    fresh.key("Enter")
    fresh.wait_status("least sure")
    assert fresh.state("slice_mode")
    fresh.tool("negative")
    fresh.click("Red", phantom.balls[0].center_ras)
    assert "accepted slices are kept" in fresh.status()
    fresh.page.click("#slice-mode")
    fresh.page.wait_for_function("() => !window.trame.state.get('slice_mode')")


def test_in_slice_mode_fill_takes_what_the_model_proposes_there(fresh: AppPage, phantom: Phantom, out: Path) -> None:
    center = np.array(phantom.balls[0].center_ras)
    fresh.page.click("#slice-mode")
    fresh.click("Red", center)
    fresh.show_slice("Red", np.add(center, (0, 0, 6)))
    before = fresh.answers()
    fresh.key("f")
    fresh.wait_answer(before)
    mask = fresh.labels(out) == 1
    assert [int(k) for k in np.unique(np.argwhere(mask)[:, 0])] == [44, 48]
    assert dice(mask[48], phantom.label(0)[48]) > 0.9
    fresh.page.click("#slice-mode")
    fresh.page.wait_for_function("() => !window.trame.state.get('slice_mode')")
