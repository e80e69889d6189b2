"""One worker: order, cancel, a full card, bugs, and what waits."""

from __future__ import annotations

import re
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from FastSAM3DCore.errors import DeviceError, FastSAM3DError
from FastSAM3DSlicerLib.DeferredSession import DeferredSession
from FastSAM3DSlicerLib.Job import Job
from FastSAM3DSlicerLib.SessionRunner import MAXIMUM_WAITING, SessionRunner
from Testing.mrml.conftest import whole
from Testing.mrml.slow import SlowSession, finish


def test_prompts_are_answered_on_one_persistent_worker_and_applied_in_order(controller, session):
    session.gate.clear()
    for i in (10, 25, 40):
        controller.click(i, 25, 15)
    assert controller.runner.busy
    assert whole(controller.logic).sum() == 0
    session.gate.set()
    finish(controller)
    assert [round(p.point_ijk[0]) for p in controller.logic.prompts] == [10, 25, 40]
    assert len(session.threads) == 1
    assert not session.threads & {threading.main_thread().name}
    assert np.array_equal(whole(controller.logic), session.mask())


def test_cancel_drops_what_runs_and_what_waits_and_the_next_prompt_is_right(controller, session):
    controller.click(10, 25, 15)
    finish(controller)
    before = whole(controller.logic)
    session.gate.clear()
    controller.click(25, 25, 15)
    controller.click(40, 25, 15)
    controller.runner.cancel()
    finish(controller)
    assert np.array_equal(whole(controller.logic), before)
    assert controller.sync.pointsNode(True).GetNumberOfControlPoints() == 1
    controller.click(30, 25, 15)
    finish(controller)
    assert [round(p.point_ijk[0]) for p in controller.logic.prompts] == [10, 30]
    assert np.array_equal(whole(controller.logic), session.mask())


def test_an_answer_that_comes_although_cancelled_is_taken_back(controller, session):
    session.cancel = lambda: None  # an engine that cannot be interrupted
    session.gate.clear()
    controller.click(25, 25, 15)
    controller.runner.cancel()
    session.gate.set()
    finish(controller)
    assert whole(controller.logic).sum() == 0
    controller.click(40, 25, 15)
    finish(controller)
    assert len(controller.logic.prompts) == 1
    assert np.array_equal(whole(controller.logic), session.mask())


def test_the_queue_refuses_the_twenty_second_prompt_and_keeps_the_others(controller, session):
    session.gate.clear()
    for n in range(MAXIMUM_WAITING + 1):
        controller.click(5 + 2 * n, 25, 15)
    controller.click(50, 25, 15)
    assert "wait a moment" in controller.said[-1]
    session.gate.set()
    finish(controller)
    assert len(controller.logic.prompts) == MAXIMUM_WAITING + 1
    assert controller.sync.pointsNode(True).GetNumberOfControlPoints() == MAXIMUM_WAITING + 1


def test_running_out_of_graphics_memory_goes_on_on_the_cpu_with_a_notice(controller, session):
    cpu = SlowSession()
    controller._fallback = lambda: DeferredSession(lambda: cpu)
    controller.click(10, 25, 15)
    finish(controller)
    session.failure = DeviceError("cuda:0 ran out of memory; choose the CPU or close other programs.")
    controller.click(30, 25, 15)
    finish(controller)
    assert any("ran out of memory" in line and "Continuing on the CPU" in line for line in controller.said)
    assert len(controller.logic.prompts) == 2
    assert np.array_equal(whole(controller.logic), cpu.mask())
    assert session.closed


def test_what_the_engine_gave_up_is_said_once_after_the_answer(controller, session):
    session.engine = SimpleNamespace(notices=[])
    controller.click(10, 25, 15)
    finish(controller)
    session.engine.notices.append("cuda:0 ran out of memory: scans are cut in main memory from now on.")
    controller.click(30, 25, 15)
    finish(controller)
    controller.pump()
    assert controller.said[-1] == session.engine.notices[0]
    assert len(controller.logic.prompts) == 2
    controller.click(40, 25, 15)
    finish(controller)
    controller.pump()
    assert controller.said.count(session.engine.notices[0]) == 1


def test_without_a_way_out_a_device_error_is_said_and_nothing_changes(controller, session):
    session.failure = DeviceError("cpu ran out of memory.")
    controller.click(30, 25, 15)
    finish(controller)
    assert "ran out of memory" in controller.said[-1]
    assert controller.logic.prompts == ()
    assert controller.sync.pointsNode(True).GetNumberOfControlPoints() == 0


def test_a_bug_in_the_engine_reaches_the_status_line_not_the_user_as_a_traceback(controller, session, caplog):
    session.failure = ZeroDivisionError("oops")
    controller.click(30, 25, 15)
    finish(controller)
    assert "unexpected" in controller.said[-1]
    assert "oops" in controller.said[-1]
    assert "Unexpected error in the engine" in caplog.text
    session.failure = None
    controller.click(30, 25, 15)
    finish(controller)
    assert np.array_equal(whole(controller.logic), session.mask())


def test_the_threshold_slider_computes_only_the_newest_value(controller, session):
    controller.click(25, 25, 15)
    finish(controller)
    asked = []
    original = session.set_threshold
    session.set_threshold = lambda value: (asked.append(value), original(value))[1]
    for value in np.linspace(0.45, 0.2, 30):
        controller.setThreshold(float(value))
    finish(controller)
    assert asked[-1] == pytest.approx(0.2)
    assert len(asked) < 5
    assert np.array_equal(whole(controller.logic), session.mask())
    controller.undo()
    finish(controller)
    assert controller.logic.active.log.threshold == 0.5


def test_busy_text_appears_after_a_second_only(controller, session):
    session.gate.clear()
    controller.click(25, 25, 15)
    assert controller.runner.busyText == ""
    controller.runner._started -= 60
    assert re.fullmatch(r"point: 6\d s", controller.runner.busyText)
    session.gate.set()
    finish(controller)
    assert controller.runner.busyText == ""


def test_closing_the_runner_waits_for_the_worker_and_drops_its_answer():
    dropped, session = [], SlowSession()
    runner = SessionRunner(lambda *_: None)
    session.gate.clear()
    job = Job("wait", lambda: session.gate.wait(10), lambda _: None, lambda: dropped.append(1))
    runner.submit(lambda: job, lambda _: None)
    threading.Timer(0.05, session.gate.set).start()
    runner.close()
    assert dropped == [1]


def test_what_can_wait_runs_after_every_prompt_and_only_the_newest_of_it(controller, session):
    order, runner = [], controller.runner

    def later(name):
        job = Job(
            name, lambda: threading.current_thread().name, lambda thread: order.append((name, thread)), lambda: None
        )
        runner.whenIdle(lambda: job, lambda _: order.append(f"{name} ended"))

    session.gate.clear()
    controller.click(10, 25, 15)
    later("old")
    later("new")
    controller.click(25, 25, 15)
    controller.logic.onUpdate = lambda _: order.append("prompt")
    assert runner.busy
    session.gate.set()
    finish(controller)
    (worker,) = session.threads
    assert order == ["old ended", "prompt", "prompt", ("new", worker), "new ended"]
    session.gate.clear()
    controller.click(40, 25, 15)
    later("never")
    runner.cancel()
    finish(controller)
    assert order[5:] == ["never ended"]


def test_an_edit_made_while_undo_runs_is_not_lost(controller, session):
    from Testing.mrml.conftest import setWhole

    controller.click(25, 25, 15)
    finish(controller)
    job = controller.logic.prepareTurn(redo=False)
    job.call()
    edited = whole(controller.logic)
    edited[1:3, 1:3, 1:3] = 1
    setWhole(controller.logic, controller.logic.active.segmentId, edited)
    with pytest.raises(FastSAM3DError, match="edited meanwhile"):
        job.apply(None)
    assert np.array_equal(whole(controller.logic), edited)
    controller.undo()
    finish(controller)
    assert not whole(controller.logic)[1:3, 1:3, 1:3].any()
    assert whole(controller.logic)[15, 25, 25]
