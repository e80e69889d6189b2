"""Training: scenes, scans, supervoxels and the pool, from small files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from FastSAM3DCore.errors import ImageError
from FastSAM3DCore.training.data.crops import random_crop
from FastSAM3DCore.training.data.draw import Draw
from FastSAM3DCore.training.data.engine import DataEngine, Sources
from FastSAM3DCore.training.data.pool import ScenePool
from FastSAM3DCore.training.data.scenes import walls
from FastSAM3DCore.training.data.supervoxels import with_supervoxels
from FastSAM3DCore.training.data.volumes import load_volume
from FastSAM3DCore.training.preview import draw_contact_sheet
from Testing.core.small_head import head
from Testing.core.tiny_training import tiny_config

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory):
    """A label map, a labelled scan and a scan without labels, as files."""
    root = tmp_path_factory.mktemp("data")
    z, y, x = np.mgrid[:40, :36, :32]
    ball = (z - 20) ** 2 + (y - 18) ** 2 + (x - 12) ** 2
    labels = ((ball < 120) + 0 + (ball < 40) + 3 * ((x > 22) & (ball > 150))).astype(np.int16)
    image = labels * 100.0 + np.random.default_rng(0).normal(0, 5, labels.shape)

    def write(array: np.ndarray, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = sitk.GetImageFromArray(array)
        made.SetSpacing((1.0, 1.0, 2.0))
        sitk.WriteImage(made, str(path))

    write(labels, root / "labelmaps" / "thing_01.nii.gz")
    write(head(), root / "labelmaps" / "head_01.nii.gz")
    write(labels, root / "scans" / "case_1" / "label.nii.gz")
    write(image.astype(np.float32), root / "scans" / "case_1" / "image.nii.gz")
    write(image.astype(np.float32), root / "unlabelled" / "plain.nii.gz")
    split = {"train": ["case_1"], "unlabelled": ["plain"], "freesurfer": ["head_01"], "held_out": []}
    (root / "splits.json").write_text(json.dumps(split))
    return root


@pytest.mark.parametrize("kind", ["shapes", "anatomy", "brains", "lesions", "scans", "supervoxels"])
def test_scenes_are_repeatable_and_their_targets_usable(data_folder, kind):
    sources = Sources.load(data_folder, data_folder / "splits.json")
    for shape in ((16, 16, 16), (24, 16, 32)):
        kinds = set()
        for index in range(6):
            one = DataEngine(sources, {kind: 1.0}, seed=5).scene(index, shape)
            two = DataEngine(sources, {kind: 1.0}, seed=5).scene(index, shape)
            assert torch.equal(one.image, two.image)
            assert torch.equal(one.targets, two.targets)
            assert one.image.shape == shape
            assert bool(one.image.isfinite().all())
            share = one.targets.float().mean((1, 2, 3))
            assert bool((share > 0).all())
            assert bool((share <= 0.6).all())
            kinds.add(one.kind)
        assert kind in kinds


@pytest.mark.parametrize("stored", ["RAS", "LPS", "SLA", "PIR"])
def test_a_scan_is_read_upright_however_it_is_stored(tmp_path, stored):
    wanted = np.random.default_rng(0).integers(0, 3, (9, 7, 5)).astype(np.int16)  # right, anterior, superior
    image = sitk.GetImageFromArray(wanted.transpose(2, 1, 0))
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    sitk.WriteImage(sitk.DICOMOrient(image, stored), str(tmp_path / "label.nii.gz"))
    volume = load_volume("case", tmp_path / "label.nii.gz")
    assert np.array_equal(volume.labels.numpy(), wanted)
    assert volume.spacing.tolist() == pytest.approx([1, 2, 3])


def test_a_colour_image_is_refused_with_what_is_needed(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((4, 4, 4, 3), np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "label.nii.gz"))
    with pytest.raises(ImageError, match="not one 3D volume of grey values or labels"):
        load_volume("case", tmp_path / "label.nii.gz")


def test_about_half_of_the_crops_are_upright_or_their_mirror_image():
    lower, upper, size = torch.tensor([4.0, 4, 4]), torch.tensor([12.0, 10, 14]), torch.tensor([20.0, 20, 20])
    upright = 0
    for n in range(200):
        crop = random_crop(Draw(0, n), lower, upper, torch.ones(3), size, (8, 8, 8), 4.0)
        move = torch.stack([crop.index[:, 1, 0, 0], crop.index[:, 0, 1, 0], crop.index[:, 0, 0, 1]])
        move = move - crop.index[:, 0, 0, 0]  # rows: one voxel on along each axis of the crop
        upright += bool((move - move.diag().diag()).abs().max() < 1e-4) and bool((move.diag()[1:] > 0).all())
    assert 75 < upright < 135


def test_walls_lie_at_the_rim_of_half_of_the_structures():
    labels = torch.zeros(16, 16, 16, dtype=torch.long)
    labels[3:13, 3:13, 3:8], labels[3:13, 3:13, 8:13] = 1, 2
    walled, counts = 0, set()
    for n in range(20):
        contrast, count = walls(Draw(0, n), labels, 3)
        counts.add(count)
        own = contrast < 3
        assert torch.equal(contrast[own], labels[own])  # what is what stays as it was
        if count == 6:
            assert torch.equal(contrast % 3, labels)
        assert bool((contrast[5:11, 5:11, 5:6] == 1).all())  # the middle has no wall
        rims = {bool((contrast[3:13, 3:13, 3] >= 3).all()), bool((contrast[3:13, 3:13, 3] >= 3).any())}
        assert len(rims) == 1  # all of it or nothing
        walled += rims.pop()
    assert counts == {4, 6}  # walls that look alike, and walls that do not
    assert 4 <= walled <= 16


def test_another_seed_gives_other_scenes():
    first = DataEngine(Sources(), {"shapes": 1.0}, seed=1).scene(0, (16, 16, 16))
    second = DataEngine(Sources(), {"shapes": 1.0}, seed=2).scene(0, (16, 16, 16))
    assert not torch.equal(first.image, second.image)


def test_a_missing_training_case_is_named(data_folder, tmp_path):
    (tmp_path / "s.json").write_text(json.dumps({"train": ["nobody"], "unlabelled": []}))
    with pytest.raises(ImageError, match="nobody"):
        Sources.load(data_folder, tmp_path / "s.json")


def test_supervoxels_follow_the_edges_of_the_image(data_folder):
    plain = load_volume("plain", None, data_folder / "unlabelled" / "plain.nii.gz")
    truth = load_volume("case", data_folder / "scans" / "case_1" / "label.nii.gz").labels
    regions = with_supervoxels(plain).labels
    pure = [
        torch.bincount(truth[regions == k].long()).max() / (regions == k).sum()
        for k in torch.unique(regions).tolist()
        if k > 0
    ]
    assert len(pure) >= 3
    assert float(torch.stack(pure).median()) > 0.9


def test_a_restored_pool_goes_on_with_the_same_batches():
    engine = DataEngine(Sources(), {"shapes": 1.0}, seed=0)
    pool = ScenePool(engine, reuse=0.5, capacity=12)
    for step in range(8):
        pool.batch(Draw(1, step), (16, 16, 16), 3, 2)
    state = pool.state()
    other = ScenePool(engine, reuse=0.5, capacity=12)
    other.restore(state)
    for step in range(8, 12):
        one, two = (p.batch(Draw(1, step), (16, 16, 16), 3, 2) for p in (pool, other))
        assert torch.equal(one.image, two.image)
        assert torch.equal(one.targets, two.targets)


def test_the_contact_sheet_is_a_picture(data_folder, tmp_path):
    engine = DataEngine(Sources(), {"shapes": 1.0}, seed=0)
    draw_contact_sheet(engine, tiny_config(tmp_path), tmp_path / "sheet.png", scenes=8)
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
