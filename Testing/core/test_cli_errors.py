"""The command line refuses: exit code 2, one line on standard error, nothing written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from FastSAM3DCore.cli import main
from Testing.core.dicom_files import stack, write_series
from Testing.core.image_files import BAD_SCANS, voxels, write_image, write_nifti

ROOT = Path(__file__).resolve().parents[2]
POINT = ("--point", "5,5,5")
OTHER_MASK = json.dumps(
    {"format": "fastsam3d-prompts/1", "prompts": [{"id": 1, "kind": "mask", "shape_kji": [1, 1, 2], "runs": [2]}]}
)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """14 x 12 x 10 voxels of 1 mm, R 0 to 13, A 0 to 11, S 0 to 9."""
    return write_nifti(tmp_path / "scan.nii", voxels(), sform=np.eye(4))


def refused(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run, and return the one line of complaint."""
    assert main([str(a) for a in arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("fastsam3d: error: ")
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("name", BAD_SCANS)
def test_a_bad_scan_gives_one_line_and_no_output(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write, words = BAD_SCANS[name]
    path, output = write(tmp_path / name), tmp_path / "out" / "result.seg.nrrd"
    output.parent.mkdir()
    output.write_text("the old result")
    line = refused(capfd, "segment", path, *POINT, "-o", output)
    assert all(word.lower() in line.lower() for word in words)
    assert os.listdir(output.parent) == ["result.seg.nrrd"]
    assert output.read_text() == "the old result"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--point", "500,5,5"), "lies outside the scan; it spans R 0.0 to 13.0"),
        (
            ("--point", "5,5,500", "--coords", "ijk"),
            "i 5.0, j 5.0, k 500.0 lies outside the scan; it spans i 0.0 to 13.0",
        ),
        (("--point", "5,5,500", "--coords", "lps"), "L 5.0, P 5.0, S 500.0 lies outside the scan; it spans L -13.0 to"),
        (("--point", "5,5"), "a point needs three numbers"),
        (("--point", "a,b,c"), "a point needs three numbers"),
        (("--point", "nan,1,2"), "a point needs three numbers"),
        (("--negative", "5,5,5"), "All prompts are negative"),
        (("--box", "9,2,1,5,1,5"), "inverted: 9 is larger than 2"),
        (("--box", "1,2,1,5,1"), "a box needs six numbers"),
        (("--box", "90,95,1,5,1,5"), "lies outside the scan"),
        (("--coords", "ijk", "--box", "3,3,1,5,1,5"), "inverted or empty"),
        (("--scribble", ";"), "a scribble needs points"),
        ((), "Nothing to go by"),
        ((*POINT, "--threshold", "1.5"), "--threshold must lie between 0 and 1"),
        ((*POINT, "--color", "blue-ish"), "cannot be read; give #rrggbb"),
        ((*POINT, "--coords", "xyz"), "--coords"),
        ((*POINT, "--frame", "3"), "only one volume"),
        ((*POINT, "--frame", "-1"), "--frame"),
        ((*POINT, "--png", "picture.jpg"), "must end in .png"),
        ((*POINT, "--prompts", "nowhere.json"), "does not exist"),
        ((*POINT, "--mask", "nowhere.nii.gz"), "does not exist"),
        ((*POINT, "--model", "nonsense"), "nonsense"),
        ((*POINT, "--device", "warp"), "warp"),
        ((*POINT, "--bogus"), "No such option: --bogus"),
    ],
)
def test_bad_arguments_give_one_line_and_no_output(
    arguments: tuple[str, ...], words: str, scan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = sorted(os.listdir(tmp_path))
    assert words in refused(capfd, "segment", scan, *arguments, "-o", tmp_path / "result.seg.nrrd")
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("result.txt", "no known ending"),
        ("nowhere/result.nii.gz", "does not exist"),
        ("folder.nii.gz", "is a folder"),
        ("scan.nii", "is an input of this command"),
    ],
)
def test_a_useless_output_is_refused_before_the_scan_is_read(
    output: str, words: str, scan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.nii.gz").mkdir()
    content = scan.read_bytes()
    assert words in refused(capfd, "segment", scan, *POINT, "-o", tmp_path / output)
    assert scan.read_bytes() == content


def test_a_result_never_replaces_the_mask_it_starts_from_nor_another_result(
    scan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    work = write_nifti(tmp_path / "work.nii", voxels(), sform=np.eye(4))
    content = work.read_bytes()
    assert "is an input" in refused(capfd, "segment", scan, "--mask", work, "-o", work)
    assert work.read_bytes() == content
    twice = tmp_path / "same.nrrd"
    assert "both be written" in refused(capfd, "segment", scan, *POINT, "-o", twice, "--save-prompts", twice)
    assert not twice.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a prompt log"),
        ('{"format": "other", "prompts": [1]}', "not a prompt log"),
        ('{"format": "fastsam3d-prompts/1", "prompts": []}', "holds no prompts"),
        ('{"format": "fastsam3d-prompts/1", "prompts": [{"id": 1, "kind": "wish"}]}', "Unknown prompt kind"),
        ('{"format": "fastsam3d-prompts/1", "prompts": [{"id": 1, "kind": "point", "ijk": [99, 1, 1]}]}', "outside"),
        ('{"format": "fastsam3d-prompts/1", "coords": "mni", "prompts": [{}]}', "unknown coords"),
        ("9" * 5000, "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        (f'{{"format": "fastsam3d-prompts/1", "coords": "ras", "prompts": [{{"ras": [1{"0" * 400}, 1, 1]}}]}}', "read"),
        ('{"format": "fastsam3d-prompts/1", "coords": "ras", "prompts": [{"kind": "point", "ras": [1, "x"]}]}', "read"),
        (OTHER_MASK, "another scan"),
    ],
)
def test_a_bad_prompt_log_is_refused(
    text: str, words: str, scan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.json").write_text(text)
    arguments = ("segment", scan, "--prompts", tmp_path / "log.json", "-o", tmp_path / "a.nii.gz")
    assert words in refused(capfd, *arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("bogus",), "No such command"),
        (("segment",), "Missing argument"),
        (("evaluate", "nowhere"), "is not a folder"),
        (("evaluate", "."), "holds no case"),
        (("evaluate", ".", "--clicks", "0,x"), "--clicks"),
        (("evaluate", ".", "--model", "none", "--no-baseline"), "nothing to evaluate"),
        (("evaluate", ".", "--resume"), "--resume needs --json"),
        (("evaluate", ".", "--json", "nowhere/a.json"), "does not exist"),
        (("sample", "--name", "nobody"), "There is no sample 'nobody'"),
        (("sample", "--output", "/dev/null/out"), "Cannot make the folder"),
    ],
)
def test_other_commands_refuse_in_one_line_too(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in refused(capfd, *arguments)


def test_an_architecture_file_of_something_else_is_refused(
    scan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "weights.nrrd", voxels())
    (tmp_path / "weights.nrrd").rename(tmp_path / "weights.safetensors")
    line = refused(
        capfd, "segment", scan, *POINT, "-o", tmp_path / "a.nii.gz", "--model", tmp_path / "weights.safetensors"
    )
    assert "weights.safetensors" in line


def run(
    *arguments: str | Path, code: str = "import sys; from FastSAM3DCore.cli import main; sys.exit(main())"
) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_a_real_process_exits_with_2_and_without_a_traceback(tmp_path: Path) -> None:
    arguments = run("segment", tmp_path / "none.nii", *POINT, "-o", tmp_path / "a.nii.gz")
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"fastsam3d: error: {tmp_path / 'none.nii'} does not exist; check the path.\n"


def test_what_reading_warns_of_reaches_the_terminal(tmp_path: Path) -> None:
    for number in (1, 2):
        slices = voxels(dtype=np.int16)
        write_series(tmp_path / "dicom", slices, stack(len(slices)), uid=f"1.2.3.{number}", prefix=f"{number}_")
    arguments = run("segment", tmp_path / "dicom", "--point", "900,0,0", "-o", tmp_path / "a.nii.gz")
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 2
    warning, error = done.stderr.splitlines()
    assert warning.startswith("fastsam3d: warning: Using series")
    assert "lies outside the scan" in error


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("scipy", ("train", ROOT / "Resources" / "training" / "quick_train.json", "--preview", "p.png"), "train"),
        ("matplotlib", ("evaluate", ".", "--plot", "p.png"), "plot"),
        ("fastapi", ("serve",), "server"),
    ],
)
def test_a_missing_optional_package_is_named_with_how_to_get_it(
    module: str, arguments: tuple[str | Path, ...], extra: str, tmp_path: Path
) -> None:
    blocked = f"import sys; sys.modules[{module!r}] = None; from FastSAM3DCore.cli import main; sys.exit(main())"
    done = subprocess.run(
        run(*arguments, code=blocked), capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert module in done.stderr
    assert f"pip install '.[{extra}]'" in done.stderr


# A session that takes its time, to be interrupted in the middle of the work.
SLOW = """
import sys, time
import FastSAM3DCore.session
from FastSAM3DCore.cli import main
from Testing.core.fakes import FakeSession
class Slow(FakeSession):
    def add_point(self, *args, **kwargs):
        print("working", flush=True)
        time.sleep(60)
FastSAM3DCore.session.open_session = lambda model, device: Slow()
sys.exit(main())
"""


def test_ctrl_c_ends_with_130_and_leaves_nothing(scan: Path, tmp_path: Path) -> None:
    arguments = run("segment", scan, *POINT, "-o", tmp_path / "a.nii.gz", code=SLOW)
    # A suite that was started in the background ignores the signal, and so would everything it starts.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd=ROOT
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.strip() == "fastsam3d: cancelled"
    assert not (tmp_path / "a.nii.gz").exists()


def test_a_reader_that_leaves_early_is_no_error() -> None:
    # The pipe's reading end is closed before the program writes.
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        run("segment", "--help"), stdout=writing, stderr=subprocess.PIPE, text=True, env=environment(), check=False
    )
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 0
