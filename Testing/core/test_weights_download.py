"""Downloads from a real server that misbehaves in every way seen in hospitals."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch

from FastSAM3DCore import WeightsError
from FastSAM3DCore.weights.cache import WeightsCache
from FastSAM3DCore.weights.transfer import NETWORK_CHUNK, fetch
from FastSAM3DCore.weights.verify import verify_weights
from Testing.core.weights_downloading import assert_installed, assert_nothing_installed, checkpoint_bytes, download
from Testing.core.weights_helpers import TINY_TEACHER, install_tree, tiny_state
from Testing.core.weights_server import Behaviour, serving

DROP = 2 * NETWORK_CHUNK


def test_a_download_is_checked_converted_recorded_and_loads(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(content) as server:
        record, reported = download(server, cache, tmp_path, monkeypatch)
    assert record.source_sha256 == server.sha256
    assert (record.trusted, record.architecture, record.source) == ("first use", "fastsam3d", server.url())
    assert record.size < len(content)
    assert reported[-1] == (len(content), len(content))
    assert_installed(cache)
    assert [result.ok for result in verify_weights(cache, ["fastsam3d"])] == [True]


def test_a_dropped_connection_is_resumed_where_it_broke_off(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(content, Behaviour(drop_after=DROP), Behaviour(drop_after=DROP)) as server:
        record, _ = download(server, cache, tmp_path, monkeypatch)
    assert record.source_sha256 == server.sha256
    assert [asked.get("Range") for asked in server.asked] == [None, "bytes=32768-", "bytes=65536-"]
    assert server.answered == [200, 206, 206]
    assert_installed(cache)


def test_a_download_that_was_given_up_is_continued_by_the_next_call(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drops = [Behaviour(drop_after=DROP), *[Behaviour(status=503)] * 3]
    with serving(content, *drops) as server:
        with pytest.raises(WeightsError, match="the server answered 503"):
            download(server, cache, tmp_path, monkeypatch)
        assert cache.part_of("fastsam3d").stat().st_size == DROP
        assert_nothing_installed(cache)
        record, _ = download(server, cache, tmp_path, monkeypatch)
    assert server.asked[-1]["Range"] == "bytes=32768-"
    assert record.source_sha256 == server.sha256
    assert_installed(cache)


def test_a_server_that_ignores_ranges_makes_it_start_again(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(content, Behaviour(drop_after=DROP), Behaviour(ranges=False)) as server:
        record, _ = download(server, cache, tmp_path, monkeypatch)
    assert server.answered == [200, 200]
    assert record.source_sha256 == server.sha256


def test_a_file_that_changed_on_the_server_is_not_mixed_with_the_old_one(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(b"x" * 60_000, Behaviour(drop_after=50_000), *[Behaviour(status=503)] * 3) as server:
        with pytest.raises(WeightsError):
            download(server, cache, tmp_path, monkeypatch)
        server.content, server.etag = content, '"version-2"'
        record, _ = download(server, cache, tmp_path, monkeypatch)
    assert server.answered == [200, 503, 503, 503, 200]
    assert record.source_sha256 == server.sha256


def test_a_changed_file_from_a_server_that_ignores_if_range_is_not_mixed_either(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(b"x" * 60_000, Behaviour(drop_after=DROP), *[Behaviour(status=503)] * 3) as server:
        with pytest.raises(WeightsError):
            download(server, cache, tmp_path, monkeypatch)
        server.content, server.etag = content, '"version-2"'
        server.behaviours = [Behaviour(if_range=False)]
        record, _ = download(server, cache, tmp_path, monkeypatch)
    assert server.answered[-2:] == [206, 200]
    assert record.source_sha256 == server.sha256


def test_a_server_that_continues_at_the_wrong_place_makes_it_start_again(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(content, Behaviour(drop_after=DROP), Behaviour(shift=5)) as server:
        record, _ = download(server, cache, tmp_path, monkeypatch)
    assert server.answered == [200, 206, 200]
    assert record.source_sha256 == server.sha256


def test_a_partial_file_that_is_already_whole_needs_no_more_bytes(content: bytes, tmp_path: Path) -> None:
    part = tmp_path / "a.part"
    with serving(content) as server:
        fetch(server.url(), part, lambda *_: None)
        transfer = fetch(server.url(), part, lambda *_: None)
    assert server.answered == [200, 416]
    assert transfer.resumed
    assert part.read_bytes() == content


def test_a_redirect_is_followed_and_resumed_through(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redirect = Behaviour(redirect="/storage/blob")
    with serving(content, redirect, Behaviour(drop_after=DROP), redirect) as server:
        record, _ = download(server, cache, tmp_path, monkeypatch)
    assert [asked["path"] for asked in server.asked] == ["/repo/FastSAM3D.pth", "/storage/blob"] * 2
    assert server.answered == [302, 200, 302, 206]
    assert record.source_sha256 == server.sha256


def test_damage_is_found_by_the_digest_that_the_server_announced_before_its_redirect(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(content) as server:
        announced = Behaviour(redirect="/storage/blob", headers={"X-Linked-ETag": f'"{server.sha256}"'})
        server.behaviours = [announced, Behaviour(corrupt=True)]
        with pytest.raises(WeightsError, match="that the server announced"):
            download(server, cache, tmp_path, monkeypatch)
        assert_nothing_installed(cache)
        assert not cache.part_of("fastsam3d").exists()


def test_a_damaged_file_without_any_stated_digest_is_found_by_its_own_checksums(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serving(content, Behaviour(corrupt=True)) as server,
        pytest.raises(WeightsError, match="deleted because it is damaged"),
    ):
        download(server, cache, tmp_path, monkeypatch)
    assert_nothing_installed(cache)


def test_damage_while_resuming_is_repaired_by_one_fresh_start(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(content, Behaviour(drop_after=DROP), Behaviour(corrupt=True)) as server:
        record, _ = download(server, cache, tmp_path, monkeypatch, sha256=server.sha256)
    assert server.answered == [200, 206, 200]
    assert (record.source_sha256, record.trusted) == (server.sha256, "pinned")


def test_a_truncated_file_is_refused(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serving(content, Behaviour(claim=len(content) // 2)) as server,
        pytest.raises(WeightsError, match="damaged or cut short"),
    ):
        download(server, cache, tmp_path, monkeypatch)
    assert_nothing_installed(cache)
    assert not [p for p in cache.downloads.iterdir() if p.suffix != ".lock"]


def test_a_digest_that_differs_from_the_pinned_one_is_refused_and_the_file_deleted(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(content) as server, pytest.raises(WeightsError, match=f"{'0' * 64} as pinned"):
        download(server, cache, tmp_path, monkeypatch, sha256="0" * 64)
    assert_nothing_installed(cache)
    assert not cache.part_of("fastsam3d").exists()


def test_a_digest_in_the_manifest_is_enforced(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(content) as server:
        install_tree(tmp_path, monkeypatch, fastsam3d={"urls": [server.url()], "sha256": "1" * 64})
        with pytest.raises(WeightsError, match="of the manifest"):
            download(server, cache, tmp_path, monkeypatch)
    assert_nothing_installed(cache)


def test_after_the_first_use_another_file_under_the_same_name_is_refused_until_removed(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(content) as server:
        first, _ = download(server, cache, tmp_path, monkeypatch)
        buffer = io.BytesIO()
        torch.save(tiny_state(), buffer)
        server.content = buffer.getvalue()
        with pytest.raises(WeightsError, match="recorded when it was first installed"):
            download(server, cache, tmp_path, monkeypatch)
        assert cache.records()["fastsam3d"] == first
        assert_installed(cache)
        cache.remove("fastsam3d")
        second, _ = download(server, cache, tmp_path, monkeypatch)
    assert second.source_sha256 == server.sha256 != first.source_sha256


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_lasting_refusal_is_not_repeated(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with serving(content, Behaviour(status=status)) as server, pytest.raises(WeightsError, match=str(status)):
        download(server, cache, tmp_path, monkeypatch)
    assert len(server.asked) == 1


def test_a_passing_refusal_is_waited_out(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = Behaviour(status=429, headers={"Retry-After": "0"})
    with serving(content, busy, Behaviour(status=502)) as server:
        download(server, cache, tmp_path, monkeypatch)
    assert server.answered == [429, 502, 200]


def test_a_connection_that_brings_nothing_new_is_given_up(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = [Behaviour(drop_after=DROP, ranges=False) for _ in range(20)]
    with serving(content, *endless) as server, pytest.raises(WeightsError, match="keeps failing"):
        download(server, cache, tmp_path, monkeypatch)
    assert len(server.asked) == 4  # one that brought something, three that brought no more


def test_a_login_page_is_not_taken_for_weights(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(content, Behaviour(html=True)) as server, pytest.raises(WeightsError, match="login page"):
        download(server, cache, tmp_path, monkeypatch)
    assert_nothing_installed(cache)


def test_an_unreachable_server_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"127\.0\.0\.1:9/.*HTTPS_PROXY.*--mirror"):
        fetch("http://127.0.0.1:9/x.pth", tmp_path / "x.part", lambda *_: None, attempts=1, backoff=0.0)


def test_another_architecture_under_a_published_name_is_refused(
    cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serving(checkpoint_bytes(TINY_TEACHER)) as server,
        pytest.raises(WeightsError, match="architecture sam-med3d, but 'fastsam3d'"),
    ):
        download(server, cache, tmp_path, monkeypatch)
    assert_nothing_installed(cache)


def test_the_test_file_is_a_zip_whose_checksums_can_fail(content: bytes) -> None:
    damaged = bytearray(content)
    damaged[len(damaged) // 2] ^= 0x55
    with zipfile.ZipFile(io.BytesIO(damaged)) as archive:
        assert archive.testzip() is not None
