"""The bundled weights do the main job on a real head that a well-kept package ships: nilearn's MNI152 template."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from FastSAM3DCore import Volume, open_session
from FastSAM3DCore.evaluate.clicks import next_click
from FastSAM3DCore.io import load_volume
from Testing.core.phantoms import dice

pytestmark = pytest.mark.skipif(find_spec("nilearn") is None, reason="nilearn, which ships the scan, is not installed")


def atlas(tissue: str) -> Volume:
    folder = Path(find_spec("nilearn").submodule_search_locations[0]) / "datasets" / "data"
    return load_volume(folder / f"mni_icbm152_{tissue}_tal_nlin_sym_09a_converted.nii.gz")


@pytest.fixture(scope="module", name="head")
def _head():
    """The scan, and the brain (grey and white matter together) as truth, every second voxel per axis."""
    scan = atlas("t1")
    brain = atlas("gm").array_kji.astype(float) + atlas("wm").array_kji > 127
    half = (slice(None, None, 2),) * 3
    affine = scan.ijk_to_ras @ np.diag([2.0, 2.0, 2.0, 1.0])
    return Volume(np.ascontiguousarray(scan.array_kji[half]), affine), brain[half]


@pytest.fixture(scope="module", name="session")
def _session():
    return open_session("default", "cpu")


def clicked(session, volume, truth, count):
    session.set_image(volume)
    for _ in range(count):
        click = next_click(session.mask(), truth, volume.spacing_ijk)
        session.add_point(click.point_ijk, click.positive)
    return session.mask()


def test_five_clicks_segment_the_brain(head, session):
    volume, brain = head
    assert dice(clicked(session, volume, brain, 5), brain) > 0.85
