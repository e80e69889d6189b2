"""Looks at held-out crops during training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from FastSAM3DCore.modeling.hires import build_hires
from FastSAM3DCore.training.data.components import component_labels
from FastSAM3DCore.training.holdout import clicked_dice, held_out_crops, mean_scores
from FastSAM3DCore.training.loop import Trainer
from Testing.core.tiny_training import TINY, tiny_config

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan of two balls with one label."""
    root = tmp_path_factory.mktemp("data")
    place = np.stack(np.mgrid[:40, :40, :40])
    distances = [np.sqrt(((place - centre) ** 2).sum(0)) for centre in (14, 30)]
    labels = ((distances[0] < 8) | (distances[1] < 4)).astype(np.int16)
    (root / "scans" / "balls").mkdir(parents=True)
    for name, array in (("label", labels), ("image", labels * 100.0)):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(root / "scans" / "balls" / f"{name}.nii.gz"))
    (root / "splits.json").write_text(json.dumps({"held_out": ["balls", "absent"]}))
    return root


def test_a_held_out_crop_shows_the_largest_piece(data):
    (crop,) = held_out_crops(data / "scans", ["balls", "absent"], 32, 2)
    assert (crop.case, crop.label) == ("balls", 1)
    assert sum(size > 0 for size in component_labels(crop.target)[1]) == 1
    assert float(crop.image[crop.target].mean()) > 3 * float(crop.image[~crop.target].mean())


def test_each_click_is_scored(data):
    crops = held_out_crops(data / "scans", ["balls"], 32, 1)
    torch.manual_seed(0)
    model = build_hires(TINY).eval()
    scores = clicked_dice(model, crops[0], 3, bfloat16=False)
    assert len(scores) == 3
    assert all(0 <= score <= 1 for score in scores)
    means = mean_scores(model.train(), crops, 3, bfloat16=False)
    assert set(means) == {"1", "3", "box"}
    assert means["1"] == pytest.approx(scores[0])
    assert means["3"] == pytest.approx(scores[2])
    assert model.training


def test_a_run_notes_how_it_does_on_held_out_crops(data, tmp_path):
    splits = str(data / "splits.json")
    config = tiny_config(tmp_path, data=str(data), splits=splits, steps=2, evaluate_seconds=1e-3)
    Trainer(config, "cpu").run()
    rows = [json.loads(line) for line in (tmp_path / "held_out.jsonl").read_text().splitlines()]
    assert rows
    assert all(0 <= rows[-1][key] <= 1 for key in ("1", "3", "5", "box"))
