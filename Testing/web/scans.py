"""Small scans in the formats that need more than one line to write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

__all__ = ["noise", "write_4d", "write_series"]


def noise(*shape_kji: int) -> sitk.Image:
    """Something to look at."""
    return sitk.GetImageFromArray(np.random.default_rng(3).integers(0, 900, shape_kji).astype(np.int16))


def write_4d(path: Path, volumes: int = 3) -> Path:
    """A 4D NIfTI."""
    sitk.WriteImage(sitk.JoinSeries([noise(6, 20, 20)] * volumes), str(path))
    return path


def write_series(image: sitk.Image, folder: Path, number: int = 2) -> list[Path]:
    """A minimal CT series; another number is another series."""
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    paths = []
    for n in range(image.GetDepth()):
        plane = image[:, :, n]
        for key, value in {
            "0008|0060": "CT",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.1",
            "0020|000e": f"1.2.826.0.1.3680043.2.1125.{number}",
            "0020|0011": str(number),
            "0008|103e": f"Part {number}",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.{number}.{n}",
            "0020|0013": str(n + 1),
            "0020|0032": f"0\\0\\{2 * n}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }.items():
            plane.SetMetaData(key, value)
        paths.append(folder / f"series{number}-{n}.dcm")
        writer.SetFileName(str(paths[-1]))
        writer.Execute(plane)
    return paths
