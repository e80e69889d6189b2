"""The project's own network: shapes, prompts, invariances and files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from FastSAM3DCore.errors import PromptError, WeightsError
from FastSAM3DCore.geodesics import geodesic_distances, path_costs
from FastSAM3DCore.modeling.hires import (
    HiresConfig,
    build_hires,
    load_hires,
    save_hires,
    student_config,
    teacher_config,
)
from FastSAM3DCore.modeling.hires.intensity import two_channels
from FastSAM3DCore.modeling.hires.layers import depth_to_space, space_to_depth
from FastSAM3DCore.modeling.interface import PromptableModel

SMALL = HiresConfig(name="small", stem=8, middle=16, width=32, heads=2, depth=3, attention_from=1, decoder=(8, 16, 32))


@pytest.fixture(scope="module")
def model():
    """A small network whose every layer has something to say (fresh residual blocks start as the identity)."""
    torch.manual_seed(3)
    made = build_hires(SMALL)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made.eval()


def crop(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(seed))


def one_click(z: float, y: float, x: float, label: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([[[z, y, x]]]), torch.tensor([[label]])


def test_the_network_is_a_promptable_model(model):
    assert isinstance(model, PromptableModel)
    assert (model.traits.size_multiple, model.traits.mask_stride, model.traits.box_prompts) == (8, 1, True)


@pytest.mark.parametrize("shape", [(32, 32, 32), (16, 40, 24), (8, 8, 8), (48, 16, 56)])
@pytest.mark.parametrize("multimask", [False, True])
def test_any_multiple_of_eight_gives_masks_of_the_crops_own_size(model, shape, multimask):
    with torch.inference_mode():
        embedding = model.encode(crop(*shape))
        logits, quality = model.decode(embedding, *one_click(3, 4, 5), None, multimask)
    masks = 3 if multimask else 1
    assert logits.shape == (1, masks, *shape)
    assert quality.shape == (1, masks)
    assert bool(((quality >= 0) & (quality <= 1)).all())


def test_a_crop_that_is_no_multiple_of_eight_is_refused(model):
    with pytest.raises(PromptError, match="multiples of 8"):
        model.encode(crop(20, 16, 16))


def test_several_targets_share_one_encoding(model):
    points = torch.tensor([[[4.0, 5, 6]], [[12.0, 3, 9]], [[8.0, 8, 8]], [[1.0, 2, 3]]])
    labels = torch.ones(4, 1, dtype=torch.int64)
    images = torch.cat([crop(16, 16, 16), crop(16, 16, 16, seed=1)])
    with torch.inference_mode():
        together, _ = model.decode(model.encode(images), points, labels, None)
        alone = [
            model.decode(model.encode(images[k // 2, None]), points[k, None], labels[k, None], None)[0]
            for k in range(4)
        ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-3, atol=1e-4)


def test_targets_that_do_not_divide_among_the_crops_are_refused(model):
    embedding = model.encode(torch.cat([crop(16, 16, 16)] * 2))
    with pytest.raises(PromptError, match="shared out"):
        model.decode(embedding, torch.zeros(3, 1, 3), torch.ones(3, 1), None)


def test_the_same_call_gives_the_same_bits(model):
    with torch.inference_mode():
        first, _ = model.decode(model.encode(crop(24, 16, 32)), *one_click(9, 9, 9), None)
        second, _ = model.decode(model.encode(crop(24, 16, 32)), *one_click(9, 9, 9), None)
    assert torch.equal(first, second)


def test_affine_scaling_of_the_intensities_changes_nothing_that_matters(model):
    image = crop(16, 16, 16)
    with torch.inference_mode():
        plain, _ = model.decode(model.encode(image), *one_click(8, 8, 8), None)
        scaled, _ = model.decode(model.encode(image * 250 - 1000), *one_click(8, 8, 8), None)
    torch.testing.assert_close(plain, scaled, rtol=1e-2, atol=1e-2)


def test_clicks_boxes_and_masks_each_change_the_answer(model):
    with torch.inference_mode():
        embedding = model.encode(crop(16, 16, 16))
        none = torch.zeros(1, 0, 3), torch.zeros(1, 0, dtype=torch.int64)
        box = torch.tensor([[[2.0, 2, 2], [9.0, 12, 10]]])
        answers = [
            model.decode(embedding, *none, None)[0],
            model.decode(embedding, *one_click(4, 4, 4), None)[0],
            model.decode(embedding, *one_click(4, 4, 4, label=0), None)[0],
            model.decode(embedding, *none, None, boxes=box)[0],
            model.decode(embedding, *none, torch.full((1, 1, 16, 16, 16), -3.0))[0],
        ]
    for n, one in enumerate(answers):
        for other in answers[:n]:
            assert float((one - other).abs().max()) > 1e-4


def test_padding_points_and_rows_of_nan_mean_nothing(model):
    points, labels = one_click(4, 4, 4)
    padded = torch.cat([points, torch.full((1, 3, 3), 11.0)], 1), torch.cat([labels, torch.full((1, 3), -1)], 1)
    with torch.inference_mode():
        embedding = model.encode(crop(16, 16, 16))
        plain, _ = model.decode(embedding, points, labels, None)
        other, _ = model.decode(
            embedding, *padded, torch.full((1, 1, 16, 16, 16), torch.nan), boxes=torch.full((1, 2, 3), torch.nan)
        )
    torch.testing.assert_close(plain, other)


def test_points_outside_the_crop_are_clamped_and_many_are_welcome(model):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(1, 64, 3, generator=generator) * 60 - 20
    labels = torch.randint(0, 2, (1, 64), generator=generator)
    with torch.inference_mode():
        embedding = model.encode(crop(16, 24, 16))
        wild, _ = model.decode(embedding, points, labels, None)
        limit = torch.tensor([15.0, 23, 15])
        tame, _ = model.decode(embedding, torch.minimum(points.clamp(min=0), limit), labels, None)
    assert bool(wild.isfinite().all())
    torch.testing.assert_close(wild, tame, rtol=1e-3, atol=1e-3)


def test_a_drift_below_zero_cannot_silence_the_half_resolution_features():
    torch.manual_seed(0)
    drifted = build_hires(SMALL).eval()
    with torch.inference_mode():
        drifted.encoder.stem.bias.fill_(-100.0)
        drifted.encoder.lateral2.bias.fill_(-100.0)
        embedding = drifted.encode(crop(16, 16, 16))
    for name in ("fine", "click", "middle"):
        assert float(embedding[name].std((2, 3, 4)).median()) > 0.01


def test_space_to_depth_is_undone_by_depth_to_space():
    x = torch.randn(2, 3, 4, 6, 8)
    assert torch.equal(depth_to_space(space_to_depth(x)), x)


def test_the_rank_channel_ignores_any_rising_transform():
    image = crop(16, 16, 16)
    rank = two_channels(image)[0, 1]
    curved = two_channels(torch.exp(image))[0, 1]
    assert float((rank - curved).abs().mean()) < 0.02
    assert float(rank.min()) >= -1
    assert float(rank.max()) <= 1


def test_a_constant_crop_has_finite_channels():
    assert bool(two_channels(torch.full((1, 1, 8, 8, 8), 7.0)).isfinite().all())


def test_geodesic_distance_follows_the_path_around_a_wall():
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, :8, 4] = 1.0  # a wall with a gap at the bottom
    seeds = torch.zeros(1, 1, 1, 9, 9, dtype=torch.bool)
    seeds[0, 0, 0, 0, 0] = True
    distance = geodesic_distances(path_costs(image, edge_cost=100.0), seeds, rounds=4)[0, 0, 0]
    assert float(distance[0, 3]) == pytest.approx(3)
    assert float(distance[0, 8]) == pytest.approx(8 + 8 + 8)  # down, across, up
    straight = geodesic_distances(path_costs(torch.zeros_like(image)), seeds)[0, 0, 0]
    assert float(straight[8, 8]) == pytest.approx(16)


def test_weights_survive_a_round_trip_through_a_file(model, tmp_path):
    save_hires(model, tmp_path / "w.safetensors", {"note": "x"})
    loaded = load_hires(tmp_path / "w.safetensors")
    assert loaded.config == SMALL
    assert not loaded.training
    for key, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value.half().float())


def test_a_file_of_other_weights_is_refused_and_names_the_keys(model, tmp_path):
    save_hires(model, tmp_path / "w.safetensors")
    tensors = load_file(tmp_path / "w.safetensors")
    tensors.pop("decoder.enter.weight")
    save_file(tensors, tmp_path / "bad.safetensors", {"arch": "fastsam3d-hires", "config": SMALL.to_json()})
    with pytest.raises(WeightsError, match=r"decoder\.enter\.weight"):
        load_hires(tmp_path / "bad.safetensors")
    save_file(tensors, tmp_path / "other.safetensors", {"arch": "something"})
    with pytest.raises(WeightsError, match="something"):
        load_hires(tmp_path / "other.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"not a weights file")
    with pytest.raises(WeightsError, match="cannot read"):
        load_hires(tmp_path / "junk.safetensors")


def test_an_unknown_setting_is_refused():
    text = json.dumps({**json.loads(SMALL.to_json()), "wings": 2})
    with pytest.raises(WeightsError, match="wings"):
        HiresConfig.from_json(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "not a JSON object"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"width": "x"}', "width must be a whole number from 1 to 1024, not 'x'"),
        ('{"width": -8}', "width must be"),
        ('{"width": 100000, "heads": 1}', "width must be"),
        ('{"depth": 0}', "depth must be"),
        ('{"depth": true}', "depth must be"),
        ('{"heads": 2.0}', "heads must be"),
        ('{"window": -1}', "window must be a whole number from 0"),
        ('{"decoder": 5}', "decoder must be three whole numbers, not 5"),
        ('{"decoder": [8, 16]}', "decoder must be three"),
        ('{"decoder": [8, 16, "x"]}', r"decoder\[2\] must be a whole number"),
        ('{"name": 5}', "name must be text"),
    ],
)
def test_settings_of_another_type_or_size_are_refused_in_one_line(text, message):
    with pytest.raises(WeightsError, match=message) as caught:
        HiresConfig.from_json(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_teacher_and_student_differ_in_the_trunk_only():
    teacher, student = build_hires(teacher_config()).state_dict(), build_hires(student_config()).state_dict()
    outside = {key for key in student if not key.startswith("encoder.trunk.")}
    assert outside == {key for key in teacher if not key.startswith("encoder.trunk.")}
    assert all(teacher[key].shape == student[key].shape for key in outside)
    assert not any(key.startswith(("encoder.trunk.0.qkv", "encoder.trunk.1.qkv")) for key in student)
    assert "encoder.trunk.2.qkv.weight" in student
    assert sum(v.numel() for v in student.values()) < 8e6


BUNDLED = Path(__file__).parents[2] / "Resources" / "weights" / "default.safetensors"


def test_the_bundled_weights_are_small_documented_and_of_the_student():
    assert BUNDLED.stat().st_size <= 25e6
    assert BUNDLED.with_suffix(".md").exists()
    config = load_hires(BUNDLED).config
    assert config == dataclasses.replace(student_config(), name=config.name)


def test_the_bundled_weights_segment_a_ball_from_clicks_and_from_its_box():
    """A ball of 9 voxels radius in noise of a quarter of its contrast (measured .84 by a click, .90 by its box)."""
    axis = torch.arange(32) - 15.5
    target = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) < 81
    image = target.float() + 0.25 * torch.randn(32, 32, 32, generator=torch.Generator().manual_seed(0))
    model = load_hires(BUNDLED)
    with torch.inference_mode():
        embedding = model.encode(image[None, None])
        clicked, quality = model.decode(embedding, *one_click(15, 16, 15), None)
        none = torch.zeros(1, 0, 3), torch.zeros(1, 0, dtype=torch.int64)
        boxed, _ = model.decode(embedding, *none, None, boxes=torch.tensor([[[7.0, 7, 7], [25.0, 25, 25]]]))
    for logits, least in ((clicked, 0.8), (boxed, 0.85)):
        found = logits[0, 0] > 0
        assert 2 * int((found & target).sum()) / int(found.sum() + target.sum()) > least
    assert float(quality[0, 0]) > 0.3
