"""Training: what Muon and AdamW do to which parameters."""

from __future__ import annotations

import copy

import pytest
import torch

from FastSAM3DCore.training.optimizer import MuonAdamW

pytestmark = pytest.mark.usefixtures("one_thread")


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
