"""`fastsam3d web` on the command line: what it refuses before anything opens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from Testing.web.phantom import Phantom


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "FastSAM3DWeb.cli", *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "COLUMNS": "300", **environment},
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "set a token first"),
        (["--host", "192.168.0.7", "--no-open"], "set a token first"),
        (["nowhere.nii.gz"], "there is no scan"),
        (["--segmentation", "nowhere.seg.nrrd"], "there is no segmentation"),
        (["--token-file", "nowhere.txt"], "cannot read the token file"),
    ],
)
def test_bad_usage_is_refused_with_one_clear_line(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_short_token_is_refused() -> None:
    done = run("--host", "0.0.0.0", FASTSAM3D_WEB_TOKEN="short")
    assert done.returncode == 2
    assert "shorter than" in done.stderr


def test_a_taken_port_is_refused(phantom: Phantom) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run(str(phantom.path), "--port", str(taken.getsockname()[1]), "--no-open")
    assert done.returncode == 2
    assert "cannot listen" in done.stderr


def test_the_command_listens_on_loopback_and_leaves_at_ctrl_c(phantom: Phantom, tmp_path: Path) -> None:
    options = ["--port", "0", "--no-open", "--state-dir", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "FastSAM3DWeb.cli", str(phantom.path), *options],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    try:
        line = process.stdout.readline()
        assert "http://127.0.0.1:" in line
        url = line.split()[3]
        assert "Starting your session" in requests.get(url, timeout=10).text
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
