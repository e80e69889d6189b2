"""Where to cut crops: frames centred on a point or a box, at a chosen zoom.

Frames are snapped to a coarse lattice, so that clicks close to each other share one crop and its embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .geometry import CanonicalAxes, CropFrame, Floats
from .modeling.interface import ModelTraits

__all__ = ["frame_around", "published_frame", "zoom_step"]

# Crop centres move in steps of this many crop voxels.
SNAP_VOXELS = 4
# Voxel sizes of free-zoom crops are powers of this ratio, so that similar zooms share an embedding.
ZOOM_RATIO = 2 ** (1 / 4)
# Across thick slices, the voxels of a free-zoom crop may be this much longer than in the slices; training goes as far.
# On 10 scans with slices of 3 to 8 mm that halved the time of a click, and the mean Dice stayed (.62 and .63 after 3).
MAX_ASPECT = 2.0


def zoom_step(voxel_mm: float) -> float:
    """The nearest voxel size of the zoom ladder, in mm."""
    return float(ZOOM_RATIO ** round(math.log(voxel_mm) / math.log(ZOOM_RATIO)))


def frame_around(
    axes: CanonicalAxes, traits: ModelTraits, centre_ras: Sequence[float] | Floats, side_mm: float
) -> CropFrame:
    """A crop of about `side_mm` around a canonical point, as a network wants it.

    A network with a fixed crop gets its crop_size^3 at a voxel size of its training spacing times a power of
    two. A free-zoom network gets crop_size voxels along a side, fewer across slices thicker than its voxels, and
    only as many as the scan has room for: no compute is spent on what is not there.
    """
    if traits.fixed_crop:
        native = traits.spacing_mm or 1.0
        ratio = side_mm / (native * traits.crop_size)
        voxel_mm = native * 2.0 ** max(0, math.ceil(math.log2(ratio) - 1e-6)) if ratio > 1 else native
        return published_frame(axes, centre_ras, (traits.crop_size,) * 3, voxel_mm)
    voxel_mm = zoom_step(side_mm / traits.crop_size)
    spacing = np.asarray(axes.spacing)
    # Crops finer than the scan itself stay as they are: they show the network small structures at the size it knows.
    stretch = np.clip(spacing / max(voxel_mm, float(spacing.min())), 1.0, MAX_ASPECT)
    step = voxel_mm * stretch / spacing
    multiple = traits.size_multiple
    origin, size = [], []
    for axis in range(3):
        extent = axes.shape[axis] / step[axis]  # scan extent in crop voxels
        most = multiple * math.ceil(traits.crop_size / stretch[axis] / multiple - 1e-6)
        voxels = min(most, max(multiple, multiple * math.ceil(extent / multiple - 1e-6)))
        centre = float(centre_ras[axis])
        if voxels >= extent:
            centre = (axes.shape[axis] - 1) / 2
        else:
            snap = SNAP_VOXELS * step[axis]
            centre = round(centre / snap) * snap
            # Keep the crop on the scan: no voxel is spent on repeated edges while the scan goes on elsewhere.
            half = voxels * step[axis] / 2 - 0.5
            centre = min(max(centre, half), axes.shape[axis] - 1 - half)
        origin.append(centre - (voxels - 1) / 2 * step[axis])
        size.append(voxels)
    return CropFrame(_floats(origin), _floats(step), _ints(size), voxel_mm)


def published_frame(
    axes: CanonicalAxes, centre_ras: Sequence[float] | Floats, size: Sequence[int], voxel_mm: float
) -> CropFrame:
    """The crop of the published preprocessing: resample to `voxel_mm`, canonical axes, crop or pad.

    The resampled grid has floor(n * spacing / voxel_mm) voxels per axis, centred on the scan; the crop is a
    whole number of its voxels, and zero where it leaves the grid (SAM-Med3D's inference preprocessing).
    """
    spacing = np.asarray(axes.spacing)
    step = voxel_mm / spacing
    origin, inside = [], []
    for axis in range(3):
        count = axes.shape[axis]
        resampled = count if count == 1 else max(1, math.floor(count * spacing[axis] / voxel_mm + 1e-9))
        grid_start = (count - 1) / 2 - (resampled - 1) / 2 * step[axis]
        centre = (float(centre_ras[axis]) - grid_start) / step[axis] + 0.5  # in voxel edges of the grid
        begin = _crop_begin(centre, size[axis])
        origin.append(grid_start + begin * step[axis])
        low = min(max(0, -begin), size[axis])
        inside.append((low, max(low, min(size[axis], resampled - begin))))
    ranges = (inside[0], inside[1], inside[2])
    return CropFrame(_floats(origin), _floats(step), _ints(size), voxel_mm, ranges)


def _floats(values: Sequence[float] | Floats) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    return (a, b, c)


def _ints(values: Sequence[int]) -> tuple[int, int, int]:
    a, b, c = (int(v) for v in values)
    return (a, b, c)


def _crop_begin(centre: float, target: int) -> int:
    """First grid voxel of a crop of `target` voxels whose centre edge is nearest to `centre`."""
    doubled = round(2 * centre)  # box centres lie on whole or half edges
    centre = doubled / 2
    if target % 2 != doubled % 2:  # an even crop needs a whole edge, an odd one a half edge
        centre -= 0.5
    return math.floor(centre - target / 2)
