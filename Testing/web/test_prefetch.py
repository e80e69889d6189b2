"""The crop under the hand is encoded before the click, and given up when it is of no use."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from FastSAM3DCore.errors import CancelledError
from FastSAM3DCore.types import Volume
from FastSAM3DWeb.prefetch import Prefetch
from FastSAM3DWeb.reading import Scan, ScanSource
from FastSAM3DWeb.runner import Runner
from FastSAM3DWeb.study import Study
from Testing.core.fakes import FakeSession
from Testing.mrml.scene import HeadlessScene
from Testing.web.driver import AppPage
from Testing.web.phantom import Phantom
from Testing.web.running import run_async

SIDE = 60


@dataclass
class Preparing(FakeSession):
    """Notes what it was asked to prepare; works on it until it is told to stop, if `slow`."""

    slow: bool = False
    begun: list[tuple[int, ...]] = field(default_factory=list)
    given_up: list[tuple[int, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.stop = threading.Event()
        self.running = threading.Event()

    def prefetch(self, point_ijk: Any) -> None:
        place = tuple(round(v) for v in point_ijk)
        self.stop.clear()
        self.begun.append(place)
        self.running.set()
        if self.slow and self.stop.wait(20):
            self.given_up.append(place)
            raise CancelledError("stopped")

    def cancel(self) -> None:
        self.stop.set()


class Desk:
    """A study on a small scan, whose voxels are its RAS millimetres, with runner and prefetch."""

    def __init__(self, session: Preparing) -> None:
        self.headless = HeadlessScene()
        self.session, self.runner = session, Runner()
        self.study = Study(self.headless.scene, session)
        voxels = np.random.default_rng(1).integers(0, 99, (SIDE, SIDE, SIDE)).astype(np.int16)
        self.study.open(Scan(Volume(voxels, np.eye(4)), ScanSource(name="scan")))
        self.prefetch = Prefetch(self.study, self.runner)
        self.prefetch.session = session

    async def click(self, *ras: float) -> None:
        prepare = lambda: self.study.logic.preparePoint(ras)  # noqa: E731
        await self.runner.job(prepare, cancel=self.session.cancel, keep_quiet=self.prefetch.is_near(ras))

    async def settled(self) -> None:
        async with asyncio.timeout(15):
            while not self.runner.is_idle:
                await asyncio.sleep(0.01)

    async def working(self) -> None:
        """Until the engine is at it."""
        assert await asyncio.to_thread(self.session.running.wait, 15)
        self.session.running.clear()


def at_desk(session: Preparing, work: Any) -> Preparing:
    """Run `work(desk)` on an event loop."""

    async def go() -> None:
        desk = Desk(session)
        try:
            await work(desk)
        finally:
            session.cancel()
            desk.runner.close()

    run_async(go())
    return session


def test_the_place_under_the_hand_is_prepared_once() -> None:
    async def work(desk: Desk) -> None:
        for ras in ((20, 30, 30), (21, 30, 30), (20, 31, 32)):
            desk.prefetch.aim(ras)
            await desk.settled()

    assert at_desk(Preparing(), work).begun == [(20, 30, 30)]


def test_a_hand_that_moves_on_gives_up_the_place_it_left() -> None:
    async def work(desk: Desk) -> None:
        desk.prefetch.aim((20, 30, 30))
        await desk.working()
        desk.prefetch.aim((30, 30, 30))
        desk.prefetch.aim((50, 30, 30))
        await desk.working()

    session = at_desk(Preparing(slow=True), work)
    assert session.begun == [(20, 30, 30), (50, 30, 30)], "only the newest place counts"
    assert session.given_up[0] == (20, 30, 30)


def test_a_click_elsewhere_does_not_wait_for_what_is_prepared() -> None:
    async def work(desk: Desk) -> None:
        desk.prefetch.aim((20, 30, 30))
        await desk.working()
        async with asyncio.timeout(15):
            await desk.click(50, 30, 30)

    assert at_desk(Preparing(slow=True), work).given_up == [(20, 30, 30)]


def test_a_click_at_the_prepared_place_lets_it_finish() -> None:
    async def work(desk: Desk) -> None:
        desk.prefetch.aim((20, 30, 30))
        await desk.working()
        click = asyncio.create_task(desk.click(21, 30, 30))
        await asyncio.sleep(0.1)
        assert not desk.session.given_up
        assert not click.done()
        desk.prefetch.aim((50, 30, 30))  # the hand leaves while its click is being answered
        await asyncio.sleep(0.1)
        assert not desk.session.given_up
        desk.session.cancel()
        await click

    assert at_desk(Preparing(slow=True), work).begun == [(20, 30, 30)]


def test_a_click_cancelled_while_it_waits_for_its_place_never_begins() -> None:
    async def work(desk: Desk) -> None:
        desk.prefetch.aim((20, 30, 30))
        await desk.working()
        click = asyncio.create_task(desk.click(20, 30, 30))
        await asyncio.sleep(0.1)
        desk.runner.cancel()
        with pytest.raises(CancelledError):
            await click

    session = at_desk(Preparing(slow=True), work)
    assert session.given_up == [(20, 30, 30)]
    assert session.prompts == ()


def test_corrections_are_prepared_too_but_nothing_outside_the_scan() -> None:
    async def work(desk: Desk) -> None:
        desk.prefetch.aim((-5, 30, 30))
        await desk.settled()
        await desk.click(30, 30, 30)
        assert desk.session.begun == []
        desk.prefetch.aim((10, 30, 30))
        await desk.settled()

    assert at_desk(Preparing(), work).begun == [(10, 30, 30)]


@contextmanager
def worker_lines() -> Iterator[list[str]]:
    """What the page's process says on its standard error."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener, logger = Listener(), logging.getLogger("FastSAM3DWeb.front.workers")
    level = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.DEBUG)
    try:
        yield said
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)


def wait_for_line(app: AppPage, said: list[str], word: str, place: str = "") -> np.ndarray:
    """The voxel of the first line with a word in it, and a place."""
    for _ in range(200):
        for line in said:
            if word in line and place in line:
                return np.array([int(part) for part in line.split(word)[1].split()])
        app.page.wait_for_timeout(50)
    pytest.fail(f"no line with {word!r}")


def test_in_the_page_a_moving_hand_prepares_and_gives_up(fresh: AppPage, phantom: Phantom) -> None:
    target = np.array(phantom.balls[1].center_ras)
    slow = phantom.affine[:3, :3] @ [8, 56, 40] + phantom.affine[:3, 3]
    fresh.show_slice("Red", target)
    with worker_lines() as said:
        # The hand never rests: 45 mm in one and a half seconds.
        for step in np.linspace(0, 1, 30):
            fresh.page.mouse.move(*fresh.place("Red", np.add(target, (0, 45 * step - 22, 0))))
            fresh.page.wait_for_timeout(50)
        while_moving = [line for line in said if "prefetch" in line]
        assert while_moving, "nothing was prepared before the hand came to rest"
        ijk = wait_for_line(fresh, said, "prefetch")
        where = phantom.affine[:3, :3] @ ijk + phantom.affine[:3, 3]
        assert abs(where[0] - target[0]) < 2.5
        said.clear()
        fresh.page.mouse.move(*fresh.place("Red", slow))
        given_up_at = wait_for_line(fresh, said, "prefetch", " 8 56 ")  # on a slow machine, after the hand's last
        fresh.click("Red", target)
        assert np.array_equal(wait_for_line(fresh, said, "given up"), given_up_at)
    fresh.page.wait_for_function("() => window.trame.state.get('segments')[0].volume !== ''")
