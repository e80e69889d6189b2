"""Brains in the contrasts of real sequences: smooth fine labels, tissues that look alike, halves of long structures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from FastSAM3DCore.errors import ImageError
from FastSAM3DCore.training.data.brains import brain_means, deep_brain, halves
from FastSAM3DCore.training.data.draw import Draw
from FastSAM3DCore.training.data.engine import DataEngine, Sources
from FastSAM3DCore.training.data.volumes import LabelledVolume, find_structures
from Testing.core.small_head import AMYGDALA, FLUID, HIPPOCAMPUS, WHITE_MATTER, head

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def whole() -> LabelledVolume:
    labels = head()
    return LabelledVolume("head", torch.full((3,), 1.6), torch.from_numpy(labels), find_structures(labels))


def test_the_deep_brain_has_the_same_structures_at_twice_the_resolution(whole):
    fine = deep_brain(whole)
    assert fine.spacing.tolist() == pytest.approx([0.8] * 3)
    assert {s.label for s in fine.structures} == {HIPPOCAMPUS, AMYGDALA}  # white matter and fluid only surround them
    for label in (HIPPOCAMPUS, AMYGDALA, FLUID):
        coarse = 8 * int((whole.labels == label).sum())
        assert int((fine.labels == label).sum()) == pytest.approx(coarse, rel=0.15)
    before = (whole.labels == HIPPOCAMPUS).nonzero().float().mean(0) - (
        whole.labels == AMYGDALA
    ).nonzero().float().mean(0)
    after = (fine.labels == HIPPOCAMPUS).nonzero().float().mean(0) - (fine.labels == AMYGDALA).nonzero().float().mean(0)
    assert after.tolist() == pytest.approx((2 * before).tolist(), abs=0.5)


def test_neighbours_of_one_tissue_look_alike_and_the_fluid_does_not():
    names = [0, WHITE_MATTER, FLUID, HIPPOCAMPUS, AMYGDALA, 45]
    means = torch.stack([brain_means(Draw(0, n), names) for n in range(200)])
    assert bool(means.isfinite().all())
    alike = (means[:, 3] - means[:, 4]).abs()
    assert float((alike < (means[:, 3] - means[:, 1]).abs()).float().mean()) > 0.9
    assert float((alike < (means[:, 3] - means[:, 2]).abs()).float().mean()) > 0.95
    dark = (means[:, 2] < means[:, 3]).float().mean()  # fluid is dark in T1 and FLAIR, bright in T2
    assert 0.6 < float(dark) < 0.97


def test_a_structure_is_cut_across_its_long_axis():
    labels = torch.from_numpy(head()).long()
    size = int((labels == HIPPOCAMPUS).sum())
    for n in range(10):
        cut = halves(Draw(1, n), labels, HIPPOCAMPUS, 99)
        assert torch.equal(cut != labels, cut == 99)  # nothing else changed
        one, two = (cut == 99).nonzero()[:, 1], (cut == HIPPOCAMPUS).nonzero()[:, 1]
        assert 0.25 < len(one) / size < 0.75
        gap = abs(float(one.float().mean() - two.float().mean()))
        assert gap > 6  # of 18 voxels; 9 for a cut exactly across


def test_a_cut_across_a_given_axis_is_a_plane_of_it():
    labels = torch.from_numpy(head()).long()
    along = torch.arange(labels.shape[2], dtype=torch.float32).expand(labels.shape)
    for n in range(5):
        cut = halves(Draw(2, n), labels, HIPPOCAMPUS, 99, along)
        one, two = (cut == 99).nonzero()[:, 2], (cut == HIPPOCAMPUS).nonzero()[:, 2]
        assert len(one) > 0
        assert len(two) > 0
        assert one.min() > two.max() or two.min() > one.max()


def test_nothing_is_cut_where_there_is_nothing():
    labels = torch.zeros(8, 8, 8, dtype=torch.long)
    assert torch.equal(halves(Draw(0, 0), labels, HIPPOCAMPUS, 99), labels)


def test_both_hippocampus_and_its_halves_become_targets(whole):
    engine = DataEngine(Sources(brains=[deep_brain(whole)]), {"brains": 1.0}, seed=2)
    scenes = [engine.scene(n, (32, 32, 32)) for n in range(20)]
    assert {s.kind for s in scenes} == {"brains"}
    assert len({round(float(s.targets[0].float().mean()), 3) for s in scenes}) > 10
    assert all(float(s.image.std()) > 0 for s in scenes)


def test_a_map_without_deep_nuclei_is_named_with_what_to_do(tmp_path):
    (tmp_path / "labelmaps").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((8, 8, 8), np.int16)), str(tmp_path / "labelmaps" / "box.nii.gz"))
    (tmp_path / "splits.json").write_text(json.dumps({"freesurfer": ["box"]}))
    with pytest.raises(ImageError, match=r"box has no deep nuclei.*'freesurfer'"):
        Sources.load(tmp_path, tmp_path / "splits.json")
