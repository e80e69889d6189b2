"""Where training data are made: nothing leaves the card but the few numbers that decide what is launched next."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch._subclasses import FakeTensorMode

from FastSAM3DCore.modeling.hires import build_hires
from FastSAM3DCore.training.config import TrainConfig
from FastSAM3DCore.training.data.brains import deep_brain
from FastSAM3DCore.training.data.components import component_labels, grow, sweep_labels
from FastSAM3DCore.training.data.draw import Draw
from FastSAM3DCore.training.data.engine import DataEngine, Sources
from FastSAM3DCore.training.data.pool import ScenePool
from FastSAM3DCore.training.data.supervoxels import with_supervoxels
from FastSAM3DCore.training.data.volumes import LabelledVolume, find_structures
from FastSAM3DCore.training.optimizer import make_optimizer
from FastSAM3DCore.training.prompting import corrective_clicks, first_prompts
from Testing.core.simulated_card import CARD, OnCard, simulated_card
from Testing.core.small_head import head
from Testing.core.tiny_training import TINY
from Testing.gpu import training_memory

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]
TRAINING = ROOT / "FastSAM3DCore" / "training"
CARD_GIGABYTES = 80  # of the smallest card that the configs for GPUs are meant for
KINDS = ["shapes", "anatomy", "brains", "lesions", "scans", "supervoxels"]
SHAPES = [(16, 16, 16), (32, 16, 24)]


@pytest.fixture(scope="module")
def sources() -> Sources:
    z, y, x = np.mgrid[:40, :36, :32]
    ball = (z - 20) ** 2 + (y - 18) ** 2 + (x - 12) ** 2
    ids = ((ball < 120) + 0 + (ball < 40) + 3 * ((x > 22) & (ball > 150))).astype(np.int16)
    image = (ids * 100.0 + np.random.default_rng(0).normal(0, 5, ids.shape)).astype(np.float32)
    spacing = torch.tensor([2.0, 1.0, 1.0])
    scan = LabelledVolume("scan", spacing, torch.from_numpy(ids), find_structures(ids), torch.from_numpy(image))
    bones = dataclasses.replace(scan, name="map", image=None)
    ids = head()
    brain = deep_brain(LabelledVolume("head", torch.full((3,), 1.6), torch.from_numpy(ids), find_structures(ids)))
    return Sources([bones], [1.0], [scan], [1.0], [with_supervoxels(scan)], [brain])


def on_card(volume: LabelledVolume) -> LabelledVolume:
    return dataclasses.replace(
        volume,
        labels=OnCard(volume.labels),
        image=None if volume.image is None else OnCard(volume.image),
        means=None if volume.means is None else OnCard(volume.means),
    )


def moved(sources: Sources) -> Sources:
    kinds = (sources.anatomy, sources.scans, sources.supervoxels, sources.brains)
    anatomy, scans, supervoxels, brains = ([on_card(v) for v in volumes] for volumes in kinds)
    return Sources(anatomy, [1.0], scans, [1.0], supervoxels, brains)


def generators_apart(patch: pytest.MonkeyPatch) -> None:
    """Two generators on the CPU too, as with a card, so that the same numbers are drawn."""
    make = Draw.__init__

    def apart(self: Draw, *args: object) -> None:
        make(self, *args)
        self.host = torch.Generator().manual_seed(self.torch.initial_seed())

    patch.setattr(Draw, "__init__", apart)


@pytest.mark.parametrize("kind", KINDS)
def test_scenes_are_made_on_the_card_and_none_of_their_voxels_leaves_it(sources, kind, monkeypatch):
    generators_apart(monkeypatch)
    plain = DataEngine(sources, {kind: 1.0}, seed=5)
    with simulated_card(monkeypatch) as counts:
        there = DataEngine(moved(sources), {kind: 1.0}, seed=5, device=CARD)
        made = [there.scene(index, shape) for index in range(6) for shape in SHAPES]
        for scene in made:
            assert scene.image.device == scene.targets.device == CARD
        assert counts["copies to main memory"] == 0
        assert counts["launches"] > 500
        assert counts["waits"] <= 60 * len(made)
    wanted = [plain.scene(index, shape) for index in range(6) for shape in SHAPES]
    for here, scene in zip(wanted, made, strict=True):
        assert scene.kind == here.kind
        assert torch.equal(scene.targets.inner, here.targets)
        torch.testing.assert_close(scene.image.inner, here.image)


def test_a_batch_and_its_prompts_stay_on_the_card(sources, monkeypatch):
    with simulated_card(monkeypatch) as counts:
        pool = ScenePool(DataEngine(moved(sources), dict.fromkeys(KINDS, 1.0), seed=1, device=CARD), reuse=0.5)
        batch = pool.batch(Draw(1, 1, CARD), (16, 16, 16), 4, 12)
        before = counts["waits"]
        dialogue = first_prompts(Draw(2, 2, CARD), batch.targets, box_share=0.6, mask_share=0.2)
        points, labels = corrective_clicks(Draw(3, 3, CARD), batch.targets, batch.targets)
        waits = counts["waits"] - before
        assert counts["copies to main memory"] == 0
        for tensor in (batch.image, batch.targets, dialogue.points, dialogue.boxes, dialogue.mask, points, labels):
            assert tensor.device == CARD
    boxed = int(dialogue.boxes.inner.isfinite().flatten(1).all(1).sum())
    assert boxed > 20
    assert waits < boxed  # boxes are drawn all at once; only scribbles ask for sizes


def test_the_simulated_card_notices_what_a_card_would(monkeypatch):
    with simulated_card(monkeypatch) as counts:
        there = torch.ones(3, device=CARD)
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert torch.equal(there.cpu(), torch.ones(3))
        assert counts["copies to main memory"] == 1
        assert float(there.sum()) == 3.0
        assert counts["waits"] == 1
        assert there[there > 0].shape == (3,)
        assert counts["waits"] == 2


def calls(path: Path) -> set[tuple[str, str]]:
    """(function, method) of everything in a file that takes tensors to main memory."""
    found = set()
    for outer in ast.walk(ast.parse(path.read_text())):
        if not isinstance(outer, ast.FunctionDef):
            continue
        for node in ast.walk(outer):
            if isinstance(node, ast.Attribute) and node.attr in ("cpu", "numpy", "from_numpy"):
                found.add((outer.name, node.attr))
    return found


def test_only_loading_looking_and_scipys_way_on_the_cpu_take_voxels_to_main_memory():
    allowed = {
        "data/brains.py": {"deep_brain"},  # once per map, while loading
        "data/components.py": {"component_labels"},  # on the CPU only
        "data/supervoxels.py": {"with_supervoxels"},  # once per scan, while loading
        "data/volumes.py": {"load_volume"},
        "checkpoint.py": {"random_state", "restore_random_state"},
    }
    for path in [*TRAINING.glob("data/*.py"), *(TRAINING / f"{n}.py" for n in ("step", "loop", "distill", "losses"))]:
        functions = {function for function, _ in calls(path)}
        assert functions <= allowed.get(str(path.relative_to(TRAINING)), set()), path.name
    assert calls(TRAINING / "prompting.py") == set()
    assert ("load_volume", "from_numpy") in calls(TRAINING / "data" / "volumes.py")


# -- optimiser and batches ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_adamw_is_fused_on_a_card_and_only_there(name):
    def fused() -> object:
        parameters = [torch.nn.Parameter(torch.zeros(shape, device=device)) for shape in ((8,), (16, 16))]
        return make_optimizer(TrainConfig(optimizer=name), parameters).param_groups[-1]["fused"]

    device = "cpu"
    assert fused() is None
    with FakeTensorMode():
        device = "cuda"
        assert fused() is True


def test_a_state_saved_on_one_kind_of_device_goes_on_on_the_other():
    here = torch.nn.Parameter(torch.zeros(8))
    optimizer = make_optimizer(TrainConfig(), [here])
    here.grad = torch.ones(8)
    optimizer.step()
    state = optimizer.state_dict()
    with FakeTensorMode(allow_non_fake_inputs=True):
        there = torch.nn.Parameter(torch.zeros(8, device="cuda"))
        moved_there = make_optimizer(TrainConfig(), [there])
        moved_there.load_state_dict(state)
        assert moved_there.param_groups[0]["fused"] is True
        assert {value.device.type for value in moved_there.state[there].values()} == {"cuda"}
    state["param_groups"][0]["fused"] = True  # as a card would have saved it
    back = make_optimizer(TrainConfig(), [torch.nn.Parameter(torch.zeros(8))])
    back.load_state_dict(state)
    assert back.param_groups[0]["fused"] is None


@pytest.mark.parametrize("name", ["teacher_gpu", "student_gpu"])
def test_every_batch_of_the_configs_for_gpus_fits_a_card_with_the_scenes_that_are_kept(name):
    config = TrainConfig.load(ROOT / "Resources" / "training" / f"{name}.json")
    assert config.bfloat16
    kept = training_memory.count(config)
    sizes = {plan.size for plan in config.plans}
    # float32 image and five bool masks of each scene; cubes, and about twenty other shapes of an eighth each
    scenes = sum(config.pool * size**3 * 9 * (1 + 20 / 8) for size in sizes) / 1e9
    for plan in config.plans:
        assert 10 < kept.gigabytes(plan) < CARD_GIGABYTES - scenes
    assert all(plan.crops * plan.targets >= 48 for plan in config.plans)


def test_what_a_step_keeps_grows_with_crops_and_targets_as_the_estimate_says():
    model = build_hires(TINY).train()
    one, crops, both = (training_memory.saved_bytes(model, n, t, 2) for n, t in ((1, 1), (3, 1), (3, 2)))
    two = training_memory.saved_bytes(model, 2, 1, 2)
    target = training_memory.saved_bytes(model, 1, 2, 2) - one
    assert crops - one == pytest.approx(2 * (two - one), rel=0.02)
    assert both - crops == pytest.approx(3 * target, rel=0.02)


def test_a_machine_with_a_card_and_little_else_can_train_on_shapes():
    code = (
        "import sys\n"
        "for name in ('SimpleITK', 'scipy', 'rich', 'typer', 'matplotlib'): sys.modules[name] = None\n"
        "import torch; torch.set_num_threads(1)\n"
        "from Testing.gpu import training_section\n"
        "from FastSAM3DCore.training.data.draw import Draw\n"
        "from FastSAM3DCore.training.data.shapes import random_shapes\n"
        "from FastSAM3DCore.training.data.components import sweep_labels\n"
        "labels, count = random_shapes(Draw(0, 0), (16, 16, 16))\n"
        "print(int(sweep_labels(labels == count - 1).amax()) > 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr[-2000:]


# -- components -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("share", [-1.0, 0.1, 0.3, 0.5, 0.9, 2.0])
@pytest.mark.parametrize("shape", [(9, 12, 7), (1, 5, 6), (12, 12, 12)])
def test_components_found_by_sweeps_are_scipys_in_scipys_order(shape, share):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(int(share * 10) + 20)) < share
    pieces, count = ndimage.label(mask.numpy())
    firsts, compact = torch.unique(sweep_labels(mask), return_inverse=True)
    assert int((firsts > 0).sum()) == count
    shift = int(firsts[0] > 0)
    assert np.array_equal(compact.numpy() + shift, pieces)


def test_a_winding_corridor_is_one_component():
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[0, ::2] = True
    mask[0, 1::4, 8] = mask[0, 3::4, 0] = True
    assert len(torch.unique(sweep_labels(mask))) == 2


def test_growing_is_scipys_dilation():
    mask = torch.rand(7, 6, 5, generator=torch.Generator().manual_seed(1)) < 0.1
    assert np.array_equal(grow(mask).numpy(), ndimage.binary_dilation(mask.numpy()))


def test_the_card_counts_components_as_the_cpu_does(monkeypatch):
    for share in (0.0, 0.2, 2.0):
        mask = torch.rand(8, 8, 8, generator=torch.Generator().manual_seed(2)) < share
        labels, sizes = component_labels(mask)
        with simulated_card(monkeypatch):
            there, there_sizes = component_labels(OnCard(mask))
        assert torch.equal(there.inner, labels)
        assert there_sizes == sizes
