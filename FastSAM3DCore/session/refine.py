"""Finer crops along the border of a structure that is too large for one crop at the scan's resolution."""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from ..engine import Engine
from ..framing import frame_around
from ..geometry import CropFrame
from .grid import LogitGrid

__all__ = ["refinement_frames"]

# Borders are followed down to this voxel size; finer than the published 1.5 mm, and affordable.
TARGET_MM = 1.25
# Refine only if it makes voxels at least this much smaller.
WORTHWHILE = 1.5
# Neighbouring crops share this fraction of their side.
OVERLAP = 0.25
MAX_CROPS_CPU = 8
MAX_CROPS_GPU = 64


def refinement_frames(engine: Engine, grid: LogitGrid, coarse: CropFrame) -> list[CropFrame]:
    """Overlapping crops that cover the current mask at a finer zoom than `coarse`, none if it is fine enough.

    The zoom is the finest that the crop budget of the device allows, not below the scan's own voxels.
    """
    axes, traits = engine.axes, engine.traits
    box = grid.foreground_box()
    finest = max(TARGET_MM, min(axes.spacing), traits.spacing_mm or 0.0)
    if box.is_empty or coarse.voxel_mm < finest * WORTHWHILE:
        return []
    box_ras = axes.box_from_ijk(box)
    extent = (np.asarray(box_ras.shape_ijk) + 2) * axes.spacing
    budget = MAX_CROPS_CPU if engine.device.type == "cpu" else MAX_CROPS_GPU
    voxel_mm = finest
    while True:
        side = voxel_mm * traits.crop_size
        counts = [max(1, math.ceil((e - side) / (side * (1 - OVERLAP)) - 1e-6) + 1) for e in extent]
        if math.prod(counts) <= budget:
            break
        voxel_mm *= 1.1
    if coarse.voxel_mm < voxel_mm * WORTHWHILE:
        return []
    centres = []
    for axis, count in enumerate(counts):
        low, high = box_ras.lower[axis] - 0.5, box_ras.upper[axis] - 0.5
        half = side / 2 / axes.spacing[axis]
        if count == 1:
            centres.append([(low + high) / 2])
        else:
            centres.append(np.linspace(low + half, high - half, count).tolist())
    frames = [frame_around(axes, traits, centre, side) for centre in product(*centres)]
    return list(dict.fromkeys(frames))
