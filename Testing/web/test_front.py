"""The front: who gets in, which process they get, and when processes end. Real sockets, real worker processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser

from FastSAM3DWeb.config import WorkerConfig
from FastSAM3DWeb.front.guard import is_loopback, same_host
from FastSAM3DWeb.front.server import delete_old_work
from Testing.web.phantom import Phantom
from Testing.web.running import FAKE, Running, running_front

TOKEN = "a-token-for-tests"


def wait_for(check: Callable[[], object], seconds: float = 60.0) -> object:
    """Poll until something is true; fails with the last value."""
    end = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < end, f"still {value!r} after {seconds} s"
        time.sleep(0.1)
    return value


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def guarded(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    worker = WorkerConfig(secret="", state_dir="", scan=str(phantom.path), session=FAKE)
    with running_front(tmp_path_factory.mktemp("guarded"), worker, token=TOKEN) as running:
        yield running


@pytest.mark.parametrize("path", ["/", "/ws", "/f3d/upload/begin", "/f3d/download/mrb", "/f3d/ready", "/index.html"])
def test_without_the_token_nothing_is_served(guarded: Running, path: str) -> None:
    assert requests.get(guarded.url + path, timeout=10).status_code == 401
    assert guarded.workers() == []


def test_a_wrong_token_is_refused_and_starts_no_process(guarded: Running) -> None:
    answer = requests.post(guarded.url + "/f3d/token", data={"token": "wrong"}, timeout=10)
    assert answer.status_code == 401
    assert "not right" in answer.text
    assert requests.get(guarded.url + "/?token=wrong", timeout=10).status_code == 401
    assert guarded.workers() == []


def test_with_the_token_the_browser_gets_a_process_of_its_own(guarded: Running) -> None:
    first, second = requests.Session(), requests.Session()
    assert first.post(guarded.url + "/f3d/token", data={"token": TOKEN}, timeout=10).status_code == 200
    assert second.get(guarded.url + f"/?token={TOKEN}", timeout=10).status_code == 200
    assert all(TOKEN not in answer.url for answer in [second.get(guarded.url, timeout=10)])
    for session in (first, second):
        wait_for(lambda session=session: session.get(guarded.url + "/f3d/ready", timeout=10).json()["ready"])
    assert len(set(guarded.workers())) == 2
    page = first.get(guarded.url, timeout=10)
    assert "f3d/session" in page.text
    launched = first.post(guarded.url + "/f3d/session", timeout=10).json()
    assert launched["sessionURL"] == "ws://USE_HOST/ws"
    cookies = {c.name: c for c in first.cookies}
    assert all(c.has_nonstandard_attr("HttpOnly") for c in cookies.values())


def test_in_a_browser_the_token_is_asked_for_and_opens_the_app(guarded: Running, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(guarded.url)
    assert "asks for a token" in page.inner_text("main")
    page.fill("input[name=token]", "not the token")
    page.click("button")
    page.wait_for_selector("text=That token is not right")
    page.fill("input[name=token]", TOKEN)
    page.click("button")
    page.wait_for_selector("text=Starting your session")
    page.close()


def test_a_worker_refuses_whoever_is_not_the_front(guarded: Running) -> None:
    worker = wait_for(lambda: next((w for w in guarded.front.pool.all() if w.ready), None))
    assert requests.get(f"http://127.0.0.1:{worker.port}/index.html", timeout=10).status_code == 403
    assert requests.get(f"http://127.0.0.1:{worker.port}/f3d/download/mrb", timeout=10).status_code == 403


def test_pages_of_other_sites_and_rebound_names_are_refused(guarded: Running) -> None:
    cookies = {guarded.front._token_cookie: TOKEN}
    foreign = requests.post(
        guarded.url + "/f3d/upload/begin", headers={"Origin": "http://evil.example"}, cookies=cookies, timeout=10
    )
    assert foreign.status_code == 403
    rebound = requests.get(guarded.url, headers={"Host": "evil.example"}, cookies=cookies, timeout=10)
    assert rebound.status_code == 403


def test_places_are_limited_and_processes_end_when_the_page_is_gone(phantom: Phantom, tmp_path: Path) -> None:
    worker = WorkerConfig(secret="", state_dir="", scan=str(phantom.path), session=FAKE)
    with running_front(tmp_path, worker, max_sessions=1, idle_seconds=1.5) as running:
        first, second = requests.Session(), requests.Session()
        first.get(running.url, timeout=10)
        full = second.get(running.url, timeout=10)
        assert full.status_code == 503
        assert "All places are taken" in full.text
        wait_for(lambda: running.front.pool.all()[0].ready)
        pid = running.workers()[0]
        wait_for(lambda: not is_running(pid))
        assert second.get(running.url, timeout=10).status_code == 200


def test_no_process_outlives_the_front(phantom: Phantom, tmp_path: Path) -> None:
    worker = WorkerConfig(secret="", state_dir="", scan=str(phantom.path), session=FAKE)
    with running_front(tmp_path, worker) as running:
        requests.Session().get(running.url, timeout=10)
        pid = wait_for(running.workers)[0]
    assert not is_running(pid)


def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    with running_front(
        tmp_path, WorkerConfig(secret="", state_dir="/proc/nowhere", session="no_such:engine")
    ) as running:
        browser = requests.Session()
        browser.get(running.url, timeout=10)
        running.front.pool.all()[0]._process.kill()
        error = wait_for(lambda: browser.get(running.url + "/f3d/ready", timeout=10).json()["error"])
        assert "ended unexpectedly" in error
        assert browser.get(running.url, timeout=10).status_code == 200


def test_only_loopback_names_count_as_loopback() -> None:
    assert all(is_loopback(name) for name in ("127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost"))
    assert not any(
        is_loopback(name) for name in ("0.0.0.0", "192.168.1.4", "::", "example.org", "127.0.0.1.evil.org", "")
    )


def test_hosts_and_origins() -> None:
    assert same_host("127.0.0.1:8080", None, loopback_only=True)
    assert same_host("localhost:8080", "http://localhost:8080", loopback_only=True)
    assert not same_host("localhost:8080", "http://localhost:9090", loopback_only=True)
    assert not same_host("box.local:8080", None, loopback_only=True)
    assert same_host("box.local:8080", "http://box.local:8080", loopback_only=False)
    assert not same_host("", None, loopback_only=False)
    assert not same_host("[bad", None, loopback_only=False)


def test_old_work_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    old, new, other = tmp_path / f"{'0' * 32}-{'a' * 12}", tmp_path / f"{'1' * 32}-{'a' * 12}", tmp_path / "notes"
    for folder in (old, new, other):
        folder.mkdir()
        (folder / "file").write_text("x")
    for folder in (old, other):
        os.utime(folder, (0, 0))
    assert delete_old_work(tmp_path, keep_days=30) == 1
    assert not old.exists()
    assert new.exists()
    assert other.exists()
