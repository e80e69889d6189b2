"""Uploads: bounded, checked, and never outside their folder."""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from FastSAM3DCore.errors import ImageError
from FastSAM3DWeb.uploads import Uploads, safe_name, unpack
from Testing.web.running import run_async


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def send(uploads: Uploads, files: dict[str, bytes]) -> str:
    batch = uploads.begin()
    for name, data in files.items():
        run_async(uploads.receive(batch, name, pieces(data)))
    return batch


def zipped(path: Path, files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path.read_bytes()


def test_one_file_comes_out_as_it_went_in(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 10_000)
    upload = uploads.finish(send(uploads, {"head.nii.gz": b"x" * 5000}))
    assert upload.path.name == "head.nii.gz"
    assert upload.path.read_bytes() == b"x" * 5000
    assert not upload.is_segmentation


def test_a_segmentation_is_recognised_by_its_name(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 10_000)
    assert uploads.finish(send(uploads, {"a.seg.nrrd": b"NRRD"})).is_segmentation


def test_too_much_is_refused_while_it_arrives_and_deleted(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 2000)
    batch = uploads.begin()
    taken = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            taken.append(1)
            yield b"x" * 1000

    with pytest.raises(ImageError, match="larger than"):
        run_async(uploads.receive(batch, "a.nii", endless()))
    assert len(taken) == 3
    assert list(tmp_path.iterdir()) == []


def test_the_limit_counts_all_files_of_a_batch(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 2000)
    batch = uploads.begin()
    run_async(uploads.receive(batch, "1.dcm", pieces(b"x" * 1500)))
    with pytest.raises(ImageError, match="larger than"):
        run_async(uploads.receive(batch, "2.dcm", pieces(b"x" * 1500)))


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..\\..\\boot.ini", "a/../../b", "a\x00b", "…/x"])
def test_names_stay_inside_the_folder(tmp_path: Path, name: str) -> None:
    target = (tmp_path / safe_name(name)).resolve()
    assert target.is_relative_to(tmp_path)
    assert target != tmp_path


@pytest.mark.parametrize("name", ["", "/", "..", "../..", ". "])
def test_names_without_a_name_are_refused(name: str) -> None:
    with pytest.raises(ImageError, match="no file name"):
        safe_name(name)


def test_a_zip_of_dicom_becomes_one_folder(tmp_path: Path) -> None:
    data = zipped(
        tmp_path / "z.zip", {f"study/series/im{n}.dcm": b"DICM" for n in range(4)} | {"study/readme.txt": b"hi"}
    )
    uploads = Uploads(tmp_path / "u", 10_000)
    path = uploads.finish(send(uploads, {"z.zip": data})).path
    assert path.is_dir()
    assert len(list(path.glob("*.dcm"))) == 4


def test_a_zip_with_one_scan_is_that_scan(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "u", 10_000)
    path = uploads.finish(send(uploads, {"z.zip": zipped(tmp_path / "z.zip", {"a/scan.nii": b"scan"})})).path
    assert path.read_bytes() == b"scan"


def test_a_zip_keeps_a_header_and_its_data_file_together(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "u", 10_000)
    data = zipped(tmp_path / "z.zip", {"a.mhd": b"ElementDataFile = a.raw", "a.raw": b"data"})
    path = uploads.finish(send(uploads, {"z.zip": data})).path
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.mhd", "a.raw"]


def test_a_zip_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    zipped(bomb, {"zeros.nii": b"\0" * 5_000_000})
    assert bomb.stat().st_size < 20_000
    with pytest.raises(ImageError, match="larger than"):
        unpack(bomb, tmp_path / "out", 1_000_000)


def test_a_zip_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    evil = tmp_path / "evil.zip"
    zipped(evil, {"../../../evil.nii": b"x", "/abs/evil.nii": b"y"})
    unpack(evil, tmp_path / "in" / "out", 1000)
    assert {p.parent for p in tmp_path.rglob("*.nii")} == {tmp_path / "in" / "out"}


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped(tmp_path / "z.zip", {"scan.nii": bytes(range(256)) * 40}))
    data[60:120] = b"\xff" * 60
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(ImageError, match="cannot be unpacked"):
        unpack(tmp_path / "bad.zip", tmp_path / "out", 100_000)


def test_an_upload_without_a_scan_is_refused(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 10_000)
    with pytest.raises(ImageError, match="no scan"):
        uploads.finish(send(uploads, {"notes.txt": b"hello", "empty.nii": b""}))


def test_several_scans_at_once_are_refused(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 10_000)
    with pytest.raises(ImageError, match="2 scans at once"):
        uploads.finish(send(uploads, {"a.nii": b"1", "b.nii": b"2"}))


def test_a_header_with_its_data_file_is_one_scan(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 10_000)
    path = uploads.finish(send(uploads, {"a.mhd": b"header", "a.raw": b"data"})).path
    assert path.name == "a.mhd"
    assert (path.parent / "a.raw").exists()


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["image.nii.gz"], "image"),
        (["knee (2).nrrd"], "knee (2)"),
        (["case 7/image.nii.gz"], "case 7"),
        (["case 7/IM1.dcm", "case 7/IM2.dcm"], "case 7"),
        (["ward/a/b/c/d/IM1.dcm", "ward/a/b/c/d/IM2.dcm"], "ward"),
        (["IM1.dcm", "IM2.dcm"], "DICOM series"),
        (["IM1.dcm"], "IM1"),
        (["liver.seg.nrrd"], "liver"),
    ],
)
def test_an_upload_is_called_what_the_person_calls_it(tmp_path: Path, files: list[str], name: str) -> None:
    uploads = Uploads(tmp_path, 10_000)
    assert uploads.finish(send(uploads, dict.fromkeys(files, b"x"))).name == name


@pytest.mark.parametrize("inside", [["a/image.nii.gz"], ["IM1.dcm", "IM2.dcm"], ["x/IM1.dcm", "y/IM1.dcm"]])
def test_a_zip_is_called_by_its_own_name(tmp_path: Path, inside: list[str]) -> None:
    uploads = Uploads(tmp_path / "u", 10_000)
    data = zipped(tmp_path / "z.zip", dict.fromkeys(inside, b"x"))
    assert uploads.finish(send(uploads, {"Doe, knee.zip": data})).name == "Doe, knee"


def test_what_is_refused_or_not_opened_leaves_nothing_behind(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 10_000)
    batch = send(uploads, {"a.nii": b"1", "b.nii": b"2"})
    with pytest.raises(ImageError, match="2 scans"):
        uploads.finish(batch)
    uploads.drop(batch)
    uploads.finish(send(uploads, {"a.nii": b"1"})).remove()
    assert list(tmp_path.iterdir()) == []


def test_a_batch_is_known_once(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 10_000)
    batch = send(uploads, {"a.nii": b"1"})
    uploads.finish(batch)
    with pytest.raises(ImageError, match="not known"):
        uploads.finish(batch)
    with pytest.raises(ImageError, match="not known"):
        run_async(uploads.receive("../x", "a.nii", pieces(b"1")))


def test_a_batch_that_was_left_is_deleted_when_the_next_begins(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 10_000)
    send(uploads, {"a.nii": b"1"})
    uploads.begin()
    assert not list(tmp_path.rglob("a.nii"))
