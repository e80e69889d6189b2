"""Sessions of several clients: whose turn it is, cancelling, idling, and what a lost connection costs."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import requests

from FastSAM3DCore.errors import CancelledError, DeviceError, ImageError, PromptError, RemoteError
from FastSAM3DCore.prompts import prompts_to_json
from FastSAM3DCore.serving import RemoteSession, connection
from FastSAM3DCore.serving.registry import Limits
from FastSAM3DCore.serving.wire import pack
from FastSAM3DCore.types import Volume
from Testing.core.fakes import FakeSession
from Testing.server.running import running
from Testing.server.slow import Proxy, SlowSession, wait_for


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(connection, "PAUSE_SECONDS", 0.01)


def scan(size=24):
    return Volume(np.random.default_rng(0).integers(0, 99, (size,) * 3).astype(np.int16))


def opened(server, **options):
    session = RemoteSession(server.url, **options)
    session.set_image(scan())
    return session


def in_background(call):
    """Run a call in a thread; returns (thread, result list)."""
    results = []

    def run():
        try:
            results.append(call())
        except (RemoteError, CancelledError, PromptError) as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, results


def test_clients_do_not_see_each_other():
    with running() as server:
        one, two = opened(server), opened(server)
        one.add_point((5, 5, 5))
        two.add_point((18, 18, 18))
        assert one.mask()[5, 5, 5]
        assert not one.mask()[18, 18, 18]
        assert not two.mask()[5, 5, 5]
        two.undo()
        assert not two.mask().any()
        assert len(one.prompts) == 1


def test_a_busy_network_does_not_keep_the_server_from_answering_others():
    made = []
    with running(lambda: made.append(SlowSession()) or made[-1]) as server:
        session = opened(server)
        made[0].gate.clear()
        thread, results = in_background(lambda: session.add_point((5, 5, 5)))
        assert made[0].entered.wait(10)
        assert requests.get(f"{server.url}/health", timeout=5).json() == {"status": "ok"}
        other = RemoteSession(server.url)
        assert other.model == session.model
        made[0].gate.set()
        thread.join(10)
        assert not results[0].box.is_empty


def test_one_client_that_sends_many_calls_waits_behind_the_others_each_time():
    made, order = [], []

    def factory():
        session = SlowSession()
        session.order = order
        made.append(session)
        return session

    with running(factory) as server:
        greedy, modest = opened(server), opened(server)
        made[0].name, made[1].name = "greedy", "modest"
        made[0].gate.clear()
        url = f"{server.url}/v1/sessions/{greedy._id}/calls"
        bodies = [pack({"call": "add_point", "number": n, "ijk": [5, 5, n], "positive": True}) for n in range(1, 4)]
        threads = [in_background(lambda b=body: requests.post(url, data=b, timeout=20))[0] for body in bodies]
        wait_for(lambda: server.leases[greedy._id].waiting == 3)
        thread, _ = in_background(lambda: modest.add_point((9, 9, 9)))
        wait_for(lambda: server.leases[modest._id].waiting == 1)
        time.sleep(0.1)  # its call is with the worker now
        made[0].gate.set()
        for waiting in (*threads, thread):
            waiting.join(10)
        assert order.index("modest") == 1, order


def test_a_client_that_floods_the_server_is_refused():
    made = []
    with running(lambda: made.append(SlowSession()) or made[-1]) as server:
        session = opened(server)
        made[0].gate.clear()
        url = f"{server.url}/v1/sessions/{session._id}/calls"
        body = lambda n: pack({"call": "add_point", "number": n, "ijk": [5, 5, n], "positive": True})  # noqa: E731
        runs = [in_background(lambda n=n: requests.post(url, data=body(n), timeout=20)) for n in range(1, 7)]
        wait_for(lambda: sum(len(results) for _, results in runs) == 2)
        made[0].gate.set()
        for thread, _ in runs:
            thread.join(10)
        codes = sorted(results[0].status_code for _, results in runs)
        assert codes.count(RemoteError.http_status) >= 2
        assert 200 in codes


def test_cancel_stops_the_running_prompt_and_changes_nothing():
    made = []
    with running(lambda: made.append(SlowSession()) or made[-1]) as server:
        session = opened(server)
        session.add_point((5, 5, 5))
        before, log = session.mask(), prompts_to_json(session.prompts)
        made[0].gate.clear()
        made[0].entered.clear()
        thread, results = in_background(lambda: session.add_point((18, 18, 18)))
        assert made[0].entered.wait(10)
        start = time.monotonic()
        session.cancel()
        assert time.monotonic() - start < 1.0
        thread.join(10)
        assert isinstance(results[0], CancelledError)
        assert np.array_equal(session.mask(), before)
        assert prompts_to_json(session.prompts) == log
        assert not session.add_point((18, 18, 18)).box.is_empty


def test_cancel_also_stops_a_prompt_that_waits_for_another_client():
    made = []
    with running(lambda: made.append(SlowSession()) or made[-1]) as server:
        first, second = opened(server), opened(server)
        made[0].gate.clear()
        blocking, _ = in_background(lambda: first.add_point((5, 5, 5)))
        assert made[0].entered.wait(10)
        thread, results = in_background(lambda: second.add_point((5, 5, 5)))
        wait_for(lambda: server.leases[second._id].waiting == 1)
        second.cancel()
        wait_for(lambda: server.leases[second._id].cancelled)
        made[0].gate.set()
        thread.join(10)
        blocking.join(10)
        assert isinstance(results[0], CancelledError)
        assert not made[1].entered.is_set()
        assert not second.add_point((5, 5, 5)).box.is_empty


def test_a_cancel_with_nothing_to_stop_does_not_stop_the_next_prompt():
    with running(SlowSession) as server:
        session = opened(server)
        requests.post(f"{server.url}/v1/sessions/{session._id}/cancel", timeout=5)
        assert not session.add_point((5, 5, 5)).box.is_empty


def test_an_idle_session_is_closed_and_goes_on_from_its_log_when_it_is_used_again():
    made = []
    with running(lambda: made.append(FakeSession()) or made[-1], limits=Limits(idle_seconds=0.5)) as server:
        session = opened(server)
        session.add_point((5, 5, 5))
        session.add_point((9, 9, 9))
        session.set_threshold(0.4)
        before = session.mask()
        wait_for(lambda: not server.leases)
        wait_for(lambda: made[0].closed)
        assert np.array_equal(session.mask(), before)
        assert len(made) == 2
        assert [p.point_ijk for p in session.prompts] == [(5, 5, 5), (9, 9, 9)]
        session.add_point((15, 15, 15))
        assert session.mask()[15, 15, 15]
        assert len(session.prompts) == 3


def test_a_session_in_use_is_not_idle():
    made = []
    limits = Limits(idle_seconds=0.2)
    with running(lambda: made.append(SlowSession()) or made[-1], limits=limits) as server:
        session = opened(server)
        made[0].gate.clear()
        thread, results = in_background(lambda: session.add_point((5, 5, 5)))
        assert made[0].entered.wait(10)
        time.sleep(0.6)
        assert len(server.leases) == 1
        made[0].gate.set()
        thread.join(10)
        assert not results[0].box.is_empty


def test_a_server_that_was_started_again_is_noticed_and_work_goes_on():
    with running() as server:
        session = opened(server)
        session.add_point((5, 5, 5))
        before, url = session.mask(), server.url
    with pytest.raises(RemoteError, match=r"connection to .* is broken"):
        session.add_point((9, 9, 9))
    assert len(session.prompts) == 1
    with running(port=int(url.rsplit(":", 1)[1])):
        session.add_point((18, 18, 18))
        assert session.mask()[before == 1].all()
        assert len(session.prompts) == 2
        while session.can_undo:
            session.undo()
        with pytest.raises(PromptError, match="nothing to undo"):
            session.undo()


@pytest.fixture
def through_proxy():
    made = []
    with running(lambda: made.append(FakeSession()) or made[-1]) as server:
        host, port = server.url.removeprefix("http://").split(":")
        proxy = Proxy((host, int(port)))
        session = RemoteSession(proxy.url)
        session.set_image(scan())
        yield session, proxy, made, server
        proxy.close()


def test_an_answer_that_was_lost_on_its_way_is_fetched_again_and_not_computed_twice(through_proxy):
    session, proxy, made, _ = through_proxy
    proxy.break_next = 1
    update = session.add_point((5, 5, 5))
    assert update.prompt_id == 1
    assert len(made) == 1
    assert len(made[0].prompts) == len(session.prompts) == 1
    session.undo()
    with pytest.raises(PromptError, match="nothing to undo"):
        session.undo()


def test_a_connection_that_stays_broken_is_one_clear_error_and_changes_nothing(through_proxy):
    session, proxy, made, server = through_proxy
    session.add_point((5, 5, 5))
    before, log = session.mask(), prompts_to_json(session.prompts)
    proxy.break_next = 2
    with pytest.raises(RemoteError, match="check the address, the network and whether the server runs"):
        session.add_point((18, 18, 18))
    assert prompts_to_json(session.prompts) == log
    assert np.array_equal(session.mask(), before)  # from a session of its own: what became of the other is not known
    session.add_point((12, 12, 12))
    assert len(session.prompts) == 2
    assert not session.mask()[18, 18, 18]
    wait_for(lambda: len(server.leases) == 1)
    assert made[0].closed


def test_a_scan_whose_upload_breaks_is_sent_again(through_proxy):
    session, proxy, _, server = through_proxy
    proxy.break_next = 1
    session.set_image(scan(20))
    assert session.mask().shape == (20, 20, 20)
    assert len(server.leases) == 1


def test_a_scan_of_which_nobody_knows_whether_it_was_taken_leaves_the_old_one_in_force(through_proxy):
    session, proxy, made, server = through_proxy
    session.add_point((5, 5, 5))
    session.set_threshold(0.4)
    before, log = session.mask(), prompts_to_json(session.prompts)
    take = made[0].set_image

    def take_and_break(volume):
        take(volume)
        proxy.break_next = 1

    made[0].set_image = take_and_break
    with pytest.raises(RemoteError, match="check the address, the network and whether the server runs"):
        session.set_image(scan(20))
    assert made[0].mask().shape == (20, 20, 20)
    assert prompts_to_json(session.prompts) == log
    assert session.can_undo
    assert np.array_equal(session.mask(), before)
    session.add_point((12, 12, 12))
    assert len(session.prompts) == 2
    wait_for(lambda: len(server.leases) == 1)


def test_a_scan_that_is_refused_after_the_session_was_lost_leaves_the_old_one_in_force():
    with running() as server:
        session = opened(server)
        session.add_point((5, 5, 5))
        before, log = session.mask(), prompts_to_json(session.prompts)
        server.leases.clear()
        with pytest.raises(ImageError, match="NaN"):
            session.set_image(Volume(np.full((8, 8, 8), np.nan, np.float32)))
        assert prompts_to_json(session.prompts) == log
        assert np.array_equal(session.mask(), before)
        session.set_image(scan(20))
        assert session.prompts == ()
        assert not session.mask().any()


def test_numbers_out_of_step_are_refused():
    with running() as server:
        session = opened(server)
        session.add_point((5, 5, 5))
        session._number = 0
        with pytest.raises(RemoteError, match="out of step"):
            session.add_point((9, 9, 9))


def test_only_new_prompts_travel_with_an_answer():
    with running() as server:
        session = opened(server)
        noise = np.random.default_rng(0).random((24, 24, 24)) > 0.5
        session.set_mask(noise)
        assert np.array_equal(session.prompts[0].mask_kji(), noise)
        lease = server.only()
        session.add_point((5, 5, 5))
        small = len(lease.answer.body)
        assert small < 3000 < len(noise.tobytes())
        session.undo()
        session.redo()
        session.move_prompt(session.prompts[1].id, (7, 7, 7))
        session.remove_prompt(session.prompts[0].id)
        expected = lease.session.prompts
        assert prompts_to_json(session.prompts) == prompts_to_json(expected)


def test_what_goes_wrong_on_the_server_arrives_as_it_is():
    class Full(FakeSession):
        def add_point(self, point_ijk, positive=True):
            raise DeviceError("cuda:0 ran out of memory; choose the CPU or close other programs.")

        def add_box(self, box):
            raise ZeroDivisionError("a bug")

    from FastSAM3DCore.types import VoxelBox

    with running(Full) as server:
        session = opened(server)
        with pytest.raises(DeviceError, match="ran out of memory"):
            session.add_point((5, 5, 5))
        with pytest.raises(RemoteError, match="its log says what"):
            session.add_box(VoxelBox((1, 1, 1), (5, 5, 5)))
        session.add_scribble([(5, 5, 5), (5, 5, 9)])
        assert session.mask().any()


def test_closing_ends_the_session_on_the_server():
    made = []
    with running(lambda: made.append(FakeSession()) or made[-1]) as server:
        session = opened(server)
        session.close()
        assert server.leases == {}
        assert made[0].closed
        session.close()
        session.set_image(scan())
        assert not session.add_point((5, 5, 5)).box.is_empty
