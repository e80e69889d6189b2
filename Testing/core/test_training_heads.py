"""Whole heads among the training scenes: what is asked for as one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from FastSAM3DCore.training.data.draw import Draw
from FastSAM3DCore.training.data.heads import head_scene, wholes
from FastSAM3DCore.training.data.volumes import LabelledVolume, find_structures
from Testing.core.small_head import head

pytestmark = pytest.mark.usefixtures("one_thread")

FLUID_AROUND = 16
VENTRICLES = {3, 4, 11, 12, 23, 24}


@pytest.fixture(scope="module")
def volume() -> LabelledVolume:
    labels = head()
    return LabelledVolume("head", torch.full((3,), 4.0), torch.from_numpy(labels), find_structures(labels))


def test_a_brain_is_its_hemispheres_cerebellum_and_brainstem_with_its_ventricles_every_other_time():
    with_ventricles = 0
    for seed in range(40):
        brain, left, right, cerebellum, *tissues = wholes(Draw(0, seed))
        assert not left & right
        assert not (left | right) & cerebellum
        assert left | right | cerebellum < brain
        assert FLUID_AROUND not in brain
        assert all(tissue < left | right for tissue in tissues)
        assert brain & VENTRICLES in (set(), VENTRICLES)
        with_ventricles += bool(brain & VENTRICLES)
    assert 10 < with_ventricles < 30


def test_the_whole_brain_is_the_first_target_of_a_head(volume):
    scenes = [head_scene(Draw(0, seed), volume, (24, 24, 24), 3) for seed in range(20)]
    made = [scene for scene in scenes if scene is not None]
    assert len(made) > 15
    for scene in made:
        assert scene.kind == "brains"
        assert bool(scene.image.isfinite().all())
        assert 1 <= len(scene.targets) <= 3
        sizes = scene.targets.sum((1, 2, 3))
        assert int(sizes.min()) >= 100
        assert int(sizes[0]) >= 0.8 * int(sizes.max())  # its parts are smaller; only fluid may be missing in it
    again = head_scene(Draw(0, 0), volume, (24, 24, 24), 3)
    assert torch.equal(again.image, scenes[0].image)


def test_a_map_without_a_brain_makes_no_head(volume):
    labels = torch.from_numpy(np.where(head() > 0, 60, 0))
    other = LabelledVolume(volume.name, labels, volume.spacing, [])
    assert head_scene(Draw(0, 0), other, (24, 24, 24), 3) is None
