"""fastsam3d weights, as typed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from FastSAM3DCore.cli import main
from FastSAM3DCore.modeling.hires import HiresConfig, build_hires, load_hires, save_hires
from FastSAM3DCore.weights.cache import WeightsCache
from FastSAM3DCore.weights.checkpoint import read_metadata
from Testing.core.weights_helpers import TINY_TEACHER, install_tree, tiny_state
from Testing.core.weights_server import WeightsServer, serving

ROOT = Path(__file__).parents[2]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def run(*arguments: object) -> Outcome:
    """Run the command as the console script does; every failure must be one line on stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["weights", *map(str, arguments)])
    if code:
        assert err.getvalue().splitlines()[-1].startswith("fastsam3d: error: ")
        assert "Traceback" not in err.getvalue()
    return Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsCache:
    monkeypatch.setenv("FASTSAM3D_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTSAM3D_MIRROR", raising=False)
    return WeightsCache(tmp_path / "cache")


@pytest.fixture
def student_file(tmp_path: Path) -> Path:
    path = tmp_path / "FastSAM3D.pth"
    torch.save({"model_state_dict": tiny_state()}, path)
    return path


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsServer]:
    buffer = io.BytesIO()
    torch.save(tiny_state(), buffer)
    with serving(buffer.getvalue()) as served:
        install_tree(tmp_path, monkeypatch, fastsam3d={"urls": [served.url()]})
        yield served


def test_list_shows_every_model_and_what_is_installed(cache: WeightsCache, student_file: Path) -> None:
    assert run("import", student_file).code == 0
    code, out, _ = run("list")
    assert code == 0
    assert all(name in out for name in ("default", "fastsam3d", "sam-med3d-turbo", "installed", "Apache-2.0"))
    states = {model["name"]: model["state"] for model in json.loads(run("list", "--json").out)}
    assert (states["fastsam3d"], states["sam-med3d-turbo"]) == ("installed", "not installed")


def test_listing_needs_neither_torch_nor_network_code() -> None:
    code = (
        "import sys\nfrom FastSAM3DCore.cli import main\n"
        "main(['weights', 'list'])\n"
        "print(sorted({'torch', 'requests'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert result.stdout.rstrip().endswith(b"[]")


def test_download_shows_the_licence_and_needs_consent(cache: WeightsCache, server: WeightsServer) -> None:
    code, _, err = run("download", "fastsam3d")
    assert code == 2
    assert "--accept-licence" in err
    assert "Apache-2.0" in err
    assert "https://huggingface.co/techlove/FastSAM3D" in err
    assert server.asked == []


def test_download_says_which_digest_it_found_and_that_none_is_published(
    cache: WeightsCache, server: WeightsServer
) -> None:
    code, out, _ = run("download", "fastsam3d", "--accept-licence")
    assert code == 0
    assert server.sha256 in out
    assert "No published digest is known" in out
    assert cache.path_of("fastsam3d").is_file()
    code, out, _ = run("verify", "fastsam3d")
    assert (code, out.startswith("fastsam3d: ok:")) == (0, True)
    assert "trusted on first use" in out
    code, out, _ = run("download", "fastsam3d")
    assert (code, "already at" in out) == (0, True)
    assert len(server.asked) == 1
    assert run("download", "fastsam3d", "--sha256", "0" * 64).code == 2


def test_a_mirror_from_the_environment_is_used(
    cache: WeightsCache, server: WeightsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTSAM3D_MIRROR", server.url("/mirror"))
    assert run("download", "fastsam3d", "--accept-license", "--sha256", server.sha256).code == 0
    assert [asked["path"] for asked in server.asked] == ["/mirror/repo/FastSAM3D.pth"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("n\n", 130)])
def test_on_a_terminal_the_licence_is_asked_for(
    cache: WeightsCache, server: WeightsServer, tmp_path: Path, typed: str, code: int
) -> None:
    import pty

    script = (
        "import sys\nfrom pathlib import Path\nfrom FastSAM3DCore import resources\n"
        "from FastSAM3DCore.cli import main\n"
        "resources.PACKAGE = Path(sys.argv.pop(1))\nsys.exit(main())\n"
    )
    controller, terminal = pty.openpty()
    package = tmp_path / "installed" / "FastSAM3DCore"
    command = [sys.executable, "-c", script, str(package), "weights", "download", "fastsam3d"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        os.write(controller, typed.encode())
        out, err = process.communicate(timeout=120)
    os.close(controller)
    os.close(terminal)
    assert process.returncode == code, err
    assert "Accept the licence and download?" in err
    assert cache.path_of("fastsam3d").is_file() is (code == 0)
    assert ("fastsam3d is ready" in out) is (code == 0)
    assert bool(server.asked) is (code == 0)


def test_import_verify_and_remove(cache: WeightsCache, student_file: Path) -> None:
    code, out, _ = run("import", student_file)
    assert code == 0
    assert "fastsam3d is ready" in out
    cache.path_of("fastsam3d").write_bytes(b"changed")
    code, out, err = run("verify", "fastsam3d")
    assert code == 2
    assert "fastsam3d: FAILED" in out
    assert "Verification failed for fastsam3d" in err
    assert run("remove", "fastsam3d").code == 0
    assert run("remove", "fastsam3d").code == 2


def test_convert_writes_half_precision_atomically(cache: WeightsCache, student_file: Path, tmp_path: Path) -> None:
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    assert run("convert", student_file, full).code == 0
    assert run("convert", student_file, half, "--half", "--residual", "pre").code == 0
    assert half.stat().st_size < 0.7 * full.stat().st_size


def test_bad_input_is_one_line_and_exit_code_2(cache: WeightsCache, student_file: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.pth"
    torch.save(tiny_state(TINY_TEACHER), teacher)
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "file").write_text("in the way")
    cases = [
        (("import", tmp_path / "missing.pth"), "check the path"),
        (("import", tmp_path / "text.pth"), "neither a torch nor a safetensors file"),
        (("import", tmp_path), "cannot be read"),
        (("import", teacher, "--name", "fastsam3d"), "architecture"),
        (("import", student_file, "--cache", tmp_path / "file" / "cache"), "cannot be written"),
        (("download", "nothing"), "known are default"),
        (("download", "default"), "comes with the installation"),
        (("verify", "nothing"), "Unknown model"),
        (("convert", student_file, tmp_path / "out.pth"), "safetensors"),
        (("convert", tmp_path / "missing.pth", tmp_path / "out.safetensors"), "no such file"),
    ]
    before = sorted(p.name for p in tmp_path.iterdir())
    for arguments, message in cases:
        code, _, err = run(*arguments)
        assert (code, message in err) == (2, True), (arguments, err)
    assert [n for n in sorted(p.name for p in tmp_path.iterdir()) if n != "cache"] == before
    for usage in (("convert", student_file), (), ("nonsense",)):
        code, _, err = run(*usage)
        assert (code, "--help" in err) == (2, True)


def test_every_command_explains_itself() -> None:
    for command in ("list", "download", "import", "verify", "convert", "remove"):
        code, out, _ = run(command, "--help")
        assert (code, "Usage" in out) == (0, True)


@pytest.fixture
def two_runs(tmp_path: Path) -> tuple[Path, Path]:
    config = HiresConfig(name="tiny", stem=8, middle=16, width=32, heads=2, depth=2, decoder=(8, 16, 32))
    paths = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    for step, path in enumerate(paths):
        save_hires(build_hires(config), path, {"step": str(step)})
    return paths


def test_the_average_of_two_runs_is_a_network_between_them_and_says_what_it_is(two_runs, tmp_path):
    one, two = two_runs
    target = tmp_path / "mean.safetensors"
    assert run("average", f"{one}=3", f"{two}=1", "-o", target).code == 0
    first, second, mean = (load_hires(path).state_dict() for path in (one, two, target))
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, 0.75 * first[name] + 0.25 * second[name], atol=1e-3, rtol=1e-3)
    metadata = read_metadata(target)
    assert metadata["averaged"] == "0.75 one + 0.25 two"
    assert metadata["step"] == "0"


def test_what_cannot_be_averaged_is_refused_and_nothing_is_written(two_runs, tmp_path):
    one, two = two_runs
    other = tmp_path / "other.safetensors"
    save_hires(build_hires(HiresConfig(stem=8, middle=16, width=32, heads=2, depth=3, decoder=(8, 16, 32))), other)
    target = tmp_path / "mean.safetensors"
    for networks, word in (
        ([f"{one}=1"], "two files"),
        ([f"{one}=1", f"{two}=0"], "above zero"),
        ([f"{one}=1", f"{two}"], "FILE=SHARE"),
        ([f"{one}=1", f"{other}=1"], "same network"),
        ([f"{one}=1", f"{tmp_path / 'none.safetensors'}=1"], "none.safetensors"),
    ):
        outcome = run("average", *networks, "-o", target)
        assert outcome.code == 2
        assert word in outcome.err
        assert not target.exists()
