"""What makes a few real scans go a long way: bodies built a little differently, structures in another contrast."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from FastSAM3DCore.training.data import scenes
from FastSAM3DCore.training.data.crops import bent, random_crop
from FastSAM3DCore.training.data.draw import Draw
from FastSAM3DCore.training.data.scenes import scan_scene
from FastSAM3DCore.training.data.volumes import LabelledVolume, find_structures

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (32, 32, 32)


@pytest.fixture(scope="module")
def scan() -> LabelledVolume:
    """A ball of 100 within a larger one of 50, which ends in air."""
    place = np.stack(np.mgrid[:48, :48, :48]) - 23.5
    radius = np.sqrt((place**2).sum(0))
    labels = ((radius < 8) + 0 + (radius < 18)).astype(np.int16)
    image = torch.from_numpy(labels * 50.0).float()
    return LabelledVolume("balls", torch.ones(3), torch.from_numpy(labels), find_structures(labels), image)


def test_a_bend_moves_places_smoothly_and_by_little():
    limits = torch.full((3,), 16.0), torch.full((3,), 32.0)
    for n in range(8):
        draw = Draw(1, n)
        crop = random_crop(draw, *limits, torch.tensor([1.0, 1.0, 2.0]), torch.full((3,), 48.0), SHAPE, 10.0)
        seen = bent(draw, crop, torch.tensor([1.0, 1.0, 2.0]))
        moved = (seen.index - crop.index) * torch.tensor([1.0, 1.0, 2.0])[:, None, None, None]
        view = max(n * mm for n, mm in zip(SHAPE, crop.voxel_mm, strict=True))
        assert 0 < float(moved.abs().max()) < 0.15 * view
        assert float(moved.diff(dim=1).abs().max()) < min(crop.voxel_mm)  # nothing folds over


def test_labels_follow_the_bent_image(scan, monkeypatch):
    monkeypatch.setattr(scenes, "_BENT", 1.0)
    monkeypatch.setattr(scenes, "_RECOLOURED", 0.0)
    monkeypatch.setattr(scenes, "augment_intensity", lambda draw, image, strength: image)
    agreed = []
    for n in range(20):
        scene = scan_scene(Draw(2, n), scan, SHAPE, 1)
        if scene is not None and float(scene.targets[0].float().mean()) > 0.02:
            target = scene.targets[0]
            agreed.append(abs(float(scene.image[target].mean()) - float(scene.image[~target].mean())))
    assert len(agreed) > 10
    assert np.median(agreed) > 25


def test_another_contrast_changes_structures_as_wholes(scan, monkeypatch):
    monkeypatch.setattr(scenes, "augment_intensity", lambda draw, image, strength: image)
    monkeypatch.setattr(scenes, "_window", lambda draw, image: (float(image.min()), float(image.max())))
    shown = {}
    for share in (0.0, 1.0):
        monkeypatch.setattr(scenes, "_RECOLOURED", share)
        shown[share] = [s for n in range(12) if (s := scan_scene(Draw(5, n), scan, SHAPE, 1)) is not None]
    changes = []
    for plain, other in zip(shown[0.0], shown[1.0], strict=True):
        assert torch.equal(plain.targets, other.targets)
        change = (other.image - plain.image)[plain.targets[0]]
        changes.append(float(change.abs().mean()))
    assert np.mean([change > 1 for change in changes]) > 0.5
