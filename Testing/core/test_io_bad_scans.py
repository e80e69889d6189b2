"""Every way in which a scan can be unusable: an ImageError of one line that says what is wrong."""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from FastSAM3DCore.errors import ImageError
from FastSAM3DCore.io import hidden_native_output, load_labels, load_volume
from Testing.core.dicom_files import stack, write_series
from Testing.core.image_files import BAD_SCANS, SHEAR, voxels, write_image, write_nifti


@pytest.mark.parametrize("name", BAD_SCANS)
def test_a_bad_scan_is_refused_with_one_line_that_says_why(name: str, tmp_path: Path) -> None:
    write, words = BAD_SCANS[name]
    path = write(tmp_path / name)
    with pytest.raises(ImageError) as caught, hidden_native_output():
        load_volume(path)
    message = str(caught.value)
    assert "\n" not in message
    assert name in message
    assert all(word.lower() in message.lower() for word in words), message


def test_hidden_native_output_keeps_the_terminal_clean(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = BAD_SCANS["cut.mha"][0](tmp_path / "cut.mha")
    with pytest.raises(ImageError):
        load_volume(path)
    assert "MetaImage" in capfd.readouterr().err, "the library prints nothing any more: hiding is not needed"
    with pytest.raises(ImageError), hidden_native_output():
        load_volume(path)
    assert capfd.readouterr() == ("", "")


def test_a_file_without_read_permission_is_named() -> None:
    me = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, whose parents are closed to others
        path = write_nifti(Path(folder, "locked.nii"), voxels())
        path.chmod(0)
        Path(folder).chmod(0o755)
        if me == 0:
            os.seteuid(65534)  # root may read everything: be somebody else for a moment
        try:
            with pytest.raises(ImageError, match="check its permissions"):
                load_volume(path)
        finally:
            os.seteuid(me)


def test_a_truncated_gzip_with_several_streams_is_read_whole(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "one.nii", voxels())
    content = path.read_bytes()
    parted = tmp_path / "parted.nii.gz"
    parted.write_bytes(gzip.compress(content[:2000]) + gzip.compress(content[2000:]))
    assert np.array_equal(load_volume(parted).array_kji, voxels())


def test_an_sform_of_rounded_numbers_is_accepted(tmp_path: Path) -> None:
    rounded = np.diag([1.0, 1, 2, 1])
    rounded[0, 1] = 0.0005
    volume = load_volume(write_nifti(tmp_path / "rounded.nii", voxels(), sform=rounded, pixdim=(1, 1, 2)))
    assert np.allclose(volume.ijk_to_ras, rounded, atol=1e-3)
    assert "ITK_NIFTI_SFORM_PERMISSIVE" not in os.environ


def test_a_sheared_sform_beside_a_qform_is_left_aside_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    volume = load_volume(write_nifti(tmp_path / "two.nii", voxels(), sform=SHEAR, pixdim=(1, 1, 2), qform=True))
    assert np.allclose(volume.ijk_to_ras, np.diag([1, 1, 2, 1]))
    assert "sheared sform" in caplog.text


@pytest.mark.parametrize(("frame", "name"), [(3, "movie.nii.gz"), (3, "colour.nrrd")])
def test_a_frame_that_is_not_there_is_refused(frame: int, name: str, tmp_path: Path) -> None:
    path = BAD_SCANS[name][0](tmp_path / name)
    with pytest.raises(ImageError, match="--frame 0 to 2"):
        load_volume(path, frame=frame)


def test_a_frame_of_a_single_volume_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="only one volume"):
        load_volume(write_nifti(tmp_path / "one.nii", voxels()), frame=2)


def test_labels_with_fractions_are_refused_and_constant_ones_are_not(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="whole numbers"):
        load_labels(write_nifti(tmp_path / "fractions.nii", voxels() + 0.5))
    empty = load_labels(write_nifti(tmp_path / "empty.nii", np.zeros((4, 5, 6))))
    assert empty.array_kji.dtype.kind == "i"
    assert not empty.array_kji.any()


def test_a_folder_that_is_closed_or_without_dicom_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "other.nrrd", voxels())
    with pytest.raises(ImageError, match="holds no DICOM"):
        load_volume(tmp_path)


def test_gantry_tilt_is_refused_with_its_angle(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", voxels((6, 8, 9), np.int16), stack(6, step=(0, 1.0, 3.0)))
    with pytest.raises(ImageError, match=r"gantry tilt of 18\.4 degrees"):
        load_volume(folder)


def test_a_missing_slice_is_refused(tmp_path: Path) -> None:
    positions = np.delete(stack(7), 3, axis=0)
    folder = write_series(tmp_path / "ct", voxels((6, 8, 9), np.int16), positions)
    with pytest.raises(ImageError, match=r"3\.00 to 6\.00 mm apart"):
        load_volume(folder)


def test_slightly_uneven_slices_are_read_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    positions = stack(6)
    positions[3, 2] += 0.2
    folder = write_series(tmp_path / "ct", voxels((6, 8, 9), np.int16), positions)
    assert load_volume(folder).spacing_ijk == pytest.approx((0.8, 1.2, 3.0))
    assert "evenly spaced" in caplog.text


def test_a_truncated_dicom_slice_is_named(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", voxels((4, 8, 9), np.int16), stack(4))
    victim = min(folder.iterdir())
    whole = victim.read_bytes()
    for cut in (2, 60):  # GDCM fills up the one and leaves out the other, both without a word
        victim.write_bytes(whole[:-cut])
        with pytest.raises(ImageError, match=f"{victim.name}.*truncated"), hidden_native_output():
            load_volume(folder)
