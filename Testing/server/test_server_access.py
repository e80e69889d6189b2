"""Who may come in, and how much they may bring."""

from __future__ import annotations

import numpy as np
import pytest
import requests

from FastSAM3DCore.errors import ImageError, RemoteError
from FastSAM3DCore.serving import RemoteSession
from FastSAM3DCore.serving.registry import Limits
from FastSAM3DCore.types import Volume
from Testing.server.running import running

TOKEN = "correct-horse-battery"


def scan(*shape):
    return Volume(np.arange(np.prod(shape), dtype=np.int16).reshape(shape))


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
        first.set_image(scan(13, 12, 12))  # its own old scan does not count
        third = RemoteSession(server.url)
        with pytest.raises(RemoteError, match="full of other scans"):
            third.set_image(scan(12, 12, 12))
        second.close()
        third.set_image(scan(12, 12, 12))


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
