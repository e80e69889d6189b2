"""Files in and out, reload, crash, two people: what outlives a page."""

from __future__ import annotations

import json
import os
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from playwright.sync_api import Browser
from vtk import vtkMatrix4x4
from vtk.util.numpy_support import vtk_to_numpy

from FastSAM3DCore.prompts import prompts_from_json
from FastSAM3DCore.types import Volume
from FastSAM3DSlicerLib import SegmentationLogic
from FastSAM3DWeb.config import WorkerConfig
from Testing.mrml.scene import HeadlessScene
from Testing.web.driver import AppPage, phantom_page
from Testing.web.fake_engine import PageSession
from Testing.web.phantom import Phantom, make_phantom
from Testing.web.running import FAKE, Running, running_front
from Testing.web.scans import noise, write_series


@pytest.fixture
def second(front: Running, browser: Browser, phantom: Phantom) -> Iterator[AppPage]:
    """Another person's browser."""
    page = AppPage.new(browser, front.url)
    page.center_ras = phantom.center_ras
    page.open()
    yield page
    page.close()


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_the_segmentation_file_reads_back_in_real_mrml(fresh: AppPage, phantom: Phantom, out: Path) -> None:
    fresh.page.fill(".f3d-name", "Left kidney")
    fresh.page.keyboard.press("Enter")
    fresh.click("Red", phantom.balls[0].center_ras)
    path = fresh.download("seg", out)
    labels = voxels(fresh.download("nii", out)) == 1
    fresh.page.fill(".f3d-name", "Segment 1")
    fresh.page.keyboard.press("Enter")
    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerSegmentationsModuleLogic()
    logic.SetMRMLScene(scene)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    segment = node.GetSegmentation().GetNthSegment(0)
    assert segment.GetName() == "Left kidney"
    assert np.allclose(segment.GetColor(), (0.31, 0.75, 0.68), atol=0.01)
    image = segment.GetRepresentation("Binary labelmap")
    own = numpy_of(image) == segment.GetLabelValue()
    assert int(labels.sum()) == int(own.sum())
    to_world = vtkMatrix4x4()
    image.GetImageToWorldMatrix(to_world)
    middle = np.argwhere(own)[:, ::-1].mean(axis=0) + np.array(image.GetExtent()[::2])
    expected = phantom.affine @ [*np.argwhere(labels)[:, ::-1].mean(axis=0), 1.0]
    assert np.allclose(to_world.MultiplyPoint((*middle, 1.0)), expected, atol=1e-3)


def numpy_of(image) -> np.ndarray:
    """An image's voxels, [k, j, i]."""
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def test_the_prompt_log_reads_back_and_makes_the_same_mask(fresh: AppPage, phantom: Phantom, out: Path) -> None:
    fresh.click("Red", phantom.balls[0].center_ras)
    fresh.tool("scribble")
    fresh.stroke("Green", [phantom.balls[1].center_ras, np.add(phantom.balls[1].center_ras, (12, 0, 0))])
    path = fresh.download("prompts", out)
    assert path.name == "phantom-Segment_1-prompts.json"
    log = prompts_from_json(path.read_text())
    where = phantom.affine[:3, :3] @ np.array(log[0].point_ijk) + phantom.affine[:3, 3]
    assert np.allclose(where, phantom.balls[0].center_ras, atol=1.0)
    session = PageSession()
    session.set_image(Volume(phantom.array_kji, phantom.affine))
    session.replay(log)
    assert np.array_equal(session.mask() == 1, voxels(fresh.download("nii", out)) == 1)


def test_the_whole_scene_opens_in_real_mrml(fresh: AppPage, phantom: Phantom, out: Path) -> None:
    fresh.click("Red", phantom.balls[0].center_ras)
    headless = HeadlessScene()
    assert headless.scene.ReadFromMRB(str(fresh.download("mrb", out)))
    (scan,) = headless.scene.GetNodesByClass("vtkMRMLScalarVolumeNode")
    assert scan.GetName() == "phantom"
    assert np.array_equal(numpy_of(scan.GetImageData()), phantom.array_kji)
    (node,) = headless.scene.GetNodesByClass("vtkMRMLSegmentationNode")
    (segment_id,) = node.GetSegmentation().GetSegmentIDs()
    image = slicer.vtkOrientedImageData()
    assert node.GetBinaryLabelmapRepresentation(segment_id, image)
    assert int(numpy_of(image).sum()) == int((voxels(fresh.download("nii", out)) == 1).sum())
    logic = SegmentationLogic(headless.scene, PageSession())
    logic.setVolume(scan)
    logic.setSegment(node, segment_id)
    assert [prompt.kind for prompt in logic.prompts] == ["point"]


def test_a_reload_goes_on_where_it_was(fresh: AppPage, phantom: Phantom, out: Path) -> None:
    fresh.click("Red", phantom.balls[0].center_ras)
    before = voxels(fresh.download("nii", out))
    fresh.page.reload()
    fresh.wait_ready()
    assert np.array_equal(voxels(fresh.download("nii", out)), before)
    fresh.tool("positive")
    fresh.click("Red", phantom.balls[1].center_ras)
    after = voxels(fresh.download("nii", out))
    assert (after == 1).sum() > 1.8 * (before == 1).sum()


def test_after_a_crash_the_work_comes_back_and_goes_on(
    phantom: Phantom, browser: Browser, tmp_path: Path, out: Path
) -> None:
    with phantom_page(browser, phantom, tmp_path / "state") as (app, running):
        app.page.wait_for_function("() => window.trame.state.get('saved') === 'Saved'")
        before = voxels(app.download("nii", out))
        (folder,) = (tmp_path / "state").iterdir()
        stamp = (folder / "state.json").stat().st_mtime
        app.page.click("#do-next_segment")
        app.page.wait_for_function("() => window.trame.state.get('segments').length === 2")
        wait_until(app, lambda: (folder / "state.json").stat().st_mtime > stamp)
        os.kill(running.workers()[0], signal.SIGKILL)
        app.page.wait_for_selector(".f3d-gone-banner button", timeout=30_000)
        app.page.click(".f3d-gone-banner button")
        app.wait_ready()
        assert "restored" in app.status()
        assert app.volumes() == ["28 ml", ""]
        assert app.state("segments")[1]["id"] == app.state("active_segment")
        assert np.array_equal(voxels(app.download("nii", out)), before)
        app.page.locator(".f3d-segments li").first.click()
        app.page.wait_for_function(
            "() => window.trame.state.get('active_segment') === window.trame.state.get('segments')[0].id"
        )
        app.tool("negative")
        app.click("Red", phantom.balls[0].center_ras)
        assert len(app.prompts(out)) == 2
        app.close()


def wait_until(app: AppPage, check) -> None:
    for _ in range(100):
        if check():
            return
        app.page.wait_for_timeout(100)
    raise AssertionError("it did not happen within ten seconds")


def test_two_people_never_share_a_scene(fresh: AppPage, second: AppPage, front: Running, phantom: Phantom) -> None:
    fresh.click("Red", phantom.balls[0].center_ras)
    assert fresh.volumes() == ["28 ml"]
    assert second.volumes() == [""]
    second.click("Red", phantom.balls[2].center_ras)
    second.click("Red", phantom.balls[1].center_ras)
    assert fresh.volumes() == ["28 ml"]
    assert len(set(front.workers())) >= 2


def test_two_tabs_of_one_browser_show_the_same_work(fresh: AppPage, front: Running, phantom: Phantom) -> None:
    tab = AppPage.new(fresh.page.context, front.url)
    tab.open()
    fresh.click("Red", phantom.balls[0].center_ras)
    tab.page.wait_for_function("() => window.trame.state.get('segments')[0].volume === '28 ml'")
    tab.page.close()
    assert fresh.volumes() == ["28 ml"]


@pytest.fixture(scope="module")
def own(browser: Browser, tmp_path_factory: pytest.TempPathFactory, phantom: Phantom) -> Iterator[AppPage]:
    """A page whose scan may be replaced."""
    worker = WorkerConfig(secret="", state_dir="", scan=str(phantom.path), session=FAKE, max_upload=3_000_000)
    with running_front(tmp_path_factory.mktemp("own"), worker) as running:
        page = AppPage.new(browser, running.url)
        page.center_ras = phantom.center_ras
        yield page.open()
        page.close()


def test_scans_come_in_by_menu_and_by_drop_and_bad_ones_are_refused(own: AppPage, tmp_path: Path) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"this is no scan at all")
    own.upload(broken)
    own.wait_status("broken.nii.gz")
    assert own.state("scan_name") == "phantom"
    assert own.state("status_kind") == "warning"

    huge = tmp_path / "huge.nii"
    huge.write_bytes(bytes(3_100_000))
    own.upload(huge)
    own.wait_status("this server takes up to")

    small = make_phantom(tmp_path / "smaller.nii.gz", (41, 57, 49), spacing=3.0)
    own.drop(small.path)
    own.page.wait_for_function("() => window.trame.state.get('scan_name') === 'smaller'")
    assert "49 × 57 × 41" in own.state("scan_detail")
    own.page.wait_for_timeout(800)
    own.center_ras = small.center_ras
    own.click("Red", small.balls[1].center_ras)
    assert own.tinted("Red") > 1000
    saved = own.download("seg", tmp_path)

    own.action("reset")
    own.upload(saved)
    own.page.wait_for_function("() => window.trame.state.get('segments')[0].volume !== ''")
    assert own.tinted("Red") > 1000
    assert own.problems == [p for p in own.problems if "422" in p or "f3d/upload" in p]


def test_a_dicom_series_comes_in_as_a_zip_and_as_a_folder(own: AppPage, tmp_path: Path) -> None:
    image = noise(12, 40, 40)
    archive = tmp_path / "series.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for n, name in enumerate(write_series(image, tmp_path)):
            target.write(name, f"study/im{n}.dcm")
    own.action("reset")
    own.upload(archive)
    own.page.wait_for_function("() => window.trame.state.get('scan_detail').startsWith('40 × 40 × 12')")
    folder = tmp_path / "ward 7"
    folder.mkdir()
    write_series(image[:, :, :9], folder)
    (folder / "DICOMDIR").write_bytes(b"an index that nobody needs")
    own.upload(folder, "folder")
    own.page.wait_for_function("() => window.trame.state.get('scan_detail').startsWith('40 × 40 × 9')")


def test_the_autosave_holds_no_more_than_it_needs(fresh: AppPage, front: Running, phantom: Phantom) -> None:
    fresh.click("Red", phantom.balls[0].center_ras)
    folders = [f for f in front.front.config.state_dir.iterdir() if (f / "state.json").is_file()]
    assert folders
    for folder in folders:
        assert folder.stat().st_mode & 0o077 == 0
        assert json.loads((folder / "state.json").read_text())["scan"] == str(phantom.path)
