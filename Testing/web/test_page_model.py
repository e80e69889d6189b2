"""The page with the real engine and the bundled weights: a click finds a structure that is really there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from playwright.sync_api import Browser

from FastSAM3DCore.errors import WeightsError
from FastSAM3DWeb.config import WorkerConfig
from Testing.web.driver import AppPage
from Testing.web.phantom import Phantom
from Testing.web.running import running_front


def model() -> str:
    """The bundled model, or the file that FASTSAM3D_TEST_WEIGHTS names; skips without either."""
    from FastSAM3DCore.weights.loading import find_weights

    name = os.environ.get("FASTSAM3D_TEST_WEIGHTS", "default")
    try:
        find_weights(name, None)
    except WeightsError as error:
        pytest.skip(f"no weights: {error}")
    return name


@pytest.fixture(scope="module")
def real(browser: Browser, phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppPage]:
    worker = WorkerConfig(secret="", state_dir="", scan=str(phantom.path), model=model(), device="cpu")
    with running_front(tmp_path_factory.mktemp("real"), worker) as running:
        page = AppPage.new(browser, running.url)
        page.center_ras = phantom.center_ras
        yield page.open()
        page.close()


def dice(app: AppPage, truth: np.ndarray, folder: Path) -> float:
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(app.download("nii", folder)))) == 1
    return float(2 * (mask & truth).sum() / max(1, mask.sum() + truth.sum()))


def test_one_click_finds_the_ball_and_shows_it(real: AppPage, phantom: Phantom, tmp_path: Path) -> None:
    before = real.tinted("Red")
    real.click("Red", phantom.balls[0].center_ras)
    assert dice(real, phantom.label(0), tmp_path) > 0.7
    assert real.tinted("Red") > before + 1000
    assert real.state("click_ms") > 0


def test_the_next_segment_finds_the_other_ball_without_waiting_for_the_encoder(
    real: AppPage, phantom: Phantom, tmp_path: Path
) -> None:
    real.key("e")
    real.page.wait_for_function("() => window.trame.state.get('segments').length === 2")
    real.rest("Red", phantom.balls[1].center_ras)
    assert "encode" in real.timings("Red")["engine"], "nothing was prepared under the resting hand"
    real.click("Red", phantom.balls[1].center_ras)
    assert "decode" in real.timings("Red")["engine"]
    assert "encode" not in real.timings("Red")["engine"]
    path = real.download("nii", tmp_path)
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(path))) == 2
    truth = phantom.label(1)
    assert 2 * (mask & truth).sum() / max(1, mask.sum() + truth.sum()) > 0.7


def test_the_engine_says_where_it_is_unsure(real: AppPage) -> None:
    real.page.click("#uncertain")
    real.wait_status("least sure")
    assert real.problems == []
