"""The published networks as the engine meets them: traits, names, cost, refusals, gradients."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from FastSAM3DCore.errors import ImageError, PromptError, WeightsError
from FastSAM3DCore.modeling.build import build_sam3d, config_from_shapes
from FastSAM3DCore.modeling.config import STUDENT, TEACHER, Sam3DConfig
from FastSAM3DCore.modeling.interface import PromptableModel
from FastSAM3DCore.modeling.sam3d import Sam3D

TINY = Sam3DConfig(
    name="tiny", image_size=16, patch_size=4, dim=24, depth=3, heads=2, mlp_dim=48, window=3, global_attention=(1,),
    skip_blocks=1, residual="normed", neck_dim=48, decoder_mlp_dim=64, iou_hidden_dim=32,
)  # fmt: skip
PUBLISHED = pytest.mark.parametrize("config", [TEACHER, STUDENT], ids=["teacher", "student"])

# SHA-256 of the lines "name shape" of the published state dicts, in their order.
PUBLISHED_NAMES = {
    "sam-med3d-turbo": "b185a03ee58853991a46b8de340206a05e7c021c6143314df4ccf7d2e27b0199",
    "fastsam3d": "c8b2c40f436bad1aa87d6a01b59aded85d4dd21a5e8a4acda2d1a068f7f8ce22",
}


def on_meta(config: Sam3DConfig) -> Sam3D:
    """The network without memory or arithmetic: shapes and costs only."""
    with torch.device("meta"):
        return Sam3D(config).eval()


@pytest.fixture
def tiny() -> Sam3D:
    torch.manual_seed(0)
    return build_sam3d(TINY)


def click(batch: int = 1, count: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((batch, count, 3), 7.0), torch.ones(batch, count)


@PUBLISHED
def test_weights_are_named_and_shaped_as_in_the_published_checkpoints(config: Sam3DConfig) -> None:
    lines = "\n".join(f"{name} {list(t.shape)}" for name, t in on_meta(config).state_dict().items())
    assert hashlib.sha256(lines.encode()).hexdigest() == PUBLISHED_NAMES[config.name]


@PUBLISHED
def test_decoding_a_click_costs_less_than_an_eighth_of_encoding(config: Sam3DConfig) -> None:
    model = on_meta(config)
    with FlopCounterMode(display=False) as encoding:
        embedding = model.encode(torch.empty(1, 1, 128, 128, 128, device="meta"))
    with FlopCounterMode(display=False) as decoding:
        coords, labels = (t.to("meta") for t in click())
        logits, _ = model.decode(embedding, coords, labels, torch.empty(1, 1, 32, 32, 32, device="meta"))
    assert logits.shape == (1, 1, 32, 32, 32)
    assert 1e9 < decoding.get_total_flops() < encoding.get_total_flops() / 8


def test_padded_windows_cost_the_teacher_less_than_a_third_of_real_padding() -> None:
    # 368.6 GFLOP with real 14^3 windows, measured on the published classes.
    with FlopCounterMode(display=False) as encoding:
        on_meta(TEACHER).encode(torch.empty(1, 1, 128, 128, 128, device="meta"))
    assert encoding.get_total_flops() < 368.6e9 / 3


@PUBLISHED
def test_traits_tell_the_engine_how_the_published_training_cut_its_crops(config: Sam3DConfig) -> None:
    model = on_meta(config)
    assert isinstance(model, PromptableModel)
    traits = model.traits
    assert (traits.crop_size, traits.fixed_crop, traits.size_multiple, traits.spacing_mm) == (128, True, 128, 1.5)
    assert (traits.mask_stride, traits.box_prompts, traits.mask_prompt_zero) == (4, False, True)
    assert traits.name == config.name


def test_boxes_are_refused_because_the_published_networks_have_none(tiny: Sam3D) -> None:
    embedding = torch.zeros(1, 48, 4, 4, 4)
    with pytest.raises(PromptError, match="takes no boxes"):
        tiny.decode(embedding, *click(), None, boxes=torch.zeros(1, 2, 3))


@pytest.mark.parametrize("shape", [(1, 1, 16, 16, 12), (1, 2, 16, 16, 16), (1, 16, 16, 16)])
def test_a_crop_of_another_shape_is_refused(tiny: Sam3D, shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="takes crops of shape"):
        tiny.encode(torch.zeros(shape))
    with pytest.raises(ImageError, match="takes crops of shape"):
        tiny.encode_list(torch.zeros(shape))


def test_prompts_that_do_not_fit_each_other_are_refused(tiny: Sam3D) -> None:
    embedding = torch.zeros(2, 48, 4, 4, 4)
    coords, labels = click(3)
    with pytest.raises(PromptError, match="labels"):
        tiny.decode(embedding[:1], coords, labels[:, :0], None)
    with pytest.raises(PromptError, match="mask prompt"):
        tiny.decode(embedding[:1], coords, labels, torch.zeros(1, 1, 16, 16, 16))
    with pytest.raises(PromptError, match="2 embeddings"):
        tiny.decode(embedding, coords, labels, None)


def test_integer_and_float_clicks_are_the_same(tiny: Sam3D) -> None:
    embedding = torch.randn(1, 48, 4, 4, 4)
    coords, labels = click(count=2)
    with torch.no_grad():
        assert torch.equal(
            tiny.decode(embedding, coords, labels, None)[0],
            tiny.decode(embedding, coords.long(), labels.long(), None)[0],
        )


def test_a_point_marked_as_padding_has_no_position(tiny: Sam3D) -> None:
    tokens = tiny.prompt_encoder.points(torch.tensor([[[1.0, 2.0, 3.0], [9.0, 9.0, 9.0]]]), torch.tensor([[-1, -1]]))
    assert torch.equal(tokens[0], tiny.prompt_encoder.not_a_point_embed.weight.expand(3, -1))


def test_no_mask_is_not_a_mask_of_zero_logits(tiny: Sam3D) -> None:
    embedding = torch.randn(1, 48, 4, 4, 4)
    with torch.no_grad():
        without = tiny.decode(embedding, *click(), None)[0]
        zeros = tiny.decode(embedding, *click(), torch.zeros(1, 1, 16, 16, 16))[0]
    assert float((without - zeros).abs().max()) > 1e-4


def test_the_distillation_list_ends_with_the_embedding_and_trains_every_encoder_weight(tiny: Sam3D) -> None:
    tiny.train()
    image = torch.randn(1, 1, 16, 16, 16)
    features = tiny.encode_list(image)
    assert [tuple(f.shape) for f in features] == [(1, 4, 4, 4, 24), (1, 4, 4, 4, 24), (1, 48, 4, 4, 4)]
    torch.testing.assert_close(features[-1], tiny.encode(image))
    (features[-1] ** 2).mean().backward()
    gradients = [p.grad for p in tiny.image_encoder.parameters()]
    assert all(g is not None and bool(g.isfinite().all()) and bool(g.abs().sum() > 0) for g in gradients)


def test_a_strict_load_names_the_first_five_differences(tiny: Sam3D) -> None:
    state = dict(tiny.state_dict())
    gone = [name for name in state if name.startswith("mask_decoder.transformer.layers.1.")]
    for name in gone:
        del state[name]
    state["mask_decoder.iou_token.weight"] = torch.zeros(2, 48)
    with pytest.raises(WeightsError) as caught:
        build_sam3d(TINY, state)
    message = str(caught.value)
    assert all(name in message for name in gone[:5])
    assert gone[5] not in message
    assert f"and {len(gone) + 1 - 5} more" in message


def test_depth_skip_heads_and_windows_are_read_from_shapes() -> None:
    for config in (TINY, replace(TINY, skip_blocks=0, depth=4, window=7, global_attention=(0, 2), residual="pre")):
        shapes = {name: tuple(t.shape) for name, t in on_meta(config).state_dict().items()}
        read = config_from_shapes(shapes)
        assert replace(read, name=config.name, list_stride=config.list_stride) == config


@PUBLISHED
def test_the_published_sizes_are_recognised_from_shapes(config: Sam3DConfig) -> None:
    read = config_from_shapes({name: tuple(t.shape) for name, t in on_meta(config).state_dict().items()})
    assert [read.window_of(b) for b in range(read.depth)] == [config.window_of(b) for b in range(config.depth)]
    assert replace(read, window=config.window, global_attention=config.global_attention) == config


def test_shapes_of_another_family_are_refused() -> None:
    with pytest.raises(WeightsError, match="not the weights of a SAM-Med3D"):
        config_from_shapes({"conv1.weight": (64, 3, 7, 7)})
