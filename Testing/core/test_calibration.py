"""Calibrated probability: the temperature, how it is measured, and the weights that carry it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from safetensors import safe_open

from FastSAM3DCore.calibration import LOGIT_LIMIT, METADATA_KEY, Calibration
from FastSAM3DCore.cli import main
from FastSAM3DCore.cli.calibrate import applied_calibration, run_calibration
from FastSAM3DCore.doubt import grown, slice_doubt
from FastSAM3DCore.errors import ImageError, OutputError, WeightsError
from FastSAM3DCore.evaluate.reliability import (
    Tally,
    band_tally,
    expected_calibration_error,
    fit_calibration,
    reliability_bins,
    scores,
)
from FastSAM3DCore.evaluate.slices import rank_correlation, slice_looks
from FastSAM3DCore.io.native import image_from_array
from FastSAM3DCore.modeling.hires import HiresConfig, build_hires, load_hires, save_hires
from FastSAM3DCore.types import VoxelBox
from Testing.core.fakes import FakeSession
from Testing.core.phantoms import ball_scan

PLAIN = Calibration()


def tally_of(logits: np.ndarray, inside: np.ndarray) -> Tally:
    empty = Tally.empty()
    weights = empty.weights.copy()
    rows = np.abs(empty.logits[None] - logits[:, None]).argmin(1)
    np.add.at(weights, (rows, inside.astype(int)), 1 / len(logits))
    return Tally(weights)


def overconfident(temperature: float, n: int = 40_000) -> Tally:
    """Truths drawn so that `temperature` is right."""
    random = np.random.default_rng(0)
    logits = np.clip(random.normal(-1, 4, n), -7.5, 7.5)
    return tally_of(logits, random.random(n) < 1 / (1 + np.exp(-logits / temperature)))


# -- the temperature ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_the_temperature_that_made_the_truth_is_found(temperature: float) -> None:
    tally = overconfident(temperature)
    found = fit_calibration(tally)
    assert found.temperature == pytest.approx(temperature, rel=0.08)
    assert found.outside == pytest.approx(temperature, rel=0.08)
    after = scores(tally, found)
    assert after["ece"] < 0.012
    if temperature == 2.5:
        before = scores(tally, PLAIN)
        assert before["ece"] > 0.08
        assert after["brier"] < before["brier"]
        assert after["log_loss"] < before["log_loss"]


def test_one_half_stays_one_half_so_that_no_mask_changes() -> None:
    logits = np.linspace(-7.9, 7.9, 201)
    for temperature in (0.7, 1, 4):
        found = Calibration(temperature).probability(logits)
        assert found.dtype == np.float32
        assert np.array_equal(found > 0.5, logits > 1e-9)
        assert (np.diff(found) > 0).all()
        assert np.allclose(Calibration(temperature).logit(found), logits, atol=2e-3)


def test_inside_and_outside_have_temperatures_of_their_own() -> None:
    uneven = Calibration(2.0, outside=1.0)
    logits = np.array([-4.0, 0.0, 4.0])
    assert uneven.probability(logits) == pytest.approx(1 / (1 + np.exp([4.0, 0.0, -2.0])), abs=1e-6)
    assert np.allclose(uneven.logit(uneven.probability(logits)), logits, atol=1e-4)
    assert Calibration.from_metadata({METADATA_KEY: uneven.to_json()}) == uneven
    random = np.random.default_rng(1)
    drawn = np.clip(random.normal(-1, 4, 40_000), -7.5, 7.5)
    tally = tally_of(drawn, random.random(len(drawn)) < uneven.probability(drawn))
    found = fit_calibration(tally)
    assert (found.temperature, found.outside) == pytest.approx((2.0, 1.0), rel=0.1)


def test_what_was_never_looked_at_is_background_however_soft_the_rest_becomes() -> None:
    assert Calibration(5).probability(np.array([-LOGIT_LIMIT])) == 0
    assert Calibration(5).probability(np.array([-LOGIT_LIMIT + 0.0625])) > 0.1
    assert Calibration(5).logit(0.0) == -LOGIT_LIMIT


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_temperature_is_refused(value: float) -> None:
    with pytest.raises(WeightsError, match="temperature"):
        Calibration(value)
    with pytest.raises(WeightsError, match="temperature"):
        Calibration(1.0, outside=value)


def test_weights_without_a_calibration_have_a_temperature_of_one_and_damaged_ones_are_refused() -> None:
    assert Calibration.from_metadata({}) == PLAIN
    assert Calibration.from_metadata({METADATA_KEY: Calibration(1.75).to_json()}) == Calibration(1.75)
    for text in ("{", "{}", '{"temperature": "warm"}', "[]", '{"temperature": -1}'):
        with pytest.raises(WeightsError):
            Calibration.from_metadata({METADATA_KEY: text})


# -- the measure -------------------------------------------------------------------------------------------------------
def test_the_calibration_error_of_known_answers() -> None:
    sure = np.full(1000, np.log(9.0))  # probability .9
    half = np.arange(1000) % 2 == 0
    assert expected_calibration_error(reliability_bins(tally_of(sure, half), PLAIN)) == pytest.approx(0.4, abs=0.003)
    right = np.arange(1000) % 10 != 0
    assert expected_calibration_error(reliability_bins(tally_of(sure, right), PLAIN)) < 0.003
    rows = reliability_bins(tally_of(np.r_[sure, -sure], np.r_[right, ~right]), PLAIN)
    assert [round(row["share"], 3) for row in rows] == [0.5, 0.5]
    assert [round(row["observed"], 3) for row in rows] == [0.1, 0.9]


def test_only_voxels_near_the_border_of_the_mask_count_and_near_is_in_mm() -> None:
    scan, truth = ball_scan(np.diag([1, 1, 4.0, 1]), radius_mm=11)
    session = FakeSession(radius=5.2)
    session.set_image(scan)
    session.add_point((26, 24, 17))
    mask = session.mask() != 0
    tally = band_tally(session, scan, mask, truth, PLAIN)
    assert tally is not None
    assert tally.weights.sum() == pytest.approx(1)
    surface = np.argwhere(mask)[:, ::-1] * (1, 1, 4)
    everywhere = np.stack(np.meshgrid(*map(np.arange, scan.array_kji.shape), indexing="ij"), -1)[..., ::-1] * (1, 1, 4)
    box = everywhere[..., 0] < 44  # far voxels are not near anything: compare those that could be
    near = np.zeros(mask.shape, bool)
    near[box] = [bool((np.linalg.norm(surface - p, axis=1) <= 10).any()) for p in everywhere[box]]
    # inside the mask every voxel of this small ball is near its border
    assert tally.weights[:, 1].sum() == pytest.approx(truth[near].mean(), abs=1e-9)


def test_the_truth_does_not_say_what_counts() -> None:
    scan, truth = ball_scan()
    session = FakeSession(radius=5.2)
    session.set_image(scan)
    session.add_point((8, 8, 8))  # far from the ball
    mask = session.mask() != 0
    elsewhere = np.zeros_like(truth)
    elsewhere[30:, 50:, 40:] = True
    one, two = (band_tally(session, scan, mask, t, PLAIN) for t in (elsewhere, np.zeros_like(truth)))
    assert one is not None
    assert two is not None
    assert np.array_equal(one.weights, two.weights)
    session.reset()
    assert band_tally(session, scan, session.mask() != 0, truth, PLAIN) is None


def test_a_calibration_that_the_session_applies_is_taken_out_again() -> None:
    scan, truth = ball_scan()

    class Softened(FakeSession):
        def probability(self, box: VoxelBox | None = None) -> np.ndarray:
            return Calibration(2.0).probability(PLAIN.logit(super().probability(box)))

    tallies = []
    for kind, applied in ((FakeSession, PLAIN), (Softened, Calibration(2.0))):
        session = kind(radius=9.3)
        session.set_image(scan)
        session.add_point((26, 24, 17))
        tally = band_tally(session, scan, session.mask() != 0, truth, applied)
        assert tally is not None
        tallies.append(np.abs(tally.weights))
    assert np.abs(tallies[0] - tallies[1]).sum() < 0.02  # single precision moves a voxel by one level here and there


# -- the most uncertain slice ------------------------------------------------------------------------------------------
class Doubtful(FakeSession):
    """Unsure where it is told to be."""

    doubt: np.ndarray

    def uncertainty(self, box: VoxelBox | None = None) -> np.ndarray:
        return self.doubt[(box or VoxelBox((0, 0, 0), self.doubt.shape[::-1])).slices_kji].astype(np.float32)

    def most_uncertain_slice(self, axis: int) -> int | None:
        return int(self.doubt.sum(axis=tuple(a for a in range(3) if a != 2 - axis)).argmax())


def test_rank_correlation_equals_scipys_also_with_ties() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(1)
    for _ in range(20):
        a, b = random.integers(0, 6, 30).astype(float), random.normal(size=30).round(1)
        assert rank_correlation(a, b) == pytest.approx(float(stats.spearmanr(a, b).statistic))
    assert rank_correlation(np.ones(5), np.arange(5.0)) == 0


def test_a_mask_grows_as_a_box_does() -> None:
    mask = np.zeros((9, 9, 9), bool)
    mask[4, 4, 0] = True
    wanted = np.zeros_like(mask)
    wanted[2:7, 2:7, 0:3] = True
    assert np.array_equal(grown(mask, 2), wanted)


def test_doubt_far_from_the_mask_does_not_count_unless_there_is_no_mask() -> None:
    mask, doubt = np.zeros((20, 20, 20), bool), np.full((20, 20, 20), 0.1, np.float32)
    mask[8:11, 8:11, 8:11] = True
    doubt[9, 8:11, 8:11] = 1
    sums = slice_doubt(doubt, mask, 2)
    assert sums.argmax() == 9
    assert sums[9] == pytest.approx(9 + 0.1 * (49 - 9), rel=1e-5)
    assert sums[5] == 0  # three voxels away
    assert np.allclose(slice_doubt(doubt, np.zeros_like(mask), 2), doubt.sum(axis=(1, 2)))
    assert slice_doubt(doubt[:, :, :7], mask[:, :, :7], 0).shape == (7,)


def test_a_session_that_doubts_where_it_errs_points_at_the_worst_slice() -> None:
    scan, truth = ball_scan(radius_mm=11)
    session = Doubtful(radius=9.3)
    session.set_image(scan)
    session.add_point((26, 24, 17))
    mask = session.mask() != 0
    session.doubt = (mask != truth).astype(float)
    looks = slice_looks(session, scan, mask, truth)
    assert len(looks) == 3
    for look in looks:
        assert look.correlation > 0.95  # errors further from the mask than two voxels do not count
        assert look.above > 0.9
        assert look.gain > 1.5
    session.doubt = np.zeros(mask.shape)
    session.doubt[17, 24, 37] = 1  # the ball's last slice, where next to nothing is wrong
    misled = slice_looks(session, scan, mask, truth)[0]
    assert misled.gain < 0.5
    assert misled.correlation < 0.5


# -- the command -------------------------------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ct_ball_01", "ct_ball_02", "mr_ball_x1"):
        scan, ball = ball_scan(np.eye(4))
        (tmp_path / name).mkdir()
        for file, array in (("image", scan.array_kji), ("label", ball.astype(np.uint8))):
            sitk.WriteImage(image_from_array(array, np.eye(4)), str(tmp_path / name / f"{file}.nii.gz"))
    (tmp_path / "splits.json").write_text(
        json.dumps({"train": ["ct_ball_01"], "held_out": ["ct_ball_02", "mr_ball_x1"]})
    )
    tiny = HiresConfig(name="tiny", stem=8, middle=16, width=32, heads=2, depth=2, decoder=(8, 16, 32))
    save_hires(build_hires(tiny), tmp_path / "tiny.safetensors", {"step": "7"})
    return tmp_path


def doubtful(model: str, device: str) -> Doubtful:
    session = Doubtful(radius=8.3)
    session.doubt = np.random.default_rng(0).random((36, 56, 48))
    return session


def test_calibrating_writes_weights_that_carry_the_temperature_and_are_otherwise_the_same(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    model, output = folder / "tiny.safetensors", folder / "out.safetensors"
    results = run_calibration(
        folder, folder / "splits.json", str(model), "cpu", doubtful,
        output=output, json_path=folder / "r.json", plot=folder / "r.png", clicks=2,
    )  # fmt: skip
    assert json.loads((folder / "r.json").read_text()) == results
    assert results["fitted_on"]["cases"] == ["ct_ball_01"]
    assert results["measured_on"]["cases"] == ["ct_ball_02", "mr_ball_x1"]
    assert results["after"]["masks"] == 4
    assert set(results["by_clicks"]) == {"1", "2"}
    assert results["slices"]["looks"] == 12
    assert (folder / "r.png").read_bytes().startswith(b"\x89PNG")
    assert applied_calibration(str(output)) == Calibration(**results["calibration"])
    assert applied_calibration(str(model)) == PLAIN
    with safe_open(output, "pt") as archive:
        assert archive.metadata()["step"] == "7"
    before, after = load_hires(model).state_dict(), load_hires(output).state_dict()
    assert all(bool((before[key] == after[key]).all()) for key in before)


def test_scans_set_aside_for_calibration_are_fitted_on_and_not_measured(folder: Path) -> None:
    split = {"train": ["ct_ball_01"], "held_out": ["ct_ball_02", "mr_ball_x1"], "calibration": ["ct_ball_02"]}
    (folder / "aside.json").write_text(json.dumps(split))
    results = run_calibration(
        folder, folder / "aside.json", str(folder / "tiny.safetensors"), "cpu", doubtful, clicks=1
    )
    assert results["fitted_on"]["cases"] == ["ct_ball_02"]
    assert results["measured_on"]["cases"] == ["mr_ball_x1"]


def test_bad_splits_and_places_are_refused_before_the_work(folder: Path) -> None:
    def run(splits: str, **options: Path) -> None:
        run_calibration(folder, folder / splits, str(folder / "tiny.safetensors"), "cpu", doubtful, **options)

    with pytest.raises(ImageError, match="nowhere"):
        run("nowhere.json")
    (folder / "bad.json").write_text('{"train": ["stranger"], "held_out": []}')
    with pytest.raises(ImageError, match="none of the cases"):
        run("bad.json")
    (folder / "bad.json").write_text("[]")
    with pytest.raises(ImageError, match="train"):
        run("bad.json")
    with pytest.raises(OutputError, match="safetensors"):
        run("splits.json", output=folder / "x.pth")


def test_the_command_says_in_one_line_what_is_wrong(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["calibrate", folder, "--splits", folder / "nowhere.json", "--model", folder / "tiny.safetensors"]
    assert main([str(a) for a in arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "nowhere.json" in err
    assert len(err.strip().splitlines()) == 1
