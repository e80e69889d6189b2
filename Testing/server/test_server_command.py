"""`fastsam3d serve` as a process of its own, with the bundled model."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from FastSAM3DCore.cli import main
from FastSAM3DCore.cli.serve import is_loopback
from FastSAM3DCore.errors import RemoteError
from FastSAM3DCore.serving import RemoteSession
from FastSAM3DCore.weights.identity import identify
from Testing.core.phantoms import ball_scan

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "k" * 20


@contextmanager
def served(*options):
    """The command, until it says where it listens; stopped by Ctrl+C."""
    command = [sys.executable, "-m", "FastSAM3DCore.cli", "serve", "--port", "0", "--device", "cpu", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as made:
        line = made.stdout.readline()
        try:
            yield line, re.search(r"https?://\S+:\d+", line).group()
        finally:
            made.send_signal(signal.SIGINT)
            _, errors = made.communicate(timeout=30)
        assert made.returncode == 0, errors
        assert "Traceback" not in errors


def test_a_session_with_the_bundled_model_over_the_network_equals_a_local_one(tmp_path):
    from FastSAM3DCore import open_session

    key = tmp_path / "key"
    key.write_text(f"{TOKEN}\n")
    volume = ball_scan()[0]
    local = open_session("default", "cpu")
    local.set_image(volume)
    local.add_point((26, 24, 17))
    with served("--token-file", str(key)) as (line, url):
        assert "key needed" in line
        assert str(identify("default")) in line
        with pytest.raises(RemoteError, match="key"):
            RemoteSession(url, "wrong")
        session = RemoteSession(url, TOKEN)
        assert session.model == local.model
        session.set_image(volume)
        session.add_point((26, 24, 17))
        assert local.mask().any()
        assert np.array_equal(session.mask(), local.mask())
        session.close()


def run(capsys, *arguments):
    code = main(["serve", *arguments])
    return code, capsys.readouterr().err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gpu-server"])
def test_beyond_loopback_a_key_is_demanded(capsys, host):
    code, error = run(capsys, "--host", host)
    assert code == 2
    assert "needs a key" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [("short", "at least 16"), ("two words in it, long", "one word"), ("schlüsselschlüssel", "letters and digits")],
)
def test_a_weak_key_is_refused_with_a_way_to_make_a_good_one(capsys, tmp_path, content, said):
    (tmp_path / "key").write_text(content, encoding="utf-8")
    code, error = run(capsys, "--token-file", str(tmp_path / "key"))
    assert code == 2
    assert said in error
    assert "secrets.token_urlsafe" in error


def test_a_missing_key_file_or_certificate_is_said(capsys, tmp_path):
    assert "cannot be read" in run(capsys, "--token-file", str(tmp_path / "no"))[1]
    assert "There is no file" in run(capsys, "--ssl-certfile", str(tmp_path / "no"))[1]


def test_a_key_without_its_certificate_is_refused(capsys, tmp_path):
    (tmp_path / "key.pem").write_text("a key")
    code, error = run(capsys, "--ssl-keyfile", str(tmp_path / "key.pem"))
    assert code == 2
    assert "--ssl-certfile" in error
    assert error.count("\n") == 1


def test_a_certificate_that_cannot_be_used_is_one_line_and_no_address_is_announced(capsys, tmp_path):
    certificate = tmp_path / "cert.pem"
    certificate.write_text("not a certificate")
    code = main(["serve", "--port", "0", "--device", "cpu", "--ssl-certfile", str(certificate)])
    out, error = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert f"{certificate} cannot be used" in error
    assert error.count("\n") == 1


def test_a_taken_port_is_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, error = run(capsys, "--port", str(taken.getsockname()[1]))
    assert code == 2
    assert "Cannot listen" in error
    assert error.count("\n") == 1


def test_loopback_is_known_by_number_and_name():
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.evil.example"))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_certificate_makes_it_https(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    with served("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)) as (_, url):
        assert url.startswith("https://")
        context = ssl.create_default_context(cafile=str(certificate))
        with urllib.request.urlopen(f"{url}/health", context=context, timeout=10) as answer:
            assert answer.read() == b'{"status":"ok"}'
        with pytest.raises(RemoteError):  # nobody vouches for it
            RemoteSession(url)
