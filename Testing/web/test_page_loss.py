"""Nothing that was made is lost without a question or a way back: other scans, deleted segments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from Testing.web.driver import AppPage, phantom_page
from Testing.web.phantom import Phantom, make_phantom


@dataclass
class Desk:
    """A page of its own, and the folder where its session is saved."""

    app: AppPage
    folder: Path

    @property
    def saved_scan(self) -> str:
        """File name of the scan that a restart would open."""
        return Path(json.loads((self.folder / "state.json").read_text())["scan"]).name

    def wait_saved(self, name: str) -> None:
        for _ in range(100):
            if (self.folder / "state.json").is_file() and self.saved_scan == name:
                return
            self.app.page.wait_for_timeout(100)
        raise AssertionError(f"{self.saved_scan} is saved, not {name}")

    def uploads(self) -> list[Path]:
        folder = self.folder / "uploads"
        return list(folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def desk(browser: Browser, phantom: Phantom, tmp_path: Path) -> Iterator[Desk]:
    """The phantom, with one segment in it."""
    with phantom_page(browser, phantom, tmp_path / "state") as (app, _):
        (folder,) = (tmp_path / "state").iterdir()
        desk = Desk(app, folder)
        desk.wait_saved(phantom.path.name)
        yield desk
        assert app.problems == []
        app.close()


def test_another_scan_waits_for_an_answer_and_no_keeps_everything(desk: Desk, phantom: Phantom, out: Path) -> None:
    app, before = desk.app, desk.app.labels(out)
    other = make_phantom(out / "other.nii.gz", (41, 57, 49), spacing=3.0)
    for leave in ("Escape", "Enter", "#question-no", "outside"):
        app.drop(other.path)
        app.page.wait_for_selector("#question")
        assert "Open “other”?" in app.page.inner_text("#question")
        app.page.wait_for_function("() => document.activeElement.id === 'question-no'")
        for key in ("z", "b", "?"):  # a question has the keys to itself
            app.key(key)
        assert not app.state("uploading") or not app.page.locator(".f3d-drop").is_visible()
        if leave == "outside":
            app.page.mouse.click(640, 700)
        elif leave.startswith("#"):
            app.page.click(leave)
        else:
            app.key(leave)
        app.page.wait_for_selector("#question", state="hidden")
        app.wait_status("your work is as it was")
        app.page.wait_for_function("() => !window.trame.state.get('uploading')")
        assert not app.state("help_open")
        assert app.state("scan_name") == "phantom"
    assert np.array_equal(app.labels(out), before)
    assert desk.saved_scan == phantom.path.name
    assert desk.uploads() == []
    app.action("undo")
    assert app.volumes() == [""]


def test_the_segments_can_be_downloaded_before_the_answer(desk: Desk, phantom: Phantom, out: Path) -> None:
    app, before = desk.app, desk.app.labels(out)
    app.page.click("#open")
    app.page.click("#open-sample")
    app.page.wait_for_selector("#question", timeout=60_000)
    with app.page.expect_download() as waiting:
        app.page.click("#question-download")
    waiting.value.save_as(out / "kept.seg.nrrd")
    app.page.wait_for_function("() => document.querySelector('#question')")
    app.key("Shift+Tab")
    app.key("Tab")
    app.page.click("#question-yes")
    app.page.wait_for_function("() => window.trame.state.get('scan_name').startsWith('Sample')", timeout=60_000)
    assert app.volumes() == [""]
    app.upload(phantom.path)
    app.page.wait_for_function("() => window.trame.state.get('scan_name') === 'phantom'")
    app.upload(out / "kept.seg.nrrd")
    app.wait_volumes("28 ml")
    assert np.array_equal(app.labels(out), before)


def test_a_label_map_is_a_scan_too_and_yes_opens_it(desk: Desk, phantom: Phantom, out: Path) -> None:
    app = desk.app
    path = app.download("nii", out)
    app.upload(path)
    app.page.wait_for_selector("#question")
    app.page.focus("#question-yes")
    app.key("Enter")
    app.page.wait_for_selector("#question", state="hidden")
    app.wait_volumes("")
    app.page.wait_for_timeout(500)
    assert app.state("can_undo") is False
    app.upload(phantom.path)  # nothing has been segmented: nothing to ask
    desk.wait_saved(phantom.path.name)


def test_segments_from_a_file_ask_before_they_replace_others(desk: Desk, phantom: Phantom, out: Path) -> None:
    app = desk.app
    saved = app.download("seg", out)
    app.key("e")
    app.click("Red", phantom.balls[1].center_ras)
    app.upload(saved)
    app.page.wait_for_selector("#question")
    assert "phantom.seg.nrrd" in app.page.inner_text("#question")
    app.key("Escape")
    app.wait_status("your work is as it was")
    app.wait_volumes("28 ml", "28 ml")
    app.upload(saved)
    app.page.click("#question-yes")
    app.wait_volumes("28 ml")


def test_a_question_outlives_a_reload(desk: Desk, phantom: Phantom, out: Path) -> None:
    app = desk.app
    other = make_phantom(out / "other.nii.gz", (41, 57, 49), spacing=3.0)
    app.drop(other.path)
    app.page.wait_for_selector("#question")
    app.page.reload()
    app.page.wait_for_selector("#question")
    app.page.click("#question-yes")
    app.page.wait_for_function("() => window.trame.state.get('scan_name') === 'other'")
    app.page.wait_for_function("() => !window.trame.state.get('uploading')")
    app.problems.clear()  # of the reload: what was under way is given up


def test_undo_brings_a_deleted_segment_back_and_then_goes_on(desk: Desk, phantom: Phantom, out: Path) -> None:
    app = desk.app
    app.page.fill(".f3d-name", "Left kidney")
    app.key("Enter")
    app.key("e")
    app.click("Red", phantom.balls[1].center_ras)
    before = app.labels(out)
    app.segment_button(0, "Delete")
    app.wait_status("Left kidney is deleted; Undo brings it back.")
    assert app.volumes() == ["28 ml"]
    app.action("undo")
    assert [s["name"] for s in app.state("segments")] == ["Left kidney", "Segment 2"]
    assert np.array_equal(app.labels(out), before)
    app.action("undo")
    assert app.volumes() == ["28 ml", ""]
    app.action("redo")
    app.action("redo")
    assert app.volumes() == ["28 ml"]
    assert app.state("segments")[0]["name"] == "Segment 2"


def test_the_only_segment_can_be_deleted_and_comes_back(desk: Desk) -> None:
    app = desk.app
    app.segment_button(0, "Delete")
    app.wait_volumes("")
    app.action("undo")
    assert app.volumes() == ["28 ml", ""]
    app.page.wait_for_function("() => window.trame.state.get('has_surface')")
    assert app.tinted("Red") > 1500


def test_a_lock_holds_against_the_delete_button(desk: Desk) -> None:
    app = desk.app
    app.segment_button(0, "Lock")
    app.page.wait_for_function("() => window.trame.state.get('segments')[0].locked")
    app.segment_button(0, "Delete")
    app.wait_status("is locked")
    assert app.volumes() == ["28 ml"]
