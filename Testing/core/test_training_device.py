"""Where training data are made: nothing leaves the card but the few numbers that decide what is launched next."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from FastSAM3DCore.training.data.components import component_labels, grow, sweep_labels
from FastSAM3DCore.training.data.draw import Draw
from FastSAM3DCore.training.data.engine import DataEngine, Sources
from FastSAM3DCore.training.data.pool import ScenePool
from FastSAM3DCore.training.data.supervoxels import with_supervoxels
from FastSAM3DCore.training.data.volumes import LabelledVolume, find_structures
from FastSAM3DCore.training.prompting import corrective_clicks, first_prompts
from Testing.core.simulated_card import CARD, OnCard, simulated_card

pytestmark = pytest.mark.usefixtures("one_thread")

TRAINING = Path(__file__).parents[2] / "FastSAM3DCore" / "training"
KINDS = ["shapes", "anatomy", "scans", "supervoxels"]
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
    return Sources([bones], [1.0], [scan], [1.0], [with_supervoxels(scan)])


def on_card(volume: LabelledVolume) -> LabelledVolume:
    return dataclasses.replace(
        volume,
        labels=OnCard(volume.labels),
        image=None if volume.image is None else OnCard(volume.image),
        means=None if volume.means is None else OnCard(volume.means),
    )


def moved(sources: Sources) -> Sources:
    kinds = (sources.anatomy, sources.scans, sources.supervoxels)
    anatomy, scans, supervoxels = ([on_card(v) for v in volumes] for volumes in kinds)
    return Sources(anatomy, [1.0], scans, [1.0], supervoxels)


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
