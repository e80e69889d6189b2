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
from Testing.web.scans import write_4d

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "FastSAM3DWeb.cli", *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        env={**ENVIRONMENT, **environment},
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "set a token first"),
        (["--host", "192.168.0.7", "--no-open"], "set a token first"),
        (["nowhere.nii.gz"], "nowhere.nii.gz does not exist"),
        (["--segmentation", "nowhere.seg.nrrd"], "There is no segmentation nowhere.seg.nrrd"),
        (["--segmentation", __file__], "its name must end in .seg.nrrd"),
        (["--token-file", "nowhere.txt"], "cannot read the token file"),
        (["--series", "3"], "name the scan too"),
        (["--model", "nope"], "Unknown model 'nope'"),
        (["--model", "nowhere.safetensors"], "nowhere.safetensors cannot be read"),
        (["--device", "abacus"], "Unknown device 'abacus'"),
    ],
)
def test_bad_usage_is_refused_with_one_clear_line(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize("module", ["aiohttp", "trame", "trame_slicer"])
def test_without_its_packages_it_says_how_to_get_them(module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from FastSAM3DCore.cli import main; sys.exit(main(['web']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert module in done.stderr
    assert "pip install '.[web]'" in done.stderr


def test_a_volume_of_a_4d_scan_is_chosen_or_asked_for(tmp_path: Path) -> None:
    path = write_4d(tmp_path / "perfusion.nii.gz")
    assert "choose one with --frame 0 to 2" in run(str(path)).stderr
    assert "no frame 7" in run(str(path), "--frame", "7").stderr
    assert "Unknown model" in run(str(path), "--frame", "2", "--model", "nope").stderr, "frame 2 is there"


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
        env=ENVIRONMENT,
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
