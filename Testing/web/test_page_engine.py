"""A page whose engine cannot be loaded: it says why, at every prompt, and hand edits go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from FastSAM3DWeb.config import WorkerConfig
from Testing.web.driver import AppPage
from Testing.web.phantom import Phantom
from Testing.web.running import running_front

REASONS = {"refuse": "Unknown model 'nope'; give another.", "break_down": "OSError: libcudart.so"}


@pytest.fixture(scope="module", params=list(REASONS))
def without(
    request: pytest.FixtureRequest, browser: Browser, phantom: Phantom, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[AppPage, str]]:
    """A page without an engine, and why it has none."""
    session = f"Testing.web.fake_engine:{request.param}"
    worker = WorkerConfig(secret="", state_dir="", scan=str(phantom.path), session=session, model="nope")
    with running_front(tmp_path_factory.mktemp("without"), worker) as running:
        app = AppPage.new(browser, running.url)
        app.center_ras = phantom.center_ras
        app.page.goto(app.url)
        app.page.wait_for_selector(".f3d-scan", timeout=90_000)
        app.page.wait_for_function("() => window.trame.state.get('device') === 'No model'")
        yield app, REASONS[request.param]
        assert app.problems == []
        app.close()


def test_every_prompt_gives_the_reason_instead_of_waiting(without: tuple[AppPage, str], phantom: Phantom) -> None:
    app, reason = without
    assert reason in app.status()
    for ball in phantom.balls[:2]:
        app.tool("box")
        app.tool("positive")
        assert reason not in app.status()
        app.click("Red", ball.center_ras)
        assert reason in app.status()
        assert app.state("busy") == ""


def test_painting_and_its_undo_need_no_engine(without: tuple[AppPage, str], phantom: Phantom, out: Path) -> None:
    app, _ = without
    app.tool("paint")
    app.stroke("Red", [phantom.balls[0].center_ras, phantom.balls[1].center_ras])
    assert app.volumes() != [""]
    app.action("undo")
    assert app.volumes() == [""]
    app.action("redo")
    assert app.volumes() != [""]
