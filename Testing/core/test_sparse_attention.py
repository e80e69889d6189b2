"""3D sparse attention against its definition: dense attention with the same mask, in float64."""

from __future__ import annotations

import pytest
import torch

from FastSAM3DCore.kernels.sparse_attention import (
    attention_pattern,
    axis_segments,
    dense_attention_3d,
    sparse_attention_3d,
)

GRIDS = [(4, 4, 4), (8, 8, 8), (6, 8, 12), (5, 7, 9), (3, 9, 1), (2, 17, 4)]


def reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, grid: tuple[int, int, int], window: int):
    """Softmax over all tokens with the forbidden ones removed."""
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    half = q.shape[1] // 2
    local, dilated = (attention_pattern(grid, window, far) for far in (False, True))
    allowed = torch.stack([local] * half + [dilated] * (q.shape[1] - half))
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v


def random_qkv(grid: tuple[int, int, int], heads: int = 4, grad: bool = False) -> list[torch.Tensor]:
    tokens = grid[0] * grid[1] * grid[2]
    generator = torch.Generator().manual_seed(tokens)
    return [
        torch.randn(2, heads, tokens, 8, dtype=torch.float64, generator=generator, requires_grad=grad) for _ in range(3)
    ]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("window", [2, 4])
@pytest.mark.parametrize("grad", [False, True])
def test_sparse_attention_equals_dense_attention_under_its_mask(grid, window, grad):
    q, k, v = random_qkv(grid, grad=grad)
    found = sparse_attention_3d(q, k, v, grid, window)
    torch.testing.assert_close(found, reference(q, k, v, grid, window), rtol=1e-10, atol=1e-10)


def test_gradients_equal_those_of_the_definition():
    grid = (5, 6, 7)
    fast, slow = random_qkv(grid, grad=True), random_qkv(grid, grad=True)
    weight = torch.randn(fast[0].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (sparse_attention_3d(*fast, grid, 4) * weight).sum().backward()
    (reference(*slow, grid, 4) * weight).sum().backward()
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-9)


def test_an_odd_number_of_heads_gives_the_extra_one_to_the_dilated_half():
    grid = (8, 8, 8)
    q, k, v = random_qkv(grid, heads=3)
    torch.testing.assert_close(sparse_attention_3d(q, k, v, grid), reference(q, k, v, grid, 4))


@pytest.mark.parametrize("grid", [grid for grid in GRIDS if max(grid) <= 16])
def test_two_layers_let_every_token_reach_every_other(grid):
    local = attention_pattern(grid, 4, False).double()
    dilated = attention_pattern(grid, 4, True).double()
    assert bool(((local @ dilated) > 0).all())


def test_a_grid_no_larger_than_the_window_is_dense():
    q, k, v = random_qkv((3, 4, 2))
    assert torch.equal(sparse_attention_3d(q, k, v, (3, 4, 2), 4), dense_attention_3d(q, k, v))


@pytest.mark.parametrize(("length", "expected"), [(8, (2, 4)), (6, (2, 3)), (5, (2, 3)), (4, (1, 4)), (16, (4, 4))])
def test_axes_are_cut_as_evenly_as_can_be(length, expected):
    assert axis_segments(length, 4) == expected


def test_a_grid_of_the_wrong_size_is_refused():
    q, k, v = random_qkv((4, 4, 4))
    with pytest.raises(ValueError, match="does not hold"):
        sparse_attention_3d(q, k, v, (4, 4, 5))
