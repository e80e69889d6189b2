"""Reading scans: the right voxel at the right place in RAS, in every format and orientation."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from FastSAM3DCore.errors import ImageError
from FastSAM3DCore.io import load_labels, load_volume
from FastSAM3DCore.io.native import image_from_array
from FastSAM3DCore.types import Volume
from Testing.core.dicom_files import stack, write_series
from Testing.core.image_files import voxels, write_image, write_nifti, write_nrrd
from Testing.core.phantoms import OBLIQUE, orientations

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="no real scans beside the checkout")


def saved(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    sitk.WriteImage(image_from_array(array, affine), str(path))
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd", "scan mit Ümlaut.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_every_format_keeps_voxels_type_and_place(name: str, dtype: Any, tmp_path: Path) -> None:
    array = voxels(dtype=np.int16).astype(dtype)
    volume = load_volume(saved(tmp_path / name, array, OBLIQUE))
    assert volume.array_kji.dtype == dtype
    assert np.array_equal(volume.array_kji, array)
    assert np.allclose(volume.ijk_to_ras, OBLIQUE, atol=1e-4)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_all_48_orientations_point_to_the_same_place(suffix: str, tmp_path: Path) -> None:
    array = voxels(dtype=np.int16)
    for number, affine in enumerate(orientations()):
        volume = load_volume(saved(tmp_path / f"{number}{suffix}", array, affine))
        assert np.allclose(volume.ijk_to_ras, affine, atol=1e-4)


def test_ras_is_right_anterior_superior_of_the_file_formats_own_words(tmp_path: Path) -> None:
    """NIfTI states RAS, NRRD here LPS: the same patient position must come out of both."""
    sform = np.array([[2.0, 0, 0, -30], [0, 3, 0, 20], [0, 0, 4, 7], [0, 0, 0, 1]])
    nifti = load_volume(write_nifti(tmp_path / "a.nii", voxels(), sform=sform, pixdim=(2, 3, 4)))
    assert np.allclose(nifti.ijk_to_ras_points([1, 1, 1]), (-28, 23, 11))
    header = b"space origin: (30,-20,7)"
    path = tmp_path / "a.nrrd"

    write_nrrd(path, "(-2,0,0) (0,-3,0) (0,0,4)")
    path.write_bytes(path.read_bytes().replace(b"space origin: (0,0,0)", header))
    assert np.allclose(load_volume(path).ijk_to_ras_points([1, 1, 1]), (-28, 23, 11))


def test_voxels_are_not_copied_and_outlive_the_reader(tmp_path: Path) -> None:
    array = voxels((20, 30, 40), np.int16)
    volume = load_volume(saved(tmp_path / "a.nrrd", array, np.eye(4)))
    gc.collect()
    rubbish = [np.full((20, 30, 40), n, np.int16) for n in range(50)]  # would land in freed memory
    assert np.array_equal(volume.array_kji, array)
    assert volume.array_kji.base is not None
    assert not volume.array_kji.flags.writeable
    assert len(rubbish) == 50


def test_one_slice_is_a_scan(tmp_path: Path) -> None:
    assert load_volume(write_nifti(tmp_path / "one.nii", voxels((1, 12, 14)))).shape_ijk == (14, 12, 1)


def test_a_4d_file_with_one_volume_needs_no_choice(tmp_path: Path) -> None:
    assert load_volume(write_nifti(tmp_path / "one.nii", voxels((1, 4, 5, 6)))).shape_ijk == (6, 5, 4)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_frame_of_a_4d_file_is_that_volume(suffix: str, tmp_path: Path) -> None:
    movie = voxels((3, 5, 6, 7))
    path = write_image(tmp_path / f"movie{suffix}", movie)
    for frame in range(3):
        assert np.array_equal(load_volume(path, frame=frame).array_kji, movie[frame])


def test_a_channel_of_a_colour_file_can_be_chosen(tmp_path: Path) -> None:
    colours = voxels((4, 5, 6, 3), np.uint8)
    path = write_image(tmp_path / "rgb.nrrd", colours, vector=True)
    assert np.array_equal(load_volume(path, frame=1).array_kji, colours[..., 1])


def test_labels_in_floating_point_become_whole_numbers(tmp_path: Path) -> None:
    labels = (voxels() % 5).astype(np.float32)
    read = load_labels(write_nifti(tmp_path / "labels.nii", labels))
    assert read.array_kji.dtype == np.int32
    assert np.array_equal(read.array_kji, labels)


def sagittal() -> dict[str, Any]:
    """Slices from left to right: rows run inferior, columns posterior."""
    return {"orientation": (0, 1, 0, 0, 0, -1), "positions": stack(5, step=(-2.5, 0, 0), start=(30, -40, 60))}


@pytest.mark.parametrize("case", [{"positions": stack(5)}, {"positions": stack(5)[::-1]}, sagittal()])
def test_a_dicom_folder_puts_each_voxel_where_its_slice_says(case: dict[str, Any], tmp_path: Path) -> None:
    array = voxels((5, 6, 7), np.int16)
    orientation = case.get("orientation", (1, 0, 0, 0, 1, 0))
    volume = load_volume(write_series(tmp_path / "d", array, case["positions"], orientation=orientation))
    i_step, j_step = np.array(orientation[:3]) * 0.8, np.array(orientation[3:]) * 1.2
    for index, position in enumerate(case["positions"]):
        for j, i in ((0, 0), (5, 6), (2, 3)):
            lps = position + i * i_step + j * j_step
            ijk = np.round(volume.ras_to_ijk(lps * (-1, -1, 1))).astype(int)
            assert volume.array_kji[ijk[2], ijk[1], ijk[0]] == array[index, j, i]


def two_series(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    small, large = voxels((3, 6, 7), np.int16), voxels((5, 6, 7), np.int16) + 1
    write_series(folder, small, stack(3), uid="1.2.3.1", description="scout", number=1, prefix="a")
    write_series(folder, large, stack(5), uid="1.2.3.2", description="T1 axial", number=4, prefix="b")
    return small, large


def test_of_several_dicom_series_the_largest_is_read_and_the_others_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, large = two_series(tmp_path)
    assert np.array_equal(load_volume(tmp_path).array_kji, large)
    assert "scout" in caplog.text
    assert "--series" in caplog.text


@pytest.mark.parametrize("series", ["1.2.3.1", "scout", "1", ".3.1"])
def test_a_dicom_series_is_chosen_by_uid_number_or_description(series: str, tmp_path: Path) -> None:
    small, _ = two_series(tmp_path)
    assert np.array_equal(load_volume(tmp_path, series=series).array_kji, small)


def test_an_unknown_dicom_series_is_refused_with_those_there_are(tmp_path: Path) -> None:
    two_series(tmp_path)
    with pytest.raises(ImageError, match=r"T1 axial.*1\.2\.3\.2"):
        load_volume(tmp_path, series="T2")


def test_dicom_in_subfolders_is_found(tmp_path: Path) -> None:
    array = voxels((4, 6, 7), np.int16)
    write_series(tmp_path / "disc" / "pat1" / "ser1", array, stack(4))
    assert np.array_equal(load_volume(tmp_path).array_kji, array)


def test_time_points_of_a_dicom_series_are_told_apart(tmp_path: Path) -> None:
    first, second = voxels((4, 6, 7), np.int16), voxels((4, 6, 7), np.int16) + 7
    both = np.stack([first, second], axis=1).reshape(8, 6, 7)
    write_series(tmp_path, both, np.repeat(stack(4), 2, axis=0))
    with pytest.raises(ImageError, match="2 volumes"):
        load_volume(tmp_path)
    assert np.array_equal(load_volume(tmp_path, frame=0).array_kji, first)
    assert np.array_equal(load_volume(tmp_path, frame=1).array_kji, second)


def test_slices_of_another_size_in_a_series_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    array = voxels((4, 6, 7), np.int16)
    write_series(tmp_path, array, stack(4))
    write_series(tmp_path, voxels((1, 9, 9), np.int16), stack(1), prefix="z")
    assert np.array_equal(load_volume(tmp_path).array_kji, array)
    assert "1 files of another size" in caplog.text


def test_a_single_dicom_file_is_one_slice_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_series(tmp_path, voxels((4, 6, 7), np.int16), stack(4))
    assert load_volume(min(folder.iterdir())).shape_ijk == (7, 6, 1)
    assert "give its folder" in caplog.text


@pytest.mark.scans
@needs_data
def test_a_real_dicom_series_equals_its_nifti_conversion() -> None:
    dicom = load_volume(SHARED / "dicom" / "mr_t1_sarcoma_002_rtstruct")
    nifti = load_volume(SHARED / "scans" / "mr_t1_sarcoma_002" / "image.nii.gz")
    assert np.array_equal(dicom.array_kji, nifti.array_kji)
    assert np.allclose(dicom.ijk_to_ras, nifti.ijk_to_ras, atol=1e-3)


@pytest.mark.scans
@needs_data
def test_every_real_scan_is_read_and_fits_its_labels() -> None:
    manifest = json.loads((SHARED / "manifest.json").read_text())
    cases = [row for row in manifest if row["split"] == "scans" and "hippocampus" not in row["case"]]
    for row in cases:
        folder = SHARED / "scans" / row["case"]
        volume, labels = load_volume(folder / "image.nii.gz"), load_labels(folder / "label.nii.gz")
        assert isinstance(volume, Volume)
        assert list(volume.shape_ijk) == row["size"]
        assert volume.array_kji.shape == labels.array_kji.shape
