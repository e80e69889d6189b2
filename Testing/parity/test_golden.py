"""The networks against their own verified answers, and against the plain reference; needs no other file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from FastSAM3DCore.modeling.config import Sam3DConfig
from Testing.parity.formula_weights import formula_image, formula_mask, formula_state, hashed_uniform
from Testing.parity.golden_cases import GOLDEN_CONFIGS, PROMPTS, golden_model, golden_outputs, prompt_mask
from Testing.parity.plain_reference import PlainSam3D

GOLDEN = Path(__file__).with_name("golden.safetensors")
each_config = pytest.mark.parametrize("config", GOLDEN_CONFIGS, ids=lambda config: config.name)


@each_config
def test_a_tiny_network_gives_its_committed_answers(config: Sam3DConfig) -> None:
    golden = {name: tensor for name, tensor in load_file(GOLDEN).items() if name.startswith(f"{config.name}.")}
    ours = golden_outputs(config)
    assert ours.keys() == golden.keys()
    for name, tensor in golden.items():
        torch.testing.assert_close(ours[name], tensor, atol=2e-4, rtol=0, msg=lambda m, name=name: f"{name}: {m}")


def plain_model(config: Sam3DConfig) -> PlainSam3D:
    plain = PlainSam3D(config)
    plain.load_state_dict(formula_state(plain), strict=True)
    return plain.eval()


@each_config
def test_the_plain_reference_has_the_same_names_in_the_same_order(config: Sam3DConfig) -> None:
    assert list(PlainSam3D(config).state_dict()) == list(golden_model(config).state_dict())


@each_config
def test_the_closed_form_of_padded_windows_equals_real_padding(config: Sam3DConfig) -> None:
    image = torch.cat((formula_image(config.image_size), formula_image(config.image_size).flip(2)))
    with torch.no_grad():
        ours = golden_model(config).encode(image)
        plain = plain_model(config).encode(image)
    torch.testing.assert_close(ours, plain, atol=5e-5, rtol=0)


@each_config
@pytest.mark.parametrize("multimask", [False, True])
def test_the_decoder_equals_the_plain_reference(config: Sam3DConfig, multimask: bool) -> None:
    ours, plain = golden_model(config), plain_model(config)
    with torch.no_grad():
        embedding = plain.encode(formula_image(config.image_size))
        for coords, labels, kind in PROMPTS.values():
            prompts = (embedding, coords, labels, prompt_mask(config, kind), multimask)
            for a, b in zip(ours.decode(*prompts), plain.decode(*prompts), strict=True):
                torch.testing.assert_close(a, b, atol=5e-5, rtol=0)


@each_config
def test_several_prompts_on_one_embedding_equal_the_same_prompts_one_by_one(config: Sam3DConfig) -> None:
    model = golden_model(config)
    coords = torch.from_numpy(7.5 + 7.5 * hashed_uniform(18, 3)).float().reshape(3, 2, 3)
    labels = torch.tensor([[1, 0], [1, 1], [0, -1]])
    masks = formula_mask(config.mask_size, batch=3)
    with torch.no_grad():
        embedding = model.encode(formula_image(config.image_size))
        together, iou = model.decode(embedding, coords, labels, masks)
        for row in range(3):
            alone, alone_iou = model.decode(
                embedding, coords[row : row + 1], labels[row : row + 1], masks[row : row + 1]
            )
            torch.testing.assert_close(together[row : row + 1], alone, atol=2e-5, rtol=0)
            torch.testing.assert_close(iou[row : row + 1], alone_iou, atol=2e-5, rtol=0)
