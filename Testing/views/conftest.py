"""One set of views for the whole folder: making them takes seconds; each test starts from an emptied scene."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trame_slicer", reason="trame-slicer is not installed")

from FastSAM3DSlicerLib import SegmentationLogic
from FastSAM3DSlicerLib.PromptSync import PromptSync
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, transformPoints
from Testing.core.fakes import FakeSession
from Testing.views.rendering import RenderedViews, setRed

# Rotated 8 degrees about the body axis and flipped, as scanners deliver it.
TURNED = np.array([[-0.99, 0.139, 0, 40.0], [-0.139, -0.99, 0, 55.0], [0, 0, 1.5, -45.0], [0, 0, 0, 1.0]])


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """VTK prints and swallows exceptions raised in observers: no test may leave one behind."""
    yield
    assert "Traceback" not in capfd.readouterr().err


@pytest.fixture(scope="module")
def rendered() -> Iterator[RenderedViews]:
    views = RenderedViews(threeD=True)
    yield views
    views.close()


def phantom(shape: tuple[int, int, int] = (60, 90, 80)) -> np.ndarray:
    """A grey body with a brighter organ, int16 [k, j, i]."""
    k, j, i = np.ogrid[tuple(slice(s) for s in shape)]
    voxels = np.random.default_rng(0).normal(-800, 10, shape)
    voxels[np.broadcast_to(((j - 45) / 40) ** 2 + ((i - 40) / 34) ** 2 < 1, shape)] += 840
    voxels[((k - 30) * 1.5) ** 2 + (j - 45) ** 2 + (i - 40) ** 2 < 15**2] += 120
    return voxels.astype(np.int16)


@pytest.fixture
def case(rendered: RenderedViews) -> Iterator[Any]:
    """Views, a scan, the logic with a red segment, markups observed."""
    volume = rendered.addVolume(phantom(), TURNED, (-200, 400))
    segmentation = rendered.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
    segmentation.CreateDefaultDisplayNodes()
    logic = SegmentationLogic(rendered.scene, FakeSession(radius=11.5))
    logic.setVolume(volume)
    logic.addSegment(segmentation, "Organ")
    setRed(logic.active.segment)
    said: list[str] = []
    logic.onStatus = said.append
    sync = PromptSync(logic)
    rendered.jump(transformPoints(ijkToWorld(volume), [[40, 45, 30]])[0])
    yield SimpleNamespace(
        views=rendered,
        volume=volume,
        logic=logic,
        sync=sync,
        said=said,
        at=lambda *ijk: transformPoints(ijkToWorld(volume), [ijk])[0],
    )
    sync.close()
    rendered.stopPlacing()
    for node in (volume, segmentation):
        rendered.scene.RemoveNode(node)
