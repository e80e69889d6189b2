"""fastsam3d segment: what is asked on the command line is what the session gets and the file holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from FastSAM3DCore.cli import main
from FastSAM3DCore.cli.coordinates import Coordinates, parse_box, parse_point, place
from FastSAM3DCore.io import Segment, load_labels, load_segmentation, save_segmentation
from FastSAM3DCore.io.native import image_from_array
from FastSAM3DCore.types import Volume, VoxelBox
from Testing.core.fakes import FakeSession
from Testing.core.image_files import voxels
from Testing.core.phantoms import OBLIQUE, orientations

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (40, 50, 60)
SCAN = Volume(voxels(SHAPE, np.int16), OBLIQUE)


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[FakeSession]:
    """The sessions that commands open, which answer with balls."""
    opened: list[FakeSession] = []

    def open_session(model: str, device: str) -> FakeSession:
        opened.append(FakeSession())
        return opened[-1]

    monkeypatch.setattr("FastSAM3DCore.session.open_session", open_session)
    return opened


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    sitk.WriteImage(image_from_array(SCAN.array_kji, OBLIQUE), str(tmp_path / "scan.nrrd"))
    return tmp_path / "scan.nrrd"


def at(ijk: tuple[float, float, float]) -> str:
    """R,A,S of a voxel, as typed."""
    return ",".join(f"{v:.3f}" for v in SCAN.ijk_to_ras_points(ijk))


def ball(centre: tuple[int, int, int], radius: float = 5.5) -> np.ndarray:
    k, j, i = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    return (i - centre[0]) ** 2 + (j - centre[1]) ** 2 + (k - centre[2]) ** 2 < radius**2


def run(*arguments: str | Path) -> None:
    assert main([str(a) for a in arguments]) == 0


@pytest.mark.usefixtures("sessions")
def test_a_point_in_ras_segments_there(scan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "a.seg.nrrd"
    assert "-" in at((30, 20, 15))  # a negative number right after the option
    run("segment", scan, "--point", at((30, 20, 15)), "-o", output, "--name", "liver", "--color", "#ff8000")
    stored = load_segmentation(output)
    assert np.allclose(stored.ijk_to_ras, OBLIQUE, atol=1e-6)
    (segment,) = stored.segments
    assert (segment.name, segment.color) == ("liver", (1, 0.501961, 0))
    assert np.array_equal(segment.mask_kji, ball((30, 20, 15)))
    out, err = capfd.readouterr()
    volume = ball((30, 20, 15)).sum() * np.prod(SCAN.spacing_ijk) / 1000
    assert f"liver: {volume:.2f} ml, {ball((30, 20, 15)).sum()} voxels, 1 prompt at" in out
    assert err == ""


@pytest.mark.usefixtures("sessions")
@pytest.mark.parametrize("coords", ["ras", "lps", "ijk"])
def test_the_three_frames_name_the_same_voxel(coords: str, scan: Path, tmp_path: Path) -> None:
    ras = SCAN.ijk_to_ras_points((30, 20, 15))
    point = {"ras": ras, "lps": ras * (-1, -1, 1), "ijk": (30, 20, 15)}[coords]
    run("segment", scan, "--coords", coords, f"--point={','.join(map(str, point))}", "-o", tmp_path / "a.nii.gz")
    assert np.array_equal(load_labels(tmp_path / "a.nii.gz").array_kji, ball((30, 20, 15)))


def test_prompts_apply_boxes_first_and_then_in_the_order_given(
    scan: Path, tmp_path: Path, sessions: list[FakeSession]
) -> None:
    order = ["--negative", "25,20,15", "--point", "20,20,15", "--box", "1,5,1,5,1,5", "--negative=22,20,15"]
    order += ["--scribble", "1,1,1;9,1,1", "--point", "30,20,15"]
    log = tmp_path / "log.json"
    run("segment", scan, "--coords", "ijk", *order, "-o", tmp_path / "a.nii.gz", "--save-prompts", log)
    prompts = json.loads(log.read_text())["prompts"]
    assert [(p["kind"], p.get("positive"), p.get("ijk")) for p in prompts] == [
        ("box", None, None),
        ("point", False, [25, 20, 15]),
        ("point", True, [20, 20, 15]),
        ("point", False, [22, 20, 15]),
        ("scribble", True, [[1, 1, 1], [9, 1, 1]]),
        ("point", True, [30, 20, 15]),
    ]
    assert (prompts[0]["lower"], prompts[0]["upper"]) == ([1, 1, 1], [5, 5, 5])
    assert sessions[0].closed


@pytest.mark.usefixtures("sessions")
def test_a_saved_log_gives_the_same_mask_again(scan: Path, tmp_path: Path) -> None:
    first, second, log = tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", tmp_path / "log.json"
    points = ["--point", at((30, 20, 15)), "--negative", at((33, 20, 15))]
    run("segment", scan, *points, "-o", first, "--save-prompts", log)
    run("segment", scan, "--prompts", log, "-o", second)
    assert np.array_equal(load_labels(first).array_kji, load_labels(second).array_kji)


@pytest.mark.usefixtures("sessions")
def test_a_log_in_world_coordinates_means_the_same_place(scan: Path, tmp_path: Path) -> None:
    ras = SCAN.ijk_to_ras_points((30, 20, 15))
    low, high = SCAN.ijk_to_ras_points((5, 5, 5)) - 4, SCAN.ijk_to_ras_points((5, 5, 5)) + 4
    for coords, flip in (("ras", (1, 1, 1)), ("lps", (-1, -1, 1))):
        bounds = np.sort([low * flip, high * flip], axis=0)
        entries = [
            {"kind": "point", coords: (ras * flip).tolist(), "positive": True},
            {"kind": "box", "lower": bounds[0].tolist(), "upper": bounds[1].tolist()},
        ]
        log = {"format": "fastsam3d-prompts/1", "coords": coords, "prompts": entries}
        (tmp_path / "log.json").write_text(json.dumps(log))
        run("segment", scan, "--prompts", tmp_path / "log.json", "-o", tmp_path / f"{coords}.nii.gz")
    ras_mask, lps_mask = (load_labels(tmp_path / f"{c}.nii.gz").array_kji for c in ("ras", "lps"))
    assert np.array_equal(ras_mask, lps_mask)
    assert (ras_mask[ball((30, 20, 15))] == 1).all()
    assert ras_mask[5, 5, 5] == 1


@pytest.mark.usefixtures("sessions")
def test_a_mask_is_a_seed_that_later_prompts_refine(scan: Path, tmp_path: Path) -> None:
    seeds = [Segment("one", ball((10, 10, 10))), Segment("two", ball((30, 20, 15)))]
    save_segmentation(tmp_path / "seed.seg.nrrd", seeds, SCAN)
    arguments = ["--mask", tmp_path / "seed.seg.nrrd", "--mask-segment", "two", "--coords", "ijk"]
    run("segment", scan, *arguments, "--point", "45,20,15", "-o", tmp_path / "a.nii.gz")
    assert np.array_equal(load_labels(tmp_path / "a.nii.gz").array_kji, ball((30, 20, 15)) | ball((45, 20, 15)))


@pytest.mark.usefixtures("sessions")
def test_a_higher_threshold_gives_a_smaller_mask(scan: Path, tmp_path: Path) -> None:
    arguments = ["segment", scan, "--point", at((30, 20, 15)), "-o", tmp_path / "a.nii.gz", "--threshold", "0.8"]
    run(*arguments)
    assert np.array_equal(load_labels(tmp_path / "a.nii.gz").array_kji, ball((30, 20, 15), 5.5 / 2))


@pytest.mark.usefixtures("sessions")
def test_the_summary_is_json_on_request(scan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    png = tmp_path / "a.png"
    run("segment", scan, "--point", at((30, 20, 15)), "-o", tmp_path / "a.nii.gz", "--json", "--png", png)
    summary = json.loads(capfd.readouterr().out)
    assert summary["voxels"] == ball((30, 20, 15)).sum()
    assert summary["box_ijk"] == {"lower": [25, 15, 10], "upper": [36, 26, 21]}
    assert summary["volume_ml"] == pytest.approx(summary["voxels"] * np.prod(SCAN.spacing_ijk) / 1000, abs=1e-3)
    assert len(summary["ms_per_prompt"]) == 1
    assert sitk.ReadImage(summary["png"]).GetNumberOfComponentsPerPixel() == 3


@pytest.mark.usefixtures("sessions")
def test_an_empty_result_is_written_with_a_warning(
    scan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--coords", "ijk", "--point", "30,20,15", "--negative", "30,20,15"]
    run("segment", scan, *arguments, "-o", tmp_path / "a.seg.nrrd")
    assert "warning: The segment is empty" in capfd.readouterr().err
    assert load_segmentation(tmp_path / "a.seg.nrrd").segments[0].mask_kji.sum() == 0


def test_a_world_box_holds_the_voxels_whose_centres_lie_in_it() -> None:
    for affine in orientations():
        scan = Volume(np.zeros(SHAPE, np.uint8), affine)
        wanted = VoxelBox((3, 5, 7), (9, 21, 8))
        corners = scan.ijk_to_ras_points([wanted.lower, np.subtract(wanted.upper, 1)])
        low, high = corners.min(axis=0) - 0.3, corners.max(axis=0) + 0.3
        text = ",".join(f"{l},{h}" for l, h in zip(low, high, strict=True))
        (prompt,) = place([parse_box(text)], scan, Coordinates.RAS)
        assert prompt.box == wanted  # type: ignore[union-attr]


def test_a_flat_world_box_is_one_slice_thick() -> None:
    scan = Volume(np.zeros(SHAPE, np.uint8), np.diag([1, 1, 3, 1.0]))
    (prompt,) = place([parse_box("2,9,3,8,13.4,13.4")], scan, Coordinates.RAS)
    assert prompt.box == VoxelBox((2, 3, 4), (10, 9, 5))  # type: ignore[union-attr]


def test_points_are_continuous_voxel_coordinates() -> None:
    (prompt,) = place([parse_point(at((30.25, 20.5, 15)))], SCAN, Coordinates.RAS)
    assert np.allclose(prompt.point_ijk, (30.25, 20.5, 15), atol=1e-2)  # type: ignore[union-attr]


def test_help_is_fast_because_it_loads_no_torch() -> None:
    code = (
        "import sys, contextlib, io\n"
        "from FastSAM3DCore.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    codes = [main(['--help']), main(['segment', '--help']), main(['--version'])]\n"
        "print(codes, [m for m in ('torch', 'SimpleITK', 'matplotlib') if m in sys.modules])\n"
        "print(out.getvalue())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    first, *rest = done.stdout.splitlines()
    assert first.startswith("[0, 0, 0] [")
    assert "torch" not in first
    assert "matplotlib" not in first
    shown = "\n".join(rest)
    assert all(
        word in shown for word in ("segment", "evaluate", "weights", "doctor", "sample", "--negative", "--coords")
    )
