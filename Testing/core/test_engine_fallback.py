"""An accelerator that runs out of memory under a session: simulated on "cpu:0", which computes but is not "the CPU".

Everything but the failing calls is real: scan, crops, the bundled network, the session, the move to the CPU.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from FastSAM3DCore import device_model
from FastSAM3DCore.device_volume import DeviceVolume
from FastSAM3DCore.devices import ChosenDevice, choose_device
from FastSAM3DCore.engine import Engine
from FastSAM3DCore.fair_lock import device_lock
from FastSAM3DCore.modeling.hires import HiresModel
from FastSAM3DCore.session import LocalSession, open_session
from Testing.core.phantoms import ball_scan, dice
from Testing.core.toy_model import ToyModel

ACCELERATOR = torch.device("cpu", 0)
CPU = torch.device("cpu")
CLICK, SECOND = (26, 24, 17), (30, 26, 18)


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """`open_session` finds an accelerator."""
    monkeypatch.setattr("FastSAM3DCore.devices.choose_device", lambda request: ChosenDevice(ACCELERATOR, "stand-in"))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often the network's calls still run out of memory, by name."""
    left = {"encode": 0, "decode": 0}
    for name in left:
        original = getattr(HiresModel, name)

        def call(self: HiresModel, *args: Any, name: str = name, original: Any = original, **options: Any) -> Any:
            if left[name] > 0:
                left[name] -= 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return original(self, *args, **options)

        monkeypatch.setattr(HiresModel, name, call)
    return left


def clicked(session: LocalSession) -> np.ndarray:
    volume, _ = ball_scan()
    session.set_image(volume)
    session.add_point(CLICK)
    session.add_point(SECOND, positive=False)
    return session.probability()


def alike(found: np.ndarray, wanted: np.ndarray) -> bool:
    """The same mask and probability, but for a few voxels where the answer is undecided.

    Crops cut in main memory and on a device differ in their last bits; of 97 thousand voxels up to 13 then differ by
    more than .02, and 4 change sides.
    """
    differing = float((np.abs(found - wanted) > 0.02).mean())
    return dice(found > 0.5, wanted > 0.5) > 0.998 and differing < 1e-3


@pytest.fixture(scope="module")
def wanted() -> np.ndarray:
    """The answer without any failure."""
    return clicked(open_session(device="cpu"))


def test_cpu_zero_is_no_device_of_its_own_to_users() -> None:
    assert choose_device("cpu:0").device == CPU != ACCELERATOR


def test_a_session_on_an_accelerator_keeps_the_scan_there_and_gives_the_same_answer(
    accelerator: None, wanted: np.ndarray
) -> None:
    session = open_session()
    found = clicked(session)
    assert isinstance(session.engine._source, DeviceVolume)
    assert session.engine.device == ACCELERATOR
    assert session.engine.notices == []
    assert alike(found, wanted)
    session.close()
    assert session.engine._source is None


def test_a_scan_that_does_not_fit_is_read_in_main_memory(
    accelerator: None, wanted: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: DeviceVolume, *args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DeviceVolume, "__init__", full)
    session = open_session()
    found = clicked(session)
    assert len(session.engine.notices) == 1
    assert "cut in main memory" in session.engine.notices[0]
    assert session.engine.device == ACCELERATOR  # the network stays
    assert alike(found, wanted)


def test_a_crop_that_does_not_fit_is_cut_in_main_memory(
    accelerator: None, wanted: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: DeviceVolume, *args: Any) -> Tensor:
        raise RuntimeError("MPS backend out of memory (MPS allocated: 6.00 GB)")

    monkeypatch.setattr(DeviceVolume, "sample", full)
    session = open_session()
    assert alike(clicked(session), wanted)
    assert len(session.engine.notices) == 1


@pytest.mark.parametrize("stage", ["encode", "decode"])
def test_memory_that_is_there_again_after_freeing_goes_unnoticed(
    stage: str, accelerator: None, failing: dict[str, int], wanted: np.ndarray
) -> None:
    failing[stage] = 1
    session = open_session()
    assert alike(clicked(session), wanted)
    assert (session.engine.device, session.engine.notices, failing[stage]) == (ACCELERATOR, [], 0)


@pytest.mark.parametrize("stage", ["encode", "decode"])
def test_a_network_that_does_not_fit_moves_to_the_cpu_and_the_click_is_answered(
    stage: str, accelerator: None, failing: dict[str, int], wanted: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    failing[stage] = 2
    session, told = open_session(), []
    session.engine.on_notice = told.append
    found = clicked(session)
    assert session.engine.device == CPU
    assert told == session.engine.notices
    assert len(told) == 1
    assert "continuing on the CPU" in told[0]
    assert told[0] in caplog.text
    assert not isinstance(session.engine._source, DeviceVolume)
    assert alike(found, wanted)


def test_a_second_scan_after_the_move_is_not_sent_to_the_device_again(
    accelerator: None, failing: dict[str, int]
) -> None:
    failing["encode"] = 2
    session = open_session()
    first = clicked(session)
    second = clicked(session)
    assert np.array_equal(first, second)
    assert len(session.engine.notices) == 1


def test_other_errors_are_not_taken_for_a_lack_of_memory(accelerator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: HiresModel, *args: Any, **options: Any) -> None:
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr(HiresModel, "decode", broken)
    session = open_session()
    with pytest.raises(RuntimeError, match="device-side assert"):
        clicked(session)
    assert not session.mask().any()


def test_sessions_on_one_accelerator_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, most = 0, 0
    guard = threading.Lock()

    class Busy(ToyModel):
        def decode(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
            nonlocal busy, most
            with guard:
                busy, most = busy + 1, max(most, busy + 1)
            result = super().decode(*args, **options)
            with guard:
                busy -= 1
            return result

    volume, _ = ball_scan()
    sessions = [LocalSession(Engine(Busy(), ACCELERATOR)) for _ in range(3)]

    def work(session: LocalSession) -> None:
        session.set_image(volume)
        for number in range(4):
            session.add_point((24 + number, 24, 17))

    threads = [threading.Thread(target=work, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert device_lock(str(ACCELERATOR)).waiting == 0
    masks = [session.mask() for session in sessions]
    assert masks[0].any()
    assert all(np.array_equal(masks[0], mask) for mask in masks[1:])


def test_the_engine_follows_a_model_prepared_in_the_type_of_the_cpu(
    failing: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_model, "fast_dtype", lambda device: torch.bfloat16)
    session = LocalSession(Engine(open_session(device="cpu").engine.model, ACCELERATOR, dtype=torch.float32))
    failing["encode"] = 2
    clicked(session)
    assert session.engine.dtype == torch.bfloat16
    assert session.engine.model.encoder.stem.weight.dtype == torch.bfloat16
