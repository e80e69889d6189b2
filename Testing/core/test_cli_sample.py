"""fastsam3d sample and doctor: the first thing a newcomer runs."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from FastSAM3DCore.cli import main
from FastSAM3DCore.cli.promptfile import read_log
from FastSAM3DCore.cli.samples import SampleScan, fetch, list_samples, locate
from FastSAM3DCore.errors import ImageError
from FastSAM3DCore.io import load_segmentation
from Testing.core.fakes import FakeSession
from Testing.core.weights_server import Behaviour, serving


def test_the_sample_is_segmented_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nilearn", reason="nilearn, which brings the offline sample, is not installed")
    monkeypatch.setattr("FastSAM3DCore.session.open_session", lambda model, device: FakeSession())
    assert main(["sample", "--offline", "--output", str(tmp_path / "new" / "out")]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    folder = tmp_path / "new" / "out"
    assert sorted(os.listdir(folder)) == ["MNI152.png", "MNI152.seg.nrrd"]
    assert str(folder / "MNI152.seg.nrrd") in out
    (segment,) = load_segmentation(folder / "MNI152.seg.nrrd").segments
    assert segment.name == "Lateral ventricle"
    assert segment.mask_kji.sum() > 1000


def test_a_downloaded_sample_is_kept_only_with_the_right_digest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "www").mkdir()
    content = os.urandom(300_000)
    (tmp_path / "www" / "scan.nrrd").write_bytes(content)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "www"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/scan.nrrd"
        digest = hashlib.sha256(content).hexdigest()
        good = SampleScan("good", "", "x", "", file="scan.nrrd", url=url, sha256=digest)
        bad = SampleScan("bad", "", "x", "", file="bad.nrrd", url=url, sha256="0" * 64)
        assert locate([bad, good], cache=tmp_path / "cache") == (good, tmp_path / "cache" / "samples" / "scan.nrrd")
        server.shutdown()
    assert "SHA-256" in caplog.text
    assert os.listdir(tmp_path / "cache" / "samples") == ["scan.nrrd"]
    assert locate([good], cache=tmp_path / "cache", offline=True)[1].read_bytes() == content


def test_a_connection_that_breaks_is_not_taken_for_a_full_disk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Behaviour(drop_after=200_000)
    with serving(os.urandom(300_000), broken, broken) as server:
        sample = SampleScan("scan", "", "x", "", file="scan.nrrd", url=server.url(), sha256=server.sha256)
        target = tmp_path / "samples" / "scan.nrrd"
        with pytest.raises(requests.RequestException):
            fetch(sample, target)
        with pytest.raises(ImageError, match="No sample scan"):
            locate([sample], cache=tmp_path)
        assert "200000 bytes read" in caplog.text
        assert os.listdir(target.parent) == []
        fetch(sample, target)
    assert target.read_bytes() == server.content


def test_every_sample_has_prompts_that_can_be_read() -> None:
    samples = list_samples()
    assert len(samples) >= 2
    for sample in samples:
        assert read_log(sample.prompt_file)["prompts"]
        assert bool(sample.url) != bool(sample.package)
        assert not sample.url or len(sample.sha256) == 64


def test_doctor_examines_this_machine(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json", "--cache", str(tmp_path / "new" / "cache")])
    report = json.loads(capfd.readouterr().out)
    findings = {finding["what"]: finding for finding in report["findings"]}
    assert findings["cpu"]["state"] == "ok"
    assert {"version", "torch", "memory", "default weights", "cache", "disk", "plot"} <= findings.keys()
    assert code == (0 if report["works"] else 1)
    assert all(finding["advice"] for finding in report["findings"] if finding["state"] == "problem")
    assert not (tmp_path / "new").exists()


def test_doctor_as_a_table_says_what_to_do(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--cache", str(tmp_path)])
    out = capfd.readouterr().out
    assert "torch" in out
    assert "free" in out
