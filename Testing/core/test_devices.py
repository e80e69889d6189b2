"""Devices are proved by a kernel, and their absence is explained."""

from __future__ import annotations

import logging

import pytest
import torch

from FastSAM3DCore.devices import advice_for, choose_device, describe_devices, run_kernel
from FastSAM3DCore.errors import DeviceError

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")


def test_the_cpu_always_works_and_names_itself() -> None:
    device, description = choose_device("cpu")
    assert device == torch.device("cpu")
    assert description.startswith("cpu: ")
    assert torch.__version__ in description
    assert run_kernel(device)


@without_cuda
def test_auto_falls_back_to_the_cpu_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="FastSAM3DCore.devices"):
        device, description = choose_device("auto")
    if device.type == "cpu":
        assert "cuda: not usable" in description
        assert "cuda: not usable" in caplog.text


@without_cuda
@pytest.mark.parametrize("request_", ["cuda", "cuda:1"])
def test_a_device_asked_for_by_name_is_refused_with_the_reason_and_advice(request_: str) -> None:
    with pytest.raises(DeviceError, match=f"{request_}: not usable") as caught:
        choose_device(request_)
    assert advice_for(torch.device(request_)) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("request_", ["gpu", "", "cuda:x", "meta", "xpu"])
def test_unknown_and_unsupported_names_are_refused_with_the_known_ones(request_: str) -> None:
    with pytest.raises(DeviceError, match="use auto, cpu, cuda, cuda:1 or mps"):
        choose_device(request_)


def test_every_kind_of_device_is_described_and_the_unusable_come_with_advice() -> None:
    reports = describe_devices()
    assert reports[-1].name == "cpu"
    assert reports[-1].usable
    assert reports[0].name.startswith("cuda")
    assert all(report.usable or report.advice for report in reports)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_is_chosen_and_described() -> None:
    device, description = choose_device("auto")
    assert device.type == "cuda"
    assert "MB free" in description
