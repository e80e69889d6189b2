"""Crops cut on the device are those cut in main memory; the device is the CPU here, the code is the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from FastSAM3DCore.crops import HostVolume, standardise
from FastSAM3DCore.device_volume import DeviceVolume, standardise_on_device
from FastSAM3DCore.geometry import CanonicalAxes, CropFrame, sample_crop
from FastSAM3DCore.types import Volume
from Testing.core.device_discipline import DeviceDiscipline
from Testing.core.phantoms import ball_scan, orientations

CPU = torch.device("cpu")
FRAMES = {
    "inside, finer": CropFrame((10.0, 12.0, 8.0), (0.5, 0.7, 0.4), (24, 16, 16), 0.6),
    "inside, coarser": CropFrame((2.0, 3.0, 1.5), (2.5, 3.0, 1.5), (16, 16, 16), 3.0),
    "beyond the scan, edges repeated": CropFrame((-9.0, -4.0, -6.5), (1.5, 1.5, 1.5), (48, 40, 40), 1.5),
    "beyond the scan, zeros": CropFrame((-6.0, -3.0, 0.0), (1.5,) * 3, (48,) * 3, 1.5, ((4, 30), (2, 30), (0, 20))),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
@pytest.mark.parametrize("method", ["nearest", "linear", "average"])
def test_crops_are_those_cut_in_main_memory(frame: CropFrame, method: str) -> None:
    volume, _ = ball_scan(orientations()[17])
    axes = CanonicalAxes.of(volume)
    found = DeviceVolume(volume.array_kji, axes, CPU).sample(frame, method)
    torch.testing.assert_close(found, sample_crop(volume.array_kji, axes, frame, method), rtol=1e-5, atol=1e-3)


def test_both_sources_give_an_engine_the_same_crop() -> None:
    volume, _ = ball_scan(orientations()[17])
    axes = CanonicalAxes.of(volume)
    for method in ("linear", "average"):
        for frame in FRAMES.values():
            found = DeviceVolume(volume.array_kji, axes, CPU).crop(frame, method)
            wanted = HostVolume(volume.array_kji, axes).crop(frame, method)
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("affine", orientations()[::7], ids=lambda affine: "".join(str(int(v)) for v in affine[0, :3]))
def test_every_orientation_is_turned_the_same_way(affine: np.ndarray) -> None:
    volume, _ = ball_scan(affine)
    axes = CanonicalAxes.of(volume)
    found = DeviceVolume(volume.array_kji, axes, CPU).sample(FRAMES["inside, coarser"], "average")
    wanted = sample_crop(volume.array_kji, axes, FRAMES["inside, coarser"], "average")
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", ">i2", "int64", "float64", "bool"])
def test_every_voxel_type_is_taken(dtype: str) -> None:
    scan, _ = ball_scan(dtype=np.float64)
    volume = Volume(np.clip(scan.array_kji, 0, 200).astype(dtype), scan.ijk_to_ras)
    axes = CanonicalAxes.of(volume)
    found = DeviceVolume(volume.array_kji, axes, CPU).sample(FRAMES["inside, finer"], "linear")
    wanted = sample_crop(volume.array_kji, axes, FRAMES["inside, finer"], "linear")
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-3)


def test_the_scan_on_the_device_is_a_copy() -> None:
    volume, _ = ball_scan()
    array = volume.array_kji.copy()
    kept = DeviceVolume(array, CanonicalAxes.of(volume), CPU)
    before = kept.sample(FRAMES["inside, finer"], "linear")
    array[:] = 0
    torch.testing.assert_close(kept.sample(FRAMES["inside, finer"], "linear"), before)
    assert kept.nbytes == array.nbytes


@pytest.mark.parametrize(
    "crop",
    [
        100 * torch.randn(24, 24, 24) - 50,
        torch.randn(8, 8, 8).abs() + 1,
        torch.where(torch.rand(12, 12, 12) > 0.98, 5.0, -torch.rand(12, 12, 12)),
        torch.where(torch.rand(12, 12, 12) > 0.5, 7.0, -1.0),
        torch.full((6, 6, 6), 3.0),
        torch.zeros(6, 6, 6),
        -torch.rand(6, 6, 6),
    ],
    ids=["mixed", "all above zero", "few above zero", "equal above zero", "constant", "zero", "all below zero"],
)
def test_normalisation_is_the_engines_and_never_asks_the_device_for_a_number(crop: torch.Tensor) -> None:
    wanted = standardise(crop)
    with DeviceDiscipline() as watch:
        found = standardise_on_device(crop)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert watch.offences == []


def test_a_scan_that_does_not_fit_stays_in_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    volume, _ = ball_scan()
    axes = CanonicalAxes.of(volume)
    assert DeviceVolume.try_upload(volume.array_kji, axes, CPU) is not None

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.Tensor, "to", full)
    assert DeviceVolume.try_upload(volume.array_kji, axes, CPU) is None
