"""Writing segmentations: what is in the file, and that there is a whole file or none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from FastSAM3DCore.errors import ImageError, OutputError
from FastSAM3DCore.io import Segment, atomic_path, load_labels, load_segmentation, save_segmentation, seed_mask
from FastSAM3DCore.io.segmentation import check_output
from FastSAM3DCore.io.terminology import ANATOMY, CATEGORIES, GENERAL, PATHOLOGY, SIDES, terminology_for
from FastSAM3DCore.types import Volume
from Testing.core.image_files import voxels
from Testing.core.phantoms import OBLIQUE

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (12, 20, 30)


@pytest.fixture
def scan() -> Volume:
    return Volume(voxels(SHAPE, np.int16), OBLIQUE)


def block(k: slice, j: slice, i: slice) -> NDArray[np.uint8]:
    mask = np.zeros(SHAPE, np.uint8)
    mask[k, j, i] = 1
    return mask


A = block(slice(2, 8), slice(3, 9), slice(4, 12))
B = block(slice(5, 10), slice(6, 15), slice(10, 20))  # overlaps A
C = block(slice(0, 2), slice(15, 20), slice(25, 30))  # touches the scan's border


@pytest.mark.parametrize("name", ["a.seg.nrrd", "a.nii.gz", "a.nii", "a.nrrd", "a.mha", "A.NII.GZ"])
def test_a_segment_comes_back_on_the_scans_grid(name: str, scan: Volume, tmp_path: Path) -> None:
    save_segmentation(tmp_path / name, [Segment("liver", A)], scan)
    assert np.array_equal(seed_mask(tmp_path / name, scan), A)
    stored = load_segmentation(tmp_path / name)
    assert np.allclose(stored.ijk_to_ras, OBLIQUE, atol=1e-4)
    assert sorted(os.listdir(tmp_path)) == [name]


def test_overlapping_segments_keep_all_their_voxels(scan: Volume, tmp_path: Path) -> None:
    given = [Segment("one", A, (1, 0, 0.25)), Segment("two, three", B), Segment("tumour", C, tags={"Source": "a=b:c"})]
    save_segmentation(tmp_path / "a.seg.nrrd", given, scan)
    stored = load_segmentation(tmp_path / "a.seg.nrrd").segments
    assert [s.name for s in stored] == ["one", "two, three", "tumour"]
    for before, after in zip(given, stored, strict=True):
        assert np.array_equal(after.mask_kji, before.mask_kji)
    assert stored[0].color == (1, 0, 0.25)
    assert stored[2].tags == {"Source": "a=b:c"}
    assert stored[2].terminology == terminology_for("tumour").entry()


def test_in_a_label_map_the_later_segment_wins_and_a_warning_says_so(
    scan: Volume, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_segmentation(tmp_path / "a.nii.gz", [Segment("one", A), Segment("two", B)], scan)
    labels = load_labels(tmp_path / "a.nii.gz").array_kji
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, np.where(B, 2, A))
    assert f"{int((A & B).sum())} voxels of 'two'" in caplog.text


def test_more_than_255_segments_need_two_bytes(scan: Volume, tmp_path: Path) -> None:
    many = [Segment(str(n), np.arange(A.size).reshape(SHAPE) == n) for n in range(300)]
    save_segmentation(tmp_path / "a.nii.gz", many, scan)
    labels = load_labels(tmp_path / "a.nii.gz").array_kji
    assert labels.dtype == np.uint16
    assert labels.reshape(-1)[299] == 300


def test_line_breaks_and_bars_in_names_cannot_break_the_file(scan: Volume, tmp_path: Path) -> None:
    nasty = [Segment("a\nSegment9_ID:=x", A, id="same id"), Segment("b|c:d", C, id="same id", tags={"T": "1|U:2"})]
    save_segmentation(tmp_path / "a.seg.nrrd", nasty, scan)
    stored = load_segmentation(tmp_path / "a.seg.nrrd").segments
    assert [s.name for s in stored] == ["a Segment9_ID:=x", "b c:d"]
    assert stored[0].id != stored[1].id
    assert stored[1].tags == {"T": "1 U:2"}


def test_an_empty_segment_is_kept(scan: Volume, tmp_path: Path) -> None:
    save_segmentation(tmp_path / "a.seg.nrrd", [Segment("nothing", A * 0), Segment("something", B)], scan)
    stored = load_segmentation(tmp_path / "a.seg.nrrd").segments
    assert [int(s.mask_kji.sum()) for s in stored] == [0, int(B.sum())]


def test_a_mask_of_another_grid_is_refused_before_anything_is_written(scan: Volume, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not on the grid"):
        save_segmentation(tmp_path / "a.nii.gz", [Segment("x", A[1:])], scan)
    with pytest.raises(OutputError, match="no segments"):
        save_segmentation(tmp_path / "a.nii.gz", [], scan)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("path", "words"),
    [("result.txt", "known ending"), ("nowhere/a.nii.gz", "does not exist"), ("folder.nii.gz", "is a folder")],
)
def test_a_useless_output_path_is_refused_early(path: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "folder.nii.gz").mkdir()
    with pytest.raises(OutputError, match=words):
        check_output(tmp_path / path)


FULL_DISK = """
import resource, sys, numpy as np
from FastSAM3DCore.io import Segment, save_segmentation, write_text, hidden_native_output
from FastSAM3DCore.render import save_png
from FastSAM3DCore.types import Volume
noise = np.random.default_rng(0).integers(0, 2, (40, 40, 40)).astype(np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
path = sys.argv[1]
with hidden_native_output():
    if path.endswith(".json"):
        write_text(path, "x" * 9000)
    elif path.endswith(".png"):
        save_png(path, np.random.default_rng(0).integers(0, 255, (90, 90, 3)).astype(np.uint8))
    else:
        save_segmentation(path, [Segment("noise", noise)], Volume(noise))
"""


@pytest.mark.parametrize("name", ["a.seg.nrrd", "a.nii.gz", "a.nii", "a.nrrd", "a.mha", "a.json", "a.png"])
def test_on_a_full_disk_the_old_file_stays_and_no_half_file_is_left(name: str, tmp_path: Path) -> None:
    """A limit on file sizes fails writes as a full disk does, in the middle of the file."""
    (tmp_path / name).write_text("the old result")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / name)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert "OutputError: Cannot write" in done.stderr, done.stderr
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "the old result"


def test_an_unwritable_folder_is_refused() -> None:
    me = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, whose parents are closed to others
        Path(folder).chmod(0o555)
        if me == 0:
            os.seteuid(65534)  # root may write everywhere: be somebody else for a moment
        try:
            with pytest.raises(OutputError, match="Cannot write"):
                check_output(Path(folder, "a.nii.gz"))
        finally:
            os.seteuid(me)


def test_an_error_of_the_caller_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise KeyError("mine")

    with pytest.raises(KeyError):
        fail_half_way()
    assert not os.listdir(tmp_path)


def test_a_seed_on_another_grid_lands_at_the_same_place(scan: Volume, tmp_path: Path) -> None:
    # A grid whose i runs along -j of the scan and whose j runs along its i.
    old_from_new = np.array([[0, 1, 0, 0], [-1, 0, 0, SHAPE[1] - 1], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    mask = np.flip(np.swapaxes(A, 1, 2), axis=2)
    save_segmentation(tmp_path / "a.seg.nrrd", [Segment("x", mask)], Volume(mask, OBLIQUE @ old_from_new))
    assert np.array_equal(seed_mask(tmp_path / "a.seg.nrrd", scan), A)


def test_a_seed_that_is_not_there_is_refused(scan: Volume, tmp_path: Path) -> None:
    path = tmp_path / "a.seg.nrrd"
    save_segmentation(path, [Segment("one", A), Segment("two", C)], scan)
    assert np.array_equal(seed_mask(path, scan, "two"), C)
    with pytest.raises(ImageError, match="one, two"):
        seed_mask(path, scan)
    with pytest.raises(ImageError, match="'three'"):
        seed_mask(path, scan, "three")
    far = Volume(scan.array_kji, OBLIQUE + np.array([[0, 0, 0, 900.0]] + [[0] * 4] * 3))
    with pytest.raises(ImageError, match="does not overlap"):
        seed_mask(path, far, "two")
    with pytest.raises(ImageError, match="does not exist"):
        seed_mask(tmp_path / "none.seg.nrrd", scan)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ImageError, match="cannot be read"):
        seed_mask(path, scan, "two")


def test_an_image_without_segments_is_no_segmentation(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(A), str(tmp_path / "a.seg.nrrd"))
    with pytest.raises(ImageError, match="lists no segments"):
        load_segmentation(tmp_path / "a.seg.nrrd")


@pytest.mark.parametrize(
    ("name", "meaning", "side"),
    [
        ("liver", "Liver", ""),
        ("kidney_left", "Kidney", "left"),
        ("R Putamen", "Putamen", "right"),
        ("left_ventricle_cavity", "Left Ventricle", ""),
        ("lung_upper_lobe_left", "Upper lobe of lung", "left"),
        ("vertebrae_L3", "Vertebra", ""),
        ("soft_tissue_sarcoma_GTV", "Neoplasm", ""),
        ("white_matter_lesion", "Mass", ""),
        ("liver tumour", "Neoplasm", ""),
        ("delivery", "Tissue", ""),
        ("Segment_1", "Tissue", ""),
    ],
)
def test_common_names_get_their_code(name: str, meaning: str, side: str) -> None:
    found = terminology_for(name)
    assert (found.meaning, found.side) == (meaning, side)


TERMINOLOGIES = (find_spec("trame_slicer").submodule_search_locations or [""])[0] if find_spec("trame_slicer") else ""


@pytest.mark.skipif(not TERMINOLOGIES, reason="trame-slicer, which ships Slicer's terminologies, is not installed")
def test_every_code_is_in_slicers_own_terminology() -> None:
    lists = {}
    for path in Path(TERMINOLOGIES, "resources", "terminologies").glob("SegmentationCategoryTypeModifier*.json"):
        data = json.loads(path.read_text(encoding="utf-8"))
        for category in data["SegmentationCodes"]["Category"]:
            for entry in category["Type"]:
                key = (data["SegmentationCategoryTypeContextName"], category["CodeValue"], entry["CodeValue"])
                lists[key] = (category["CodeMeaning"], entry)
    for row in (*ANATOMY.values(), *PATHOLOGY.values()):
        code, category = CATEGORIES[row.category]
        meaning, entry = lists[row.context, code, row.code]
        assert (meaning, entry["CodeMeaning"]) == (category, row.meaning)
        assert row.sided == bool(entry.get("Modifier"))
        modifiers = {m["CodeValue"] for m in entry.get("Modifier", [])}
        assert not row.sided or {code for code, _ in SIDES.values()} <= modifiers
        if row.context == GENERAL and not row.sided:
            assert tuple(entry["recommendedDisplayRGBValue"]) == row.color
