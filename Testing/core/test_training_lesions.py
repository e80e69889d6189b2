"""Lesions grown into brains and scans."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from FastSAM3DCore.training.data.brains import deep_brain, tissue
from FastSAM3DCore.training.data.components import component_labels
from FastSAM3DCore.training.data.draw import Draw
from FastSAM3DCore.training.data.lesions import lesion_scene
from FastSAM3DCore.training.data.scenes import Scene
from FastSAM3DCore.training.data.volumes import LabelledVolume, find_structures
from Testing.core.small_head import HIPPOCAMPUS, WHITE_MATTER, head

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (32, 32, 32)


@pytest.fixture(scope="module")
def brain() -> LabelledVolume:
    labels = head()
    return deep_brain(LabelledVolume("head", torch.full((3,), 1.6), torch.from_numpy(labels), find_structures(labels)))


@pytest.fixture(scope="module")
def scan() -> LabelledVolume:
    """Even tissue of 100 in a body, air of 0 around it."""
    labels = np.zeros((64, 64, 64), np.int16)
    labels[8:56, 8:56, 8:56] = 1
    noise = np.random.default_rng(0).normal(0, 2, labels.shape)
    image = torch.from_numpy((labels * 100 + noise).astype(np.float32))
    return LabelledVolume("scan", torch.ones(3), torch.from_numpy(labels), find_structures(labels), image)


def made(volume: LabelledVolume, count: int = 40) -> list[Scene]:
    scenes = [lesion_scene(Draw(3, n), volume, SHAPE, 4) for n in range(count)]
    found = [scene for scene in scenes if scene is not None]
    assert len(found) > count / 2
    return found


def step(scene: Scene) -> float:
    """How far a target's grey values are from those of the crop, in deviations of these."""
    target = scene.targets[0]
    return float((scene.image[target].mean() - scene.image[~target].mean()).abs() / scene.image[~target].std())


@pytest.mark.parametrize("which", ["brain", "scan"])
def test_a_lesion_differs_from_what_is_around_it(which, request):
    scenes = made(request.getfixturevalue(which))
    assert {scene.kind for scene in scenes} == {"lesions"}
    assert sum(step(scene) > 0.3 for scene in scenes) > 0.6 * len(scenes)


def test_targets_are_single_lesions_or_all_of_them(brain):
    single, several = 0, 0
    for scene in made(brain, 120):
        pieces = [sum(size > 0 for size in component_labels(target)[1]) for target in scene.targets]
        assert all(n == 1 for n in pieces[1:])
        single += pieces[0] == 1
        several += pieces[0] > 1
    assert single > several > 0


def test_lesions_are_of_many_sizes(scan):
    shares = [float(scene.targets[0].float().mean()) for scene in made(scan)]
    assert max(shares) > 8 * min(shares)


def test_without_anything_to_grow_from_there_is_no_lesion(scan):
    empty = dataclasses.replace(scan, labels=torch.zeros_like(scan.labels))
    assert lesion_scene(Draw(0, 0), empty, SHAPE, 4) is None


def test_a_tissue_is_found_on_both_sides(brain):
    assert torch.equal(tissue(brain.labels, "hippocampus"), brain.labels == HIPPOCAMPUS)
    right = WHITE_MATTER + 20
    assert tissue(torch.tensor([0, WHITE_MATTER, HIPPOCAMPUS, right]), "white matter").tolist() == [0, 1, 0, 1]
