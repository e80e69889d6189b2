"""What the engine's own session promises beyond the contract."""

import resource
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from FastSAM3DCore.doubt import slice_doubt
from FastSAM3DCore.engine import Engine
from FastSAM3DCore.errors import CancelledError, DeviceError
from FastSAM3DCore.geometry import CanonicalAxes
from FastSAM3DCore.prompts import BoxPrompt, PointPrompt
from FastSAM3DCore.session import LocalSession
from FastSAM3DCore.session.acceptance import components
from FastSAM3DCore.session.grid import BACKGROUND, UNDECIDED, LogitGrid, decoded, quantise
from FastSAM3DCore.session.seen import box_edges
from FastSAM3DCore.types import Volume, VoxelBox
from Testing.core.phantoms import OBLIQUE, ball_scan, dice, orientations
from Testing.core.toy_model import ToyModel


def session_on(volume: Volume, **model) -> LocalSession:
    session = LocalSession(Engine(ToyModel(**model), torch.device("cpu")))
    session.set_image(volume)
    return session


MODELS = {
    "free zoom": {"crop_size": 64},
    "fixed crop": {"crop_size": 48, "fixed_crop": True},
    "coarse masks": {"crop_size": 64, "fixed_crop": True, "mask_stride": 2},
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("affine", [*orientations()[::5], OBLIQUE])
def test_a_click_finds_the_ball_in_any_orientation(affine, model):
    volume, truth = ball_scan(affine)
    session = session_on(volume, **MODELS[model])
    session.add_point((26, 24, 17))
    assert dice(session.mask(), truth) > (0.8 if model == "coarse masks" else 0.9)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_any_voxel_type_gives_the_same_mask(dtype):
    session = session_on(ball_scan(dtype=dtype)[0])
    session.add_point((26, 24, 17))
    reference = session_on(ball_scan(dtype=np.float64)[0])
    reference.add_point((26, 24, 17))
    assert dice(session.mask(), reference.mask()) > 0.99


@pytest.mark.parametrize("shape", [(40, 40, 1), (40, 1, 40), (9, 7, 3), (300, 12, 12)])
def test_thin_and_tiny_scans_work(shape):
    centre = tuple(n // 2 for n in shape)
    volume, truth = ball_scan(shape_ijk=shape, centre_ijk=centre, radius_mm=3)
    session = session_on(volume)
    session.add_point(centre)
    assert dice(session.mask(), truth) > 0.7


def test_an_object_larger_than_the_crop_comes_out_whole_and_without_seams():
    volume, truth = ball_scan(shape_ijk=(150, 140, 130), centre_ijk=(75, 70, 65), radius_mm=55)
    session = session_on(volume, crop_size=32)
    session.add_point((75, 70, 65))
    mask = session.mask()
    assert dice(mask, truth) > 0.95
    assert components(torch.from_numpy(mask.copy())).max() == 1
    # A seam would be a straight cut: no plane may hold much more of the mask's border than a sphere's does.
    for axis in range(3):
        border = np.diff(mask.astype(np.int8), axis=axis) != 0
        others = tuple(a for a in range(3) if a != axis)
        assert border.sum(axis=others).max() < 0.1 * border.sum()


def test_refinement_follows_the_border_more_closely_than_the_coarse_answer():
    volume, truth = ball_scan(shape_ijk=(150, 140, 130), centre_ijk=(75, 70, 65), radius_mm=55)
    refined = session_on(volume, crop_size=32)
    refined.add_point((75, 70, 65))
    coarse = session_on(volume, crop_size=32)
    coarse._refine = lambda *args: None
    coarse.add_point((75, 70, 65))
    assert dice(refined.mask(), truth) > dice(coarse.mask(), truth)


def test_a_click_on_what_is_already_right_changes_nothing_outside_its_neighbourhood():
    volume, _ = ball_scan(shape_ijk=(96, 96, 96), centre_ijk=(48, 48, 48), radius_mm=30)
    session = session_on(volume, crop_size=64)
    session.add_point((48, 48, 48))
    probability = session.probability()
    session.add_point((48, 30, 48))
    changed = np.argwhere(session.probability() != probability)
    reach = 12 * session._frame.voxel_mm
    assert (np.linalg.norm(changed - (48, 30, 48), axis=1) < reach).all()


def test_after_a_hand_edit_only_the_change_that_is_pointed_at_is_taken():
    array = np.full((40, 60, 60), 20.0, np.float32)
    array[10:30, 10:25, 10:50] = 200
    array[10:30, 35:50, 10:50] = 200  # two bright bars
    array += np.random.default_rng(0).normal(0, 2, array.shape).astype(np.float32)
    session = session_on(Volume(array), crop_size=64)
    painted = np.zeros(array.shape, np.uint8)
    painted[10:30, 10:20, 10:50] = 1  # most of the first bar, by hand
    session.set_mask(painted)
    session.add_point((30, 42, 20))  # the second bar
    mask = session.mask()
    assert mask[12:28, 37:48, 14:46].all()
    assert np.array_equal(mask[10:30, 10:20, 10:50], painted[10:30, 10:20, 10:50])


def test_the_encoder_runs_once_per_crop():
    volume, _ = ball_scan()
    session = session_on(volume, crop_size=64)
    session.add_point((26, 24, 17))
    session.add_point((27, 24, 17))  # the crop fits the structure from here on
    encoded = session.engine.model.encoded
    for point in ((25, 25, 18), (26, 30, 12)):
        session.add_point(point)
    assert session.engine.model.encoded == encoded
    assert session.engine.model.decoded > encoded


def test_a_correction_goes_little_further_than_its_click_is_deep():
    volume, _ = ball_scan()
    session = session_on(volume, crop_size=64)
    seed = np.zeros(volume.array_kji.shape, np.uint8)
    seed[15:19, 22:26, 24:28] = 1  # a small part of the ball
    session.set_mask(seed)
    session.add_point((30, 24, 17))  # three voxels beside it: the ball goes on, as far as asked for
    mask = session.mask()
    k, _, i = np.nonzero(mask > seed)
    assert i.size > 0
    assert i.max() <= 30 + 3 + 3
    assert k.min() >= 15 - 3 - 3


class ContraryModel(ToyModel):
    """Takes the newest click's side nearby, and the other side everywhere else."""

    def decode(self, embedding, point_coords, point_labels, mask_logits, multimask=False, *, boxes=None):
        logits, quality = super().decode(embedding, point_coords, point_labels, mask_logits, multimask, boxes=boxes)
        grids = torch.stack(torch.meshgrid(*[torch.arange(n) for n in logits.shape[-3:]], indexing="ij"), -1)
        near = (grids - point_coords[0, -1]).norm(dim=-1) < 5
        sign = 1 if point_labels[0, -1] else -1
        return torch.where(near, 8.0 * sign, -8.0 * sign).expand_as(logits), quality


@pytest.mark.parametrize(("place", "positive"), [((48, 40, 40), False), ((56, 40, 40), True)])
def test_a_correction_never_goes_the_other_way(place, positive):
    volume, ball = ball_scan(np.eye(4), shape_ijk=(80, 80, 80), centre_ijk=(40, 40, 40), radius_mm=12)
    session = LocalSession(Engine(ContraryModel(64), torch.device("cpu")))
    session.set_image(volume)
    session.set_mask(ball)
    session.add_point(place, positive)
    more, less = session.mask() > ball, session.mask() < ball
    asked, contrary = (more, less) if positive else (less, more)
    assert asked.any()
    assert not contrary.any()


def test_prefetching_a_point_leaves_no_encoding_to_the_click():
    volume, _ = ball_scan(shape_ijk=(160, 160, 100), centre_ijk=(80, 80, 50), radius_mm=30)
    session = session_on(volume, crop_size=32)
    session.prefetch((80, 80, 50))
    encoded = session.engine.model.encoded
    assert encoded > 1  # a first click is looked at in several crops
    focus = session._proposer.focus(PointPrompt(1, (80, 80, 50), True))
    for frame in session._proposer.crops(focus, None, fresh=True):
        session.engine.embed(frame)
    assert session.engine.model.encoded == encoded


def test_cached_embeddings_stay_within_their_bytes():
    volume, _ = ball_scan(shape_ijk=(200, 60, 60), centre_ijk=(30, 30, 30))
    engine = Engine(ToyModel(16), torch.device("cpu"), cache_bytes=10 * 16**3 * 4)
    session = LocalSession(engine)
    session.set_image(volume)
    for i in range(10, 190, 12):
        session.prefetch((i, 30, 30))
    assert 0 < engine.cached_bytes <= 10 * 16**3 * 4


def test_cancelling_from_another_thread_leaves_everything_as_it_was():
    volume, _ = ball_scan()
    session = session_on(volume, crop_size=64)
    session.add_point((26, 24, 17))
    mask, log = session.mask(), session.prompts
    decode = session.engine.model.decode

    def slow_decode(*args, **kwargs):
        thread = threading.Thread(target=session.cancel)
        thread.start()
        thread.join()
        return decode(*args, **kwargs)

    session.engine.model.decode = slow_decode
    with pytest.raises(CancelledError):
        session.add_box(VoxelBox((2, 2, 2), (46, 54, 34)))
    session.engine.model.decode = decode
    assert np.array_equal(session.mask(), mask)
    assert session.prompts == log


def test_running_out_of_device_memory_is_one_clear_error_and_changes_nothing():
    volume, _ = ball_scan()
    session = session_on(volume)

    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    session.engine.model.encode = full
    with pytest.raises(DeviceError, match="memory"):
        session.add_point((26, 24, 17))
    assert not session.mask().any()
    assert session.prompts == ()


def test_probability_and_uncertainty_come_on_request():
    volume, _ = ball_scan()
    session = LocalSession(Engine(ToyModel(), torch.device("cpu")), with_probability=True)
    session.set_image(volume)
    update = session.add_point((26, 24, 17))
    assert update.probability.shape == update.mask.shape == update.uncertainty.shape
    assert np.array_equal(update.probability > 0.5, update.mask == 1)
    assert update.uncertainty[np.abs(update.probability - 0.5) < 0.05].min() > 0.9
    assert update.uncertainty[update.probability < 0.01].max() < 0.1
    k = session.most_uncertain_slice(2)
    totals = slice_doubt(session.uncertainty(), session.mask() != 0, 2)
    assert totals[k] == pytest.approx(totals.max())


def test_memory_of_the_history_is_a_fraction_of_full_copies():
    volume, _ = ball_scan(shape_ijk=(96, 96, 96), centre_ijk=(48, 48, 48), radius_mm=30)
    session = session_on(volume, crop_size=32)
    for step in range(20):
        session.add_point((48 + step % 5, 48, 48), step % 2 == 0)
    assert session._history.undo_depth == 20
    assert session._history.nbytes < 20 * 96**3 / 4


def test_a_box_drawn_in_one_slice_stands_for_a_structure_as_deep_as_it_is_wide():
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    voxels = np.arange(20 * 60 * 60, dtype=np.int32).reshape(20, 60, 60)
    axes = CanonicalAxes.of(Volume(voxels, affine))

    def depth(lower: tuple[int, int, int], upper: tuple[int, int, int]) -> tuple[float, float]:
        edges = box_edges(axes, BoxPrompt(1, VoxelBox(lower, upper)))
        return float(edges[0, 2]), float(edges[1, 2])

    low, high = depth((10, 10, 10), (30, 34, 11))
    assert high - low == pytest.approx((20 + 24) / 2 / 4)
    assert (low + high) / 2 == pytest.approx(10)
    assert depth((10, 10, 1), (30, 34, 2))[0] == -0.5  # the scan ends there
    assert depth((10, 10, 10), (30, 34, 12)) == (9.5, 11.5)  # two slices: taken as it is
    assert depth((10, 10, 10), (11, 34, 11)) == (9.5, 10.5)  # a line: nothing to go by


def test_quantised_logits_never_change_sides():
    logits = np.array([-20, -0.06, -1e-6, 0.0, 1e-6, 0.06, 3.0, 20], dtype=np.float32)
    codes = quantise(logits.copy())
    assert ((codes > UNDECIDED) == (logits > 0)).all()
    assert codes[0] == BACKGROUND
    restored = decoded(codes.astype(np.float32))
    assert np.abs(restored - np.clip(logits, -127 / 16, 127 / 16)).max() <= 1 / 16


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads resident memory from /proc")
def test_an_empty_grid_takes_no_memory_until_it_is_written_to():
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    before = resident()
    grid = LogitGrid((600, 600, 600))
    assert grid.mask(VoxelBox((0, 0, 0), (8, 8, 8))).sum() == 0
    assert resident() - before < 20e6  # of 216 MB


def test_a_write_and_its_delta_cancel_out():
    rng = np.random.default_rng(0)
    grid = LogitGrid((10, 12, 14))
    grid.values[...] = rng.integers(0, 255, grid.values.shape)
    before = grid.values.copy()
    box = VoxelBox((2, 3, 4), (9, 8, 9))
    after = grid.read(box).copy()
    after[1:3, 1:3, 1:3] = 55
    delta = grid.write(box, after)
    assert delta.box.shape_ijk == (2, 2, 2)
    changed = grid.values.copy()
    redo = grid.restore(delta)
    assert np.array_equal(grid.values, before)
    grid.restore(redo)
    assert np.array_equal(grid.values, changed)
