import json
from pathlib import Path

import numpy as np
import pytest
import torch

from FastSAM3DCore.engine import standardise
from FastSAM3DCore.errors import ImageError
from FastSAM3DCore.framing import frame_around, published_frame
from FastSAM3DCore.geometry import CanonicalAxes, paste_positions, resample_axes, sample_crop
from FastSAM3DCore.types import Volume, VoxelBox
from Testing.core.phantoms import OBLIQUE, ball_scan, orientations
from Testing.core.toy_model import ToyModel

FIXTURES = Path(__file__).parents[2].parent / "shared" / "reference" / "fixtures"


@pytest.mark.parametrize(
    "affine", orientations(), ids=lambda a: "".join(f"{v:+.0f}" for v in np.sign(a[:3, :3]).ravel())
)
def test_canonical_axes_run_right_anterior_superior_in_every_orientation(affine):
    volume, _ = ball_scan(affine)
    axes = CanonicalAxes.of(volume)
    origin, steps = axes.to_ijk([0, 0, 0]), axes.to_ijk(np.eye(3))
    directions = volume.ijk_to_ras_points(steps) - volume.ijk_to_ras_points(origin)
    assert np.allclose(directions, np.diag(axes.spacing))
    points = np.random.default_rng(1).uniform(0, 30, (20, 3))
    assert np.allclose(axes.from_ijk(axes.to_ijk(points)), points)


def test_a_box_survives_the_way_to_canonical_axes_and_back():
    volume, _ = ball_scan(orientations()[29])
    axes = CanonicalAxes.of(volume)
    box = VoxelBox((3, 10, 5), (20, 11, 30))
    canonical = axes.box_from_ijk(box)
    assert sorted(canonical.shape_ijk) == sorted(box.shape_ijk)
    assert axes.box_to_ijk(canonical) == box


@pytest.mark.parametrize("affine", [*orientations()[::7], OBLIQUE])
def test_a_crop_of_a_world_ramp_reads_the_world_position_of_its_voxels(affine):
    base, _ = ball_scan(affine)
    k, j, i = np.meshgrid(*(np.arange(n, dtype=float) for n in base.array_kji.shape), indexing="ij")
    world = base.ijk_to_ras_points(np.stack([i, j, k], axis=-1))
    for axis in range(3):
        volume = Volume(world[..., axis].astype(np.float32), affine)
        axes = CanonicalAxes.of(volume)
        frame = frame_around(axes, ToyModel(16).traits, axes.from_ijk((24, 28, 18)), 12.0)
        crop = sample_crop(volume.array_kji, axes, frame, "linear").numpy()
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in frame.size), indexing="ij"), axis=-1)
        canonical = np.clip(frame.to_canonical(grid), 0, np.asarray(axes.shape) - 1)
        expected = volume.ijk_to_ras_points(axes.to_ijk(canonical))[..., axis]
        assert np.abs(crop - expected).max() < 1e-3


def test_resampling_at_voxel_centres_returns_the_voxels_and_replicates_edges():
    array = np.random.default_rng(2).normal(size=(5, 6, 7)).astype(np.float32)
    out = resample_axes(array, [np.arange(5), np.arange(-2, 6), np.arange(7)]).numpy()
    assert np.allclose(out[:, 2:], array, atol=1e-6)
    assert np.allclose(out[:, 0], array[:, 0], atol=1e-6)


def test_wide_filters_average_what_a_coarse_voxel_covers():
    array = np.zeros((64, 64, 64), dtype=np.int16)
    array[::2] = 100  # a pattern that plain subsampling would alias to 0 or 100
    out = resample_axes(array, [np.arange(8, 56, 6.0)] * 3, (6.0, 6.0, 6.0)).numpy()
    assert abs(out.mean() - 50) < 5
    assert np.ptp(out) < 25


@pytest.mark.parametrize("affine", [*orientations()[::11], OBLIQUE])
@pytest.mark.parametrize("stride", [1, 4])
def test_pasted_logits_land_on_the_voxels_they_were_cut_from(affine, stride):
    volume, _ = ball_scan(affine)
    axes = CanonicalAxes.of(volume)
    frame = frame_around(axes, ToyModel(32).traits, axes.from_ijk((24, 28, 18)), 24.0)
    grid = [(np.arange(n // stride) + 0.5) * stride - 0.5 for n in frame.size]
    mesh = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1)
    ijk = axes.to_ijk(frame.to_canonical(mesh))
    box_ras = frame.box(axes.shape, [n // 4 for n in frame.size], [n - n // 4 for n in frame.size])
    assert not box_ras.is_empty
    box = axes.box_to_ijk(box_ras)
    for axis in range(3):
        values = torch.from_numpy(np.ascontiguousarray(ijk[..., axis], dtype=np.float32))
        positions = axes.per_array_axis(paste_positions(axes, frame, box_ras, stride))
        pasted = resample_axes(axes.canonical_to_array(values).numpy(), positions).numpy()
        expected = np.meshgrid(*(np.arange(l, u) for l, u in zip(box.lower, box.upper, strict=True)), indexing="ij")
        assert np.abs(pasted - expected[axis].transpose(2, 1, 0)).max() < 1e-3


@pytest.mark.parametrize("shape", [(1, 64, 64), (512, 4, 4), (1, 1, 1), (1024, 1024, 1)])
def test_crops_of_extreme_shapes_have_sizes_the_network_takes_and_stay_on_the_scan(shape):
    volume = Volume(np.zeros(shape[::-1], np.uint8), np.diag([0.5, 0.5, 3.0, 1.0]))
    axes = CanonicalAxes.of(volume)
    for side in (4.0, 60.0, 2000.0):
        frame = frame_around(axes, ToyModel(64).traits, (0, 0, 0), side)
        assert all(n % 8 == 0 and 8 <= n <= 64 for n in frame.size)
        assert sample_crop(volume.array_kji, axes, frame, "average").shape == frame.size


@pytest.mark.parametrize(("thickness", "voxels", "longer"), [(1.0, 64, 1.0), (1.5, 48, 1.5), (8.0, 32, 2.0)])
def test_thick_slices_get_longer_voxels_and_fewer_of_them_for_the_same_view(thickness, voxels, longer):
    volume = Volume(np.zeros((400, 256, 256), np.uint8), np.diag([1.0, 1.0, thickness, 1.0]))
    axes = CanonicalAxes.of(volume)
    frame = frame_around(axes, ToyModel(64).traits, (128, 128, 200), 64.0)
    assert frame.voxel_mm == 1.0
    assert frame.size == (64, 64, voxels)
    edges = np.asarray(frame.step) * axes.spacing
    assert edges == pytest.approx([1.0, 1.0, longer], rel=0.1)
    assert frame.size[2] * edges[2] == pytest.approx(64.0, rel=0.15)  # as deep as it is wide


def test_a_crop_finer_than_the_scan_keeps_all_its_voxels():
    volume = Volume(np.zeros((64, 64, 64), np.uint8), np.eye(4))
    frame = frame_around(CanonicalAxes.of(volume), ToyModel(64).traits, (32, 32, 32), 32.0)
    assert frame.voxel_mm == pytest.approx(0.5)
    assert frame.size == (64, 64, 64)


def test_clicks_near_each_other_share_a_crop():
    volume, _ = ball_scan()
    axes = CanonicalAxes.of(volume)
    traits = ToyModel(16).traits
    frames = {frame_around(axes, traits, (24 + d, 28, 18), 16.0) for d in (-0.4, 0.0, 0.4)}
    assert len(frames) == 1


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.diag([1.0, 0.0, 1.0, 1.0]), "spacing is zero"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
        (np.array([[1, 0, 0.3, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "sheared"),
        (np.full((4, 4), np.nan), "finite"),
    ],
)
def test_impossible_grids_are_refused_with_a_reason(affine, words):
    with pytest.raises(ImageError, match=words):
        Volume(np.zeros((4, 4, 4)), affine)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4)), np.zeros((4, 4, 4, 3)), np.zeros((0, 4, 4)), np.zeros((2, 2, 2), complex)]
)
def test_arrays_that_are_no_scalar_volume_are_refused(array):
    with pytest.raises(ImageError):
        Volume(array)


@pytest.mark.skipif(not FIXTURES.exists(), reason="the published preprocessing's fixtures are not beside the checkout")
@pytest.mark.parametrize("case", ["oblique", "permuted", "corner_pad"])
def test_the_published_preprocessing_is_reproduced_to_the_voxel(case):
    from safetensors.numpy import load_file

    tensors = load_file(FIXTURES / "preproc.safetensors")
    meta = json.loads((FIXTURES / "preproc.json").read_text())[case]
    volume = Volume(tensors[f"{case}.in.image"].transpose(2, 1, 0), tensors[f"{case}.in.affine_ras"])
    axes = CanonicalAxes.of(volume)
    size = (meta["crop"],) * 3
    origin = axes.from_ijk(volume.ras_to_ijk(tensors[f"{case}.out.roi_affine_ras"][:3, 3]))
    centre = origin + (meta["crop"] / 2 - 0.5) * 1.5 / np.asarray(axes.spacing)
    frame = published_frame(axes, centre, size, 1.5)
    assert np.allclose(frame.origin, origin, atol=1e-4)
    crop = standardise(sample_crop(volume.array_kji, axes, frame, "linear"))
    assert np.abs(crop.numpy() - tensors[f"{case}.out.roi_image"][0, 0]).max() < 2e-4


def test_a_read_only_scan_is_sampled_without_a_warning(recwarn):
    scan = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    kept = scan.copy()
    scan.setflags(write=False)
    crop = resample_axes(scan, [np.arange(8.0)] * 3)
    assert not list(recwarn)
    assert torch.equal(crop, torch.from_numpy(kept))
    crop += 1
    assert np.array_equal(scan, kept)
