"""The ways in which the CPU is quicker give the numbers of the plain ones."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from FastSAM3DCore.geodesics import geodesic_distances, path_costs
from FastSAM3DCore.kernels import dense_attention
from FastSAM3DCore.kernels.dense_attention import attend
from FastSAM3DCore.modeling.attention import RelPosAttention3d
from FastSAM3DCore.modeling.hires import HiresConfig, HiresModel, build_hires
from FastSAM3DCore.modeling.hires.intensity import two_channels
from FastSAM3DCore.modeling.hires.layers import Conv3d, channels_last
from FastSAM3DCore.modeling.image_encoder import PatchEmbed3d
from FastSAM3DCore.modeling.layers import FullPrecisionConv3d, unpatch_linear
from FastSAM3DCore.precision import prepared

SMALL = HiresConfig(name="small", stem=8, middle=16, width=32, heads=2, depth=3, attention_from=1, decoder=(8, 16, 32))


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model() -> HiresModel:
    """A network whose residual blocks are not the identity any more."""
    torch.manual_seed(3)
    made = build_hires(SMALL)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made.eval()


@pytest.mark.parametrize(
    "kernel", [{"kernel_size": 1}, {"kernel_size": 2, "stride": 2}, {"kernel_size": 3, "padding": 1}]
)
@pytest.mark.parametrize("batch", [1, 2])
def test_a_convolution_is_torchs_own_with_its_gradients(kernel: dict[str, int], batch: int) -> None:
    torch.manual_seed(0)
    ours = Conv3d(4, 6, **kernel)
    plain = nn.Conv3d(4, 6, **kernel)
    plain.load_state_dict(ours.state_dict())
    x, y = (seeded(batch, 4, 8, 6, 4).requires_grad_() for _ in range(2))
    found, wanted = ours(channels_last(x)), plain(y)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    found.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("batch", [1, 3])
def test_channels_last_changes_the_order_in_memory_only(batch: int) -> None:
    x = seeded(batch, 5, 4, 6, 2)
    turned = channels_last(x)
    assert torch.equal(turned, x)
    # What decides the layout of all that follows; one image alone can look right and not be taken for it.
    assert F.relu(turned).stride() == x.contiguous(memory_format=torch.channels_last_3d).stride()


def test_patches_are_projected_as_by_the_convolution() -> None:
    torch.manual_seed(0)
    embed = PatchEmbed3d(4, 7)
    image = seeded(2, 1, 8, 12, 16)
    torch.testing.assert_close(embed(image), embed.proj(image).movedim(1, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_blocks_are_grown_as_by_the_transposed_convolution(bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.ConvTranspose3d(6, 4, 2, 2, bias=bias)
    x = seeded(1, 6, 1, 1, 1)
    blocks = unpatch_linear(x.flatten(1), conv)  # (1, 8, 4)
    torch.testing.assert_close(blocks.transpose(1, 2).reshape(1, 4, 2, 2, 2), conv(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mask", ["none", "bias", "flags"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_written_out_is_the_fused_one(mask: str, scale: float | None) -> None:
    q, k, v = seeded(2, 3, 10, 8), seeded(2, 3, 14, 8, seed=1), seeded(2, 3, 14, 8, seed=2)
    bias = {"none": None, "bias": seeded(3, 10, 14, seed=3), "flags": seeded(2, 3, 1, 14, seed=4) > -1}[mask]
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    torch.testing.assert_close(attend(q, k, v, bias, scale), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("extent", [(4, 4, 4), (3, 4, 4), (4, 4, 2), (2, 3, 4), (2, 2, 2)])
def test_a_bias_in_channels_is_the_bias(extent: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    attention = RelPosAttention3d(12, 2, window=4)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_()
        x = seeded(2, *extent, 12)
        found = attention(x)
        monkeypatch.setattr(dense_attention, "FEW_KEYS", 0)
        wanted = attention(x)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_ranks_from_a_table_are_those_of_a_search() -> None:
    air = torch.full((20, 32, 32), -1000.0)
    tissue = 40 + 200 * seeded(12, 32, 32)
    image = torch.cat([air, tissue])[None, None]
    rank = two_channels(image)[0, 1]
    ordered = image.flatten().sort().values
    share = torch.searchsorted(ordered, image.flatten()).reshape(rank.shape) / image.numel() * 2 - 1
    assert float((rank - share).abs().max()) < 0.02
    assert float(rank[:20].max()) <= -0.99  # equal voxels have the rank of the first of them


def test_sweeps_find_what_a_running_minimum_from_both_sides_finds() -> None:
    costs = path_costs(seeded(2, 6, 9, 5).abs())
    seeds = torch.zeros(2, 2, 6, 9, 5, dtype=torch.bool)
    seeds[:, 0, 2, 3, 1] = seeds[:, 0, 5, 8, 4] = True
    distance = torch.where(seeds, 0.0, 1e4)
    for axis in (2, 3, 4):
        cost = costs[:, axis - 2, None]
        ahead = (distance - cost).cummin(axis).values + cost
        distance = torch.minimum(ahead, (distance + cost).flip(axis).cummin(axis).values.flip(axis) - cost)
    torch.testing.assert_close(geodesic_distances(costs, seeds, rounds=1), distance.clamp(0, 1e4))
    assert bool((geodesic_distances(costs, seeds)[:, 1] == 1e4).all())


def test_weights_are_converted_once_and_the_original_keeps_its_own(model: HiresModel) -> None:
    before = copy.deepcopy(model.state_dict())
    ready = prepared(model, torch.bfloat16)
    assert ready.encoder.stem.weight.dtype == ready.decoder.flags.weight.dtype == torch.bfloat16
    depthwise = ready.encoder.trunk[0].position
    assert isinstance(depthwise, FullPrecisionConv3d)
    assert depthwise.weight is model.encoder.trunk[0].position.weight
    assert ready.encoder.norm1.weight is model.encoder.norm1.weight
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert prepared(model, torch.float32) is model
    points, labels = torch.tensor([[[5.0, 6, 7]]]), torch.tensor([[1]])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        answers = [net.decode(net.encode(seeded(1, 1, 16, 16, 16)), points, labels, None)[0] for net in (model, ready)]
    torch.testing.assert_close(*answers, rtol=2e-2, atol=2e-2)


def test_training_reaches_every_weight_through_what_is_worked_out_at_encoding(model: HiresModel) -> None:
    model.train()
    points, labels = torch.tensor([[[5.0, 6, 7]], [[9.0, 9, 9]]]), torch.tensor([[1], [0]])
    found = model.candidates(model.encode(seeded(1, 1, 16, 16, 16)), points, labels, None, True, None)
    assert found.multiple is not None
    (found.single.sum() + found.multiple.sum() + found.half.sum() + found.quality.sum()).backward()
    silent = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert silent == []
    for name in ("lateral2", "lateral3"):
        assert float(getattr(model.decoder, name).weight.grad.abs().sum()) > 0
    assert float(model.decoder.sharpness.grad.abs()) > 0
