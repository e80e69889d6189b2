"""The worker gets on although the main thread keeps Python's lock while it idles, as Slicer's event loop does."""

from __future__ import annotations

import threading
import time

from FastSAM3DSlicerLib.DeferredSession import DeferredSession
from FastSAM3DSlicerLib.Job import Job
from Testing.core.fakes import FakeSession
from Testing.mrml.slow import NEEDS_USLEEP, SMALL_STEPS, smallSteps, ticksOf

pytestmark = NEEDS_USLEEP


def test_a_tick_lets_the_worker_run_and_a_bare_pump_does_not(controller):
    def ticks(tick):
        controller.runner.submit(lambda: Job("steps", smallSteps, lambda _: None, lambda: None), lambda _: None)
        return ticksOf(controller.runner, tick)

    assert 4 * ticks(controller.tick) < ticks(controller.pump)


def test_what_follows_the_last_job_gets_on_as_well(controller):
    gate, old = threading.Event(), FakeSession()
    old.close = lambda: (gate.wait(10), smallSteps())
    controller.useSession(DeferredSession(lambda: old))
    controller.session.open()
    controller.useSession(DeferredSession(FakeSession))
    assert not controller.runner.busy
    assert controller.tick()  # again, although no prompt runs or waits
    gate.set()
    assert ticksOf(controller.runner, controller.tick) < SMALL_STEPS / 4
    assert not controller.tick()


def test_waiting_ends_with_the_job_and_takes_no_time_without_one(controller, session):
    runner = controller.runner
    start = time.monotonic()
    runner.wait(30)
    session.gate.clear()
    controller.click(25, 25, 15)
    threading.Timer(0.05, session.gate.set).start()
    runner.wait(30)
    assert time.monotonic() - start < 15
    assert runner.busy  # only `pump` takes answers
    assert not controller.tick()
    assert len(controller.logic.prompts) == 1
