"""Shared by the browser app's tests: a scan, a front with the fake engine, a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from FastSAM3DWeb.config import WorkerConfig
from Testing.web.driver import AppPage, chromium_path, open_browser
from Testing.web.phantom import Phantom, make_phantom
from Testing.web.running import FAKE, Running, running_front

needs_browser = pytest.mark.skipif(chromium_path() is None, reason="no chromium on this machine (apt install chromium)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(needs_browser)


@pytest.fixture(scope="package")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    return make_phantom(tmp_path_factory.mktemp("scan") / "phantom.nii.gz")


@pytest.fixture(scope="package")
def front(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A front whose workers open the phantom and answer with balls."""
    worker = WorkerConfig(secret="", state_dir="", scan=str(phantom.path), session=FAKE)
    with running_front(tmp_path_factory.mktemp("state"), worker) as running:
        yield running


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="package")
def app(front: Running, browser: Browser, phantom: Phantom) -> Iterator[AppPage]:
    """The page with the phantom open; the tests share it; `fresh` resets it."""
    page = AppPage.new(browser, front.url)
    page.center_ras = phantom.center_ras
    page.open()
    yield page
    page.close()


@pytest.fixture
def fresh(app: AppPage) -> Iterator[AppPage]:
    """The shared page with one empty segment, all views, and no message; afterwards, no error and no request to
    anybody else may have been seen."""
    for entry in list(app.state("segments"))[1:]:
        app.page.evaluate("id => window.trame.trigger('segment', ['remove', id])", entry["id"])
    if app.state("can_reset"):
        app.action("reset")
    if app.state("threshold") != 0.5:
        before = app.answers()
        app.page.locator("#threshold").fill("0.5")
        app.wait_answer(before)
    app.problems.clear()
    app.tool("positive")
    yield app
    assert app.problems == []


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path
