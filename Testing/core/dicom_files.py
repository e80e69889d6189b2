"""Small DICOM series for tests, written with SimpleITK's GDCM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def write_series(
    folder: Path,
    array: NDArray[Any],
    positions: Sequence[Sequence[float]],
    *,
    orientation: Sequence[float] = AXIAL,
    spacing: tuple[float, float] = (0.8, 1.2),
    uid: str = "1.2.826.0.1.3680043.2.1125.1",
    description: str = "test series",
    number: int = 1,
    prefix: str = "",
) -> Path:
    """One file per slice of [k, j, i] voxels, at LPS positions; file names do not follow the slice order."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index, (slab, position) in enumerate(zip(array, positions, strict=True)):
        image = sitk.GetImageFromArray(slab[None])
        image.SetSpacing([*spacing, 1.0])
        tags = {
            "0008|0060": "MR",
            "0008|0018": f"{uid}.{index + 1}",
            "0020|000e": uid,
            "0020|000d": f"{uid}.0",
            "0008|103e": description,
            "0020|0011": str(number),
            "0020|0013": str(index + 1),
            "0020|0032": "\\".join(f"{v:.6f}" for v in position),
            "0020|0037": "\\".join(f"{v:.6f}" for v in orientation),
            "0028|0030": f"{spacing[1]}\\{spacing[0]}",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        name = f"{prefix}{(index * 7) % 101:03d}_{index}.dcm"
        writer.SetFileName(str(folder / name))
        writer.Execute(image)
    return folder


def stack(count: int, step: Sequence[float] = (0, 0, 3.0), start: Sequence[float] = (-40, -30, 10)) -> NDArray[Any]:
    """Evenly spaced LPS slice positions."""
    return np.asarray(start) + np.arange(count)[:, None] * np.asarray(step)
