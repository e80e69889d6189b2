"""Where downloads come from and go to: mirrors, files, proxies, full and locked disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from FastSAM3DCore import OutputError, WeightsError
from FastSAM3DCore.weights.cache import WeightsCache
from FastSAM3DCore.weights.download import download_weights, mirror_urls
from FastSAM3DCore.weights.files import exclusive
from FastSAM3DCore.weights.manifest import manifest_entry
from FastSAM3DCore.weights.transfer import PartState, write_state
from Testing.core.weights_downloading import assert_installed, assert_nothing_installed, download
from Testing.core.weights_helpers import install_tree
from Testing.core.weights_server import Behaviour, proxying, serving


def test_the_next_address_is_tried_when_a_mirror_has_nothing(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(b"", Behaviour(status=404)) as mirror, serving(content) as server:
        record, _ = download(server, cache, tmp_path, monkeypatch, mirror=mirror.url("/local"))
    assert mirror.asked[0]["path"] == "/local/repo/FastSAM3D.pth"
    assert record.source == server.url()
    assert_installed(cache)


def test_mirrors_come_before_the_official_address() -> None:
    entry = manifest_entry("fastsam3d")
    official = "https://huggingface.co/techlove/FastSAM3D/resolve/main/FastSAM3D.pth"
    path = "/techlove/FastSAM3D/resolve/main/FastSAM3D.pth"
    assert mirror_urls(entry, None, {}) == [official]
    assert mirror_urls(entry, "https://m.example/hf/", {"FASTSAM3D_MIRROR": "http://inside.example"}) == [
        "https://m.example/hf" + path,
        "http://inside.example" + path,
        official,
    ]
    assert mirror_urls(entry, "file:///media/usb/FastSAM3D.pth", {})[0] == "file:///media/usb/FastSAM3D.pth"


def test_a_file_address_serves_sites_without_network(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stick = tmp_path / "my stick" / "FastSAM3D.pth"
    stick.parent.mkdir()
    stick.write_bytes(content)
    with serving(content, Behaviour(status=404)) as server:
        record, _ = download(server, cache, tmp_path, monkeypatch, mirror=stick.as_uri())
    assert server.asked == []
    assert record.source == stick.as_uri()
    assert stick.read_bytes() == content
    assert_installed(cache)


def test_a_proxy_of_the_environment_is_used(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(content) as server, proxying("weights.example", server.base, seen) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        install_tree(tmp_path, monkeypatch, fastsam3d={"urls": ["http://weights.example/repo/FastSAM3D.pth"]})
        record, _ = download(server, cache, tmp_path, monkeypatch)
    assert seen == ["http://weights.example/repo/FastSAM3D.pth"]
    assert record.source_sha256 == server.sha256


def test_a_full_disk_is_reported_and_leaves_nothing_behind(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    part = cache.part_of("fastsam3d")
    part.parent.mkdir(parents=True)
    part.symlink_to(full)
    with serving(content) as server:
        write_state(part, PartState(server.url()))
        with pytest.raises(OutputError, match="No space left on device"):
            download(server, cache, tmp_path, monkeypatch)
    assert_nothing_installed(cache)
    assert not part.is_symlink()


def test_a_file_larger_than_the_free_space_is_refused_before_it_is_written(
    cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serving(b"abc", Behaviour(claim=10**18)) as server,
        pytest.raises(OutputError, match="MB free, the download needs 1000000000000 MB"),
    ):
        download(server, cache, tmp_path, monkeypatch)
    assert not cache.part_of("fastsam3d").exists()


def test_a_cache_that_cannot_be_written_is_reported(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_file").write_text("in the way")
    cache = WeightsCache(tmp_path / "a_file" / "cache")
    with serving(content) as server, pytest.raises(OutputError, match="cannot be written"):
        download(server, cache, tmp_path, monkeypatch)
    assert server.asked == []


def test_two_downloads_of_one_model_do_not_write_the_same_file(
    content: bytes, cache: WeightsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serving(content) as server,
        exclusive(cache.downloads / "fastsam3d.lock"),
        pytest.raises(OutputError, match="Another process"),
    ):
        download(server, cache, tmp_path, monkeypatch)
    assert server.asked == []


def test_the_bundled_model_is_not_downloaded(cache: WeightsCache) -> None:
    with pytest.raises(WeightsError, match="comes with the installation"):
        download_weights("default", cache, lambda *_: None)
