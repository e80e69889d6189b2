"""Running out of device memory, simulated: the network raises what torch raises, when its input is too large for it.

"meta" stands for the device, so that what is computed there and what on the CPU can be told apart.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from FastSAM3DCore.device_model import DeviceModel, copy_to_cpu, is_out_of_memory

GPU = torch.device("meta")


class Hungry(nn.Module):
    """Fails on the device while `free` crops of memory are too few for a batch; always works on the CPU."""

    traits = "traits"

    def __init__(self, free: int, error: str = "CUDA out of memory. Tried to allocate 2.00 GiB") -> None:
        super().__init__()
        self.free, self.error = free, error
        self.calls: list[tuple[str, int]] = []
        self.weight = nn.Parameter(torch.ones(1, device=GPU))
        self.register_buffer("offset", torch.zeros(1, device=GPU))

    def _take(self, crops: int) -> None:
        place = self.weight.device.type
        self.calls.append((place, crops))
        if place == GPU.type and crops > self.free:
            raise (torch.OutOfMemoryError if "CUDA" in self.error else RuntimeError)(self.error)

    def encode(self, image: Tensor) -> dict[str, Any]:
        self._take(image.shape[0])
        return {"map": image * self.weight + self.offset, "pair": (image.sum((1, 2, 3, 4)), image[:, 0])}

    def decode(
        self, embedding: dict[str, Any], points: Tensor, labels: Tensor, mask: Tensor | None, multimask: bool = False,
        *, boxes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        self._take(1)
        logits = embedding["map"] + points.sum() + labels.sum() + (0 if mask is None else mask)
        return logits + (0 if boxes is None else boxes.sum()), points.sum().reshape(1, 1)


def images(count: int) -> Tensor:
    return torch.arange(float(count)).reshape(-1, 1, 1, 1, 1).expand(-1, 1, 2, 2, 2).contiguous()


PROMPTS = (torch.ones(1, 1, 3), torch.ones(1, 1, dtype=torch.int64), None)


def test_with_enough_memory_nothing_special_happens() -> None:
    network, notices = Hungry(free=2), []
    model = DeviceModel(network, GPU, notify=notices.append)
    assert model.encode(images(2))["map"].device == GPU
    assert (network.calls, notices, model.device, model.traits) == ([("meta", 2)], [], GPU, "traits")


def test_memory_that_can_be_freed_is_freed_and_the_call_repeated() -> None:
    network, notices = Hungry(free=0), []

    def release() -> None:
        network.free = 4

    model = DeviceModel(network, GPU, release=release, notify=notices.append)
    assert model.encode(images(4))["map"].device == GPU
    assert network.calls == [("meta", 4), ("meta", 4)]
    assert notices == []


def test_a_batch_that_does_not_fit_is_shared_out() -> None:
    network, notices = Hungry(free=1), []
    model = DeviceModel(network, GPU, notify=notices.append)
    embedding = model.encode(images(3))
    assert embedding["map"].shape == (3, 1, 2, 2, 2)
    assert embedding["pair"][1].shape == (3, 2, 2, 2)
    assert (notices, model.device) == ([], GPU)
    assert max(crops for _, crops in network.calls[-2:]) == 1


@pytest.mark.parametrize("words", ["CUDA out of memory", "MPS backend out of memory (MPS allocated: 6 GB)"])
def test_when_not_even_one_crop_fits_work_goes_on_on_the_cpu_with_one_notice(words: str) -> None:
    network, notices = Hungry(free=0, error=words), []
    network.weight = nn.Parameter(torch.ones(1, device=GPU))
    model = DeviceModel(network, GPU, notify=notices.append)
    with pytest.MonkeyPatch.context() as patch:
        # A meta tensor has no numbers to copy; everything else about moving to the CPU is real.
        patch.setattr("FastSAM3DCore.device_model.copy_to_cpu", lambda _: on_cpu(network))
        found = model.encode(images(3))
        again = model.encode(images(2))
    torch.testing.assert_close(found["map"], images(3))
    torch.testing.assert_close(again["map"], images(2))
    assert model.device.type == "cpu"
    assert len(notices) == 1
    assert "continuing on the CPU" in notices[0]


def test_a_click_moves_to_the_cpu_too_with_prompts_and_embedding() -> None:
    network, notices = Hungry(free=0), []
    model = DeviceModel(network, GPU, notify=notices.append)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("FastSAM3DCore.device_model.copy_to_cpu", lambda _: on_cpu(network))
        logits, quality = model.decode({"map": images(1)}, *PROMPTS, boxes=torch.ones(1, 2, 3))
    torch.testing.assert_close(logits, images(1) + 3 + 1 + 6)
    assert quality.item() == 3
    assert len(notices) == 1


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    network = Hungry(free=0, error="device-side assert triggered")
    with pytest.raises(RuntimeError, match="device-side assert"):
        DeviceModel(network, GPU).encode(images(1))
    assert len(network.calls) == 1
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_the_copy_on_the_cpu_is_independent_and_the_original_stays() -> None:
    original = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()
    copied = copy_to_cpu(original)
    x = torch.randn(4, 2)
    torch.testing.assert_close(copied(x), original(x))
    with torch.no_grad():
        original[0].weight.zero_()
    assert float(copied[0].weight.detach().abs().sum()) > 0
    assert [name for name, _ in copied.named_parameters()] == [name for name, _ in original.named_parameters()]


def on_cpu(network: Hungry) -> Hungry:
    moved = Hungry(network.free)
    moved.weight = nn.Parameter(torch.ones(1))
    moved.offset = torch.zeros(1)
    return moved.eval()
