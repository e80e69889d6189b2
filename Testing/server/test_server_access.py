"""Who may come in, and how much they may bring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection

import numpy as np
import pytest
import requests

from FastSAM3DCore.errors import ImageError, RemoteError
from FastSAM3DCore.serving import RemoteSession
from FastSAM3DCore.serving.registry import Limits
from FastSAM3DCore.serving.uploads import GEOMETRY_HEADER, geometry_of
from FastSAM3DCore.types import Volume
from Testing.server.running import Running, running
from Testing.server.slow import wait_for

TOKEN = "correct-horse-battery"


def scan(*shape):
    return Volume(np.arange(np.prod(shape), dtype=np.int16).reshape(shape))


def unusable(*shape):
    return Volume(np.full(shape, np.nan, np.float32))


@contextmanager
def stalled(server: Running, method: str, path: str, volume: Volume) -> Iterator[HTTPConnection]:
    """A request to a session of which one byte comes and then nothing."""
    with closing(HTTPConnection(server.url.removeprefix("http://"), timeout=10)) as connection:
        connection.putrequest(method, f"/v1/sessions/{path}")
        connection.putheader("Content-Length", "1000")
        connection.putheader(GEOMETRY_HEADER, geometry_of(volume))
        connection.endheaders(b"x")
        yield connection


def test_without_the_right_key_nobody_comes_in():
    with running(token=TOKEN) as server:
        for wrong in ("", "wrong", TOKEN + "x", TOKEN[:-1]):
            with pytest.raises(RemoteError, match="key"):
                RemoteSession(server.url, wrong)
        assert server.leases == {}
        session = RemoteSession(server.url, TOKEN)
        session.set_image(scan(12, 12, 12))
        assert not session.add_point((5, 5, 5)).box.is_empty
        for method, path in (
            ("DELETE", ""),
            ("POST", "/calls"),
            ("PUT", "/volume"),
            ("POST", "/cancel"),
        ):
            url = f"{server.url}/v1/sessions/{session._id}{path}"
            assert requests.request(method, url, timeout=5).status_code == 401
        assert len(server.leases) == 1
        assert requests.get(f"{server.url}/health", timeout=5).json() == {"status": "ok"}


def test_one_client_cannot_name_anothers_session_by_guessing():
    with running() as server:
        ids = {RemoteSession(server.url)._id for _ in range(3)}
        assert len(ids) == 3
        assert min(len(name) for name in ids) >= 32


def test_web_pages_are_turned_away():
    with running() as server:
        answer = requests.post(f"{server.url}/v1/sessions", headers={"Origin": "http://evil.example"}, timeout=5)
        assert answer.status_code == 403
        assert server.leases == {}
        for path in ("/docs", "/openapi.json", "/redoc"):
            assert requests.get(server.url + path, timeout=5).status_code == 404


def test_a_scan_that_is_too_large_is_refused_before_it_is_sent_and_the_session_goes_on():
    with running(limits=Limits(volume_bytes=4000)) as server:
        session = RemoteSession(server.url)
        with pytest.raises(ImageError, match="this server takes"):
            session.set_image(scan(20, 20, 20))
        with pytest.raises(ImageError, match="No scan"):
            session.add_point((5, 5, 5))
        session.set_image(scan(12, 12, 12))
        assert not session.add_point((5, 5, 5)).box.is_empty


def test_all_scans_together_are_bounded_and_a_closed_session_makes_room():
    with running(limits=Limits(total_bytes=8000)) as server:
        first, second = RemoteSession(server.url), RemoteSession(server.url)
        first.set_image(scan(12, 12, 12))
        second.set_image(scan(12, 12, 12))
        first.add_point((5, 5, 5))
        third = RemoteSession(server.url)
        for session in (first, third):  # until a new scan is taken, the old one is kept beside it
            with pytest.raises(RemoteError, match="full of scans"):
                session.set_image(scan(12, 12, 12))
        first.undo()  # the session it had, not one with the log replayed
        second.close()
        first.set_image(scan(11, 12, 12))
        third.set_image(scan(12, 12, 12))
        assert sum(lease.nbytes for lease in server.leases.values()) == (11 + 12) * 12 * 12 * 2


def test_to_announce_a_scan_changes_nothing():
    with running() as server:
        session = RemoteSession(server.url)
        session.set_image(scan(12, 12, 12))
        url, headers = f"{server.url}/v1/sessions/{session._id}/volume", {GEOMETRY_HEADER: geometry_of(scan(1, 1, 2))}
        assert requests.post(url, headers=headers, timeout=5).status_code == 204
        assert (server.only().nbytes, server.only().voxels) == (3456, 1728)
        assert not session.set_mask(np.ones((12, 12, 12))).box.is_empty


def test_a_scan_that_is_refused_after_it_came_takes_no_room_and_the_old_one_stays():
    with running(limits=Limits(total_bytes=5000)) as server:
        session = RemoteSession(server.url)
        session.set_image(scan(12, 12, 12))
        for _ in range(3):
            with pytest.raises(ImageError, match="NaN"):
                session.set_image(unusable(5, 6, 7))
        assert (server.only().nbytes, server.only().voxels) == (3456, 1728)
        assert not session.set_mask(np.ones((12, 12, 12))).box.is_empty


@pytest.mark.parametrize(("method", "path"), [("PUT", "volume"), ("POST", "calls")])
def test_a_request_that_stalls_is_given_up_and_its_session_expires(method, path):
    with running(limits=Limits(sessions=1, idle_seconds=0.2, stalled_seconds=0.1)) as server:
        session = RemoteSession(server.url)
        with stalled(server, method, f"{session._id}/{path}", scan(12, 12, 12)) as connection:
            answer = connection.getresponse()
            assert answer.status == RemoteError.http_status
            assert b"Nothing came for 0.1 s" in answer.read()
        wait_for(lambda: not server.leases)
        RemoteSession(server.url).set_image(scan(12, 12, 12))


def test_a_scan_on_its_way_has_its_room_even_if_its_session_is_closed_meanwhile():
    with running(limits=Limits(total_bytes=5000, stalled_seconds=0.5)) as server:
        session, other = RemoteSession(server.url), RemoteSession(server.url)
        with stalled(server, "PUT", f"{session._id}/volume", scan(12, 12, 12)) as connection:
            wait_for(lambda: server.leases[session._id].waiting == 1)
            session.close()
            with pytest.raises(RemoteError, match="full of scans"):
                other.set_image(scan(12, 12, 12))
            connection.getresponse().read()
        other.set_image(scan(12, 12, 12))


def test_a_full_server_says_so():
    with running(limits=Limits(sessions=2)) as server:
        one, _two = RemoteSession(server.url), RemoteSession(server.url)
        with pytest.raises(RemoteError, match="in use"):
            RemoteSession(server.url)
        one.close()
        RemoteSession(server.url)


def test_a_call_that_is_too_long_is_not_read():
    with running(limits=Limits(call_bytes=1000)) as server:
        session = RemoteSession(server.url)
        session.set_image(scan(12, 12, 12))
        with pytest.raises(ImageError, match="not read"):
            session.add_scribble(np.random.default_rng(0).random((500, 3)) * 10)
        assert not session.add_point((5, 5, 5)).box.is_empty


@pytest.mark.parametrize("fill", [np.nan, np.inf])
def test_an_unusable_scan_is_refused_with_the_reason_a_local_session_gives(fill):
    array = np.arange(512, dtype=np.float32).reshape(8, 8, 8)
    array[3, 3, 3] = fill
    with running() as server, pytest.raises(ImageError, match="NaN or infinite"):
        RemoteSession(server.url).set_image(Volume(array))


def test_garbage_is_answered_not_carried_out():
    with running() as server:
        session = RemoteSession(server.url)
        session.set_image(scan(12, 12, 12))
        url = f"{server.url}/v1/sessions/{session._id}"
        for body in (b"", b"\x80\x04\x95pickle", b"FS3D\x01\n\xff\xff\xff\xff"):
            answer = requests.post(f"{url}/calls", data=body, timeout=5)
            assert answer.status_code == RemoteError.http_status
            assert answer.json()["error"] == "RemoteError"
        assert requests.put(f"{url}/volume", data=b"x", timeout=5).status_code == RemoteError.http_status
        assert session.prompts == ()
        assert not session.mask().any()
