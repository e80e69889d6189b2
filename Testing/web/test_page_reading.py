"""What the page says about files: their names, what was left out of them, what does not fit."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import SimpleITK as sitk
from playwright.sync_api import Browser

from FastSAM3DCore.errors import ImageError
from FastSAM3DWeb.config import WorkerConfig
from FastSAM3DWeb.front.server import work_id
from FastSAM3DWeb.reading import ScanSource, read_scan
from Testing.web.driver import AppPage
from Testing.web.phantom import Phantom
from Testing.web.running import FAKE, running_front
from Testing.web.scans import noise, write_4d, write_series


@pytest.fixture(scope="module")
def own(browser: Browser, phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppPage]:
    """A page whose scan may be replaced."""
    worker = WorkerConfig(secret="", state_dir="", scan=str(phantom.path), session=FAKE)
    with running_front(tmp_path_factory.mktemp("reading"), worker) as running:
        page = AppPage.new(browser, running.url)
        page.center_ras = phantom.center_ras
        yield page.open()
        page.close()


def two_series(folder: Path) -> Path:
    folder.mkdir()
    write_series(noise(9, 30, 30), folder, number=2)
    write_series(noise(6, 40, 40), folder, number=3)
    return folder


def wait_scan(app: AppPage, name: str) -> None:
    app.page.wait_for_function("name => window.trame.state.get('scan_name') === name", arg=name)


def test_uploads_keep_their_names_on_the_page_and_in_downloads(own: AppPage, phantom: Phantom, out: Path) -> None:
    (out / "mine").mkdir()
    image = out / "mine" / "image.nii.gz"
    shutil.copy(phantom.path, image)
    own.upload(image)
    wait_scan(own, "image")
    assert own.download("nii", out).name == "image.nii.gz"
    archive = out / "Doe, knee.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.write(image, "study/image.nii.gz")
    own.upload(archive)
    wait_scan(own, "Doe, knee")
    assert own.download("seg", out).name == "Doe__knee.seg.nrrd"


def test_of_two_series_the_page_says_which_it_shows_and_how_to_get_the_other(own: AppPage, out: Path) -> None:
    own.upload(two_series(out / "ward 7"), "folder")
    wait_scan(own, "ward 7")
    own.wait_status("Using series 2 'Part 2' (9 files); others here: 3 'Part 3' (6 files).")
    assert "upload only its files" in own.status()
    assert own.state("status_kind") == "warning"


def test_a_4d_scan_is_refused_with_advice_that_a_page_can_follow(own: AppPage, out: Path) -> None:
    own.upload(write_4d(out / "perfusion.nii.gz"))
    own.wait_status("perfusion.nii.gz is 4D: 3 volumes; upload one of them as a file of its own")
    own.problems.clear()


def test_segments_of_another_scan_are_refused(own: AppPage, phantom: Phantom, out: Path) -> None:
    own.upload(phantom.path)
    wait_scan(own, "phantom")
    elsewhere = sitk.Cast(noise(20, 20, 20) > 400, sitk.sitkUInt8)
    elsewhere.SetOrigin((900.0, 900.0, 900.0))
    path = out / "stranger.seg.nrrd"
    sitk.WriteImage(elsewhere, str(path))
    own.upload(path)
    own.wait_status("stranger.seg.nrrd does not overlap the scan")
    assert own.volumes() == [""]
    own.problems.clear()


def test_messages_name_no_folder_of_the_server(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        read_scan(ScanSource(tmp_path / "gone.nii"))
    assert str(tmp_path) not in str(caught.value)


def test_the_command_line_chooses_a_series_and_a_restart_keeps_to_it(browser: Browser, tmp_path: Path) -> None:
    folder = two_series(tmp_path / "scans")
    worker = WorkerConfig(secret="", state_dir="", scan=str(folder), series="3", session=FAKE)
    with running_front(tmp_path / "state", worker) as running:
        app = AppPage.new(browser, running.url).open()
        assert app.state("scan_detail").startswith("40 × 40 × 6")
        assert "Using series" not in app.status()
        port = running.front.port
    with running_front(tmp_path / "state", worker, port=port):
        app.open()
        assert "restored" in app.status()
        assert app.state("scan_detail").startswith("40 × 40 × 6")
    app.close()


def test_another_volume_of_a_scan_has_an_autosave_of_its_own() -> None:
    one, other = (WorkerConfig(secret="", state_dir="", scan="a.nii", frame=n) for n in (0, 1))
    assert work_id(one) != work_id(other) != work_id(WorkerConfig(secret="", state_dir="", scan="a.nii"))


def test_segments_from_the_command_line_have_their_volumes_in_the_list(
    browser: Browser, phantom: Phantom, tmp_path: Path
) -> None:
    labels = phantom.label(0).astype("uint8") + 2 * phantom.label(1).astype("uint8")
    image = sitk.GetImageFromArray(labels)
    image.CopyInformation(sitk.ReadImage(str(phantom.path)))
    sitk.WriteImage(image, str(tmp_path / "labels.nii.gz"))
    worker = WorkerConfig(
        secret="", state_dir="", scan=str(phantom.path), segmentation=str(tmp_path / "labels.nii.gz"), session=FAKE
    )
    with running_front(tmp_path / "state", worker) as running:
        app = AppPage.new(browser, running.url).open()
        assert app.volumes() == ["28 ml", "28 ml"]
        app.close()
