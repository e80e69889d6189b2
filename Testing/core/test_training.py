"""Training: configuration, data, prompts, learning, interruption and distillation, on tiny networks."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from FastSAM3DCore.errors import ImageError
from FastSAM3DCore.modeling.hires import load_hires
from FastSAM3DCore.training.config import ConfigError, DistillPlan, SizePlan, TrainConfig
from FastSAM3DCore.training.data.crops import random_crop
from FastSAM3DCore.training.data.draw import Draw
from FastSAM3DCore.training.data.engine import DataEngine, Sources
from FastSAM3DCore.training.data.pool import ScenePool
from FastSAM3DCore.training.data.scenes import walls
from FastSAM3DCore.training.data.supervoxels import with_supervoxels
from FastSAM3DCore.training.data.targets import choose_targets
from FastSAM3DCore.training.data.volumes import load_volume
from FastSAM3DCore.training.loop import Trainer
from FastSAM3DCore.training.optimizer import MuonAdamW
from FastSAM3DCore.training.preview import draw_contact_sheet
from FastSAM3DCore.training.prompting import corrective_clicks, first_prompts
from FastSAM3DCore.training.schedule import Schedule
from Testing.core.small_head import head
from Testing.core.tiny_training import TINY, losses, tiny_config

ROOT = Path(__file__).parents[2]
SCANS = ROOT.parent / "shared" / "data"


pytestmark = pytest.mark.usefixtures("one_thread")


# -- configuration ----------------------------------------------------------------------------------------------------
def test_an_unknown_key_is_refused_wherever_it_is(tmp_path):
    for text, name in (
        ('{"lerning_rate": 1}', "lerning_rate"),
        ('{"plans": [{"size": 32, "crop": 1}]}', "crop"),
        ('{"distill": {"teachr": "x"}}', "teachr"),
    ):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(ConfigError, match=name):
            TrainConfig.load(tmp_path / "c.json")


@pytest.mark.parametrize(
    "text",
    ['{"steps": "many"}', '{"plans": []}', '{"plans": [{"size": 20}]}', '{"network": "giant"}', "{", '{"steps": 0}'],
)
def test_impossible_values_are_refused(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ConfigError):
        TrainConfig.load(tmp_path / "c.json")


def test_a_config_survives_its_own_json(tmp_path):
    config = tiny_config(tmp_path, distill=DistillPlan(teacher="t.safetensors"))
    (tmp_path / "c.json").write_text(config.to_json())
    assert TrainConfig.load(tmp_path / "c.json") == config


@pytest.mark.parametrize("path", sorted((ROOT / "Resources" / "training").glob("*.json")), ids=lambda p: p.name)
def test_every_config_in_the_repository_is_valid(path):
    if path.name == "splits.json":
        return
    assert TrainConfig.load(path).steps > 0


def test_the_ablations_get_the_students_budget_and_data():
    folder = ROOT / "Resources" / "training"
    student, scratch, one = (TrainConfig.load(folder / f"{n}.json") for n in ("student", "scratch", "one_stage"))
    for other in (scratch, one):
        for key in ("steps", "plans", "mix", "splits", "seed", "model", "decay", "ema", "reuse", "box_share"):
            assert getattr(other, key) == getattr(student, key), key
    assert scratch.distill is None
    assert one.distill == dataclasses.replace(student.distill, one_stage=True)


def test_the_split_keeps_held_out_scans_and_patients_out_of_training():
    split = json.loads((ROOT / "Resources" / "training" / "splits.json").read_text())
    train, held_out = split["train"], split["held_out"]
    assert not set(train) & set(held_out)
    assert set(split["calibration"]) < set(held_out)
    assert not [name for name in split["calibration"] if "hippocampus" in name]  # share-alike: for scores alone
    assert len(held_out) >= (len(train) + len(held_out)) / 3
    never = ("hippocampus", "cc_a01", "stroke", "spine", "braintumor", "mni152", "cit168", "chest_cip64")
    assert not [name for name in [*train, *split["unlabelled"]] if any(word in name for word in never)]
    patients = {name.rsplit("_", 1)[1] for name in train if "sarcoma" in name}
    assert not [n for n in held_out if "sarcoma" in n and n.rsplit("_", 1)[1] in patients]


def test_the_learning_rate_warms_up_stays_and_falls_to_nothing():
    schedule = Schedule(steps=100, warmup=10, decay=0.25, started=0.0, ends=None)
    factors = [schedule.factor(step, 0.0) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9:74] == [1.0] * 65
    assert factors[99] < 0.05
    by_clock = Schedule(steps=100, warmup=1, decay=0.5, started=1000.0, ends=2000.0)
    assert by_clock.factor(50, 1400.0) == 1.0
    assert by_clock.factor(50, 1750.0) == pytest.approx(0.5)


# -- data -------------------------------------------------------------------------------------------------------------
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


# -- prompts ----------------------------------------------------------------------------------------------------------
def blocks(n: int) -> torch.Tensor:
    targets = torch.zeros(n, 16, 16, 16, dtype=torch.bool)
    targets[:, 4:12, 5:10, 3:14] = True
    return targets


def test_first_prompts_lie_on_or_near_their_target_and_come_in_all_kinds():
    targets = blocks(200)
    dialogue = first_prompts(Draw(0, 0), targets, box_share=0.35, mask_share=0.15)
    boxed = dialogue.boxes.isfinite().all(-1).all(-1)
    masked = ~dialogue.mask[:, 0, 0, 0, 0].isnan()
    assert 40 < int(boxed.sum()) < 100
    assert 15 < int(masked.sum()) < 50
    assert not bool((boxed & masked).any())
    assert int((dialogue.labels == 1).sum(1).max()) > 1  # scribbles
    lower, upper = dialogue.boxes[boxed].unbind(1)
    assert bool((upper > lower).all())
    thin = (upper - lower).amin(1) == 1
    assert 0 < int(thin.sum()) < int(boxed.sum())
    clicked = dialogue.labels[:, 0] == 1
    inside = targets[torch.arange(200), *dialogue.points[:, 0].round().long().T][clicked]
    assert float(inside.float().mean()) > 0.85
    middle = torch.tensor([8.0, 7.5, 8.5])
    assert float(((dialogue.points[:, 0] - middle)[clicked].abs().amax(1) <= 1.5).float().mean()) > 0.3  # of 8 x 5 x 11
    assert bool(dialogue.plain_click.any())
    assert not bool((dialogue.plain_click & (boxed | masked)).any())


def test_rough_masks_take_in_another_target_of_their_crop_and_the_click_says_so():
    targets = torch.zeros(64, 16, 16, 16, dtype=torch.bool)
    targets[0::2, 2:6, 4:12, 4:12] = True
    targets[1::2, 8:14, 4:12, 4:12] = True
    alone = first_prompts(Draw(0, 0), targets, box_share=0.0, mask_share=1.0)
    paired = first_prompts(Draw(0, 0), targets, box_share=0.0, mask_share=1.0, per_crop=2)

    def taken_in(mask: torch.Tensor) -> torch.Tensor:
        others = targets[torch.arange(64) ^ 1]
        return ((mask[:, 0] > 0) & others).flatten(1).sum(1) > 0.5 * others.flatten(1).sum(1)

    assert not bool(taken_in(alone.mask).any())
    joined = taken_in(paired.mask)
    assert 8 <= int(joined.sum()) <= 28  # half of the masks, and the other target is drawn every other time
    said = joined & (paired.labels[:, 0] >= 0)
    assert bool(said.any())
    assert bool((paired.labels[said, 0] == 0).all())


def test_wholes_with_all_their_parts_are_targets_too():
    labels = torch.zeros(32, 32, 32, dtype=torch.int64)
    labels[4:20, 4:20, 4:20] = 1
    for label, at in ((2, 6), (3, 11), (4, 15)):  # parts that do not touch each other
        labels[at : at + 3, 8:16, 8:16] = label
    labels[24:30, 24:30, 24:30] = 5
    whole = (labels > 0) & (labels < 5)
    drawn = [mask for seed in range(60) for mask in choose_targets(Draw(0, seed), labels, None, 3, background=1)]
    found = sum(torch.equal(mask, whole) for mask in drawn)
    assert 0.02 < found / len(drawn) < 0.4
    assert not any(bool((mask & whole).any()) and bool((mask & ~whole).any()) for mask in drawn)


def test_corrective_clicks_hit_errors_with_the_right_sign():
    targets = blocks(3)
    mask = targets.clone()
    mask[0, 4:8] = False  # missed
    mask[1, 13:16, 0:4, 0:4] = True  # too much
    points, labels = corrective_clicks(Draw(0, 1), mask != targets, targets)
    assert labels.tolist() == [1, 0, -1]
    for k in range(2):
        assert bool((mask != targets)[k][tuple(points[k].long().tolist())])


# -- the loop ---------------------------------------------------------------------------------------------------------
def test_a_tiny_network_learns_to_follow_prompts(tmp_path):
    config = tiny_config(tmp_path, steps=150, learning_rate=4e-3, plans=(SizePlan(size=16, crops=4, targets=3),))
    Trainer(config, "cpu").run()
    with (tmp_path / "curves.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    early, late = rows[:20], rows[-30:]

    def mean(part: list[dict[str, str]], key: str) -> float:
        return sum(float(row[key]) for row in part) / len(part)

    assert mean(late, "loss") < 0.8 * mean(early, "loss")
    assert mean(late, "last_dice") > mean(early, "last_dice") + 0.2
    assert load_hires(tmp_path / "weights.safetensors").config == TINY
    assert (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_repeats_the_uninterrupted_one_to_the_digit(tmp_path, optimizer):
    whole = tiny_config(tmp_path / "whole", steps=14, optimizer=optimizer)
    Trainer(whole, "cpu").run()
    parts = tiny_config(tmp_path / "parts", steps=14, optimizer=optimizer)
    Trainer(parts, "cpu").run(stop_at=6)
    again = Trainer(parts, "cpu")
    assert again.resume()
    assert again.step == 6
    again.run()
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    one, two = (load_hires(tmp_path / name / "weights.safetensors").state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_checkpoint_of_another_optimizer_is_refused_and_says_how_to_go_on(tmp_path):
    Trainer(tiny_config(tmp_path, steps=2), "cpu").run()
    with pytest.raises(ConfigError, match=r"adamw.*initial"):
        Trainer(tiny_config(tmp_path, steps=4, optimizer="muon"), "cpu").resume()


def test_muon_moves_kernels_and_matrices_whatever_their_layout_and_leaves_what_has_no_gradient():
    torch.manual_seed(0)
    layers = torch.nn.ModuleList([torch.nn.Conv3d(16, 16, 3), torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)])
    other = copy.deepcopy(layers)
    other[0].weight.data = other[0].weight.data.contiguous(memory_format=torch.channels_last_3d)
    before = [p.detach().clone() for p in layers.parameters()]
    for network in (layers, other):
        optimizer = MuonAdamW(network.parameters(), 0.1, 0.0)
        for _ in range(2):
            optimizer.zero_grad()
            (network[1](network[0](torch.ones(1, 16, 3, 3, 3)).flatten(1)) ** 2).sum().backward()
            optimizer.step()
    moved = [not torch.equal(p, b) for p, b in zip(layers.parameters(), before, strict=True)]
    assert moved == [True] * 4 + [False] * 2
    for one, two in zip(layers.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-3, rtol=1e-3)


def test_matrices_made_orthogonal_together_move_as_torchs_own_muon_moves_them():
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in ((64, 20), (64, 20), (16, 90))]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    reference = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
    bias = torch.nn.Parameter(torch.zeros(3))  # AdamW's
    optimizer = MuonAdamW([*ours, bias], 0.01, 0.02)
    for _ in range(4):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        optimizer.step()
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)  # torch's rounds to bfloat16


def test_a_muon_update_turns_every_direction_by_the_same_amount():
    torch.manual_seed(0)
    layer = torch.nn.Conv3d(16, 16, 1)
    before = layer.weight.detach().clone()
    optimizer = MuonAdamW(layer.parameters(), 0.01, 0.0)
    layer.weight.grad = torch.diag(torch.logspace(-2, 2, 16)).reshape(16, 16, 1, 1, 1)  # singular values 0.01 .. 100
    optimizer.step()
    turned = torch.linalg.svdvals((layer.weight.detach() - before).reshape(16, 16))
    assert turned.max() < 3 * turned[:8].min()


def test_two_processes_train_together_and_stop_at_the_same_step(tmp_path):
    config = tiny_config(tmp_path / "run", steps=4)
    (tmp_path / "c.json").write_text(config.to_json())
    code = (
        "import sys, torch; torch.set_num_threads(1); from pathlib import Path\n"
        "from FastSAM3DCore.training.config import TrainConfig; from FastSAM3DCore.training.loop import train\n"
        "trainer = train(TrainConfig.load(Path(sys.argv[1])), 'cpu')\n"
        "total = sum(float(p.detach().double().sum()) for p in trainer.model.parameters())\n"
        "Path(sys.argv[1]).with_name(f'rank{trainer.rank}.txt').write_text(f'{trainer.step} {total!r}')\n"
    )
    (tmp_path / "run.py").write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "run.py"), str(tmp_path / "c.json")], env=environment, check=True)
    ranks = [(tmp_path / f"rank{k}.txt").read_text() for k in (0, 1)]
    assert ranks[0] == ranks[1]
    assert ranks[0].startswith("4 ")


@pytest.mark.parametrize(("fast", "half"), [(torch.float32, False), (torch.bfloat16, True)])
def test_bfloat16_is_used_only_where_it_is_faster(tmp_path, monkeypatch, fast, half):
    monkeypatch.setattr("FastSAM3DCore.training.loop.fast_dtype", lambda device: fast)
    assert Trainer(tiny_config(tmp_path, bfloat16=True), "cpu").task.use_bfloat16 is half
    assert Trainer(tiny_config(tmp_path, bfloat16=False), "cpu").task.use_bfloat16 is False
