"""A slice, or a slab around it, in the voxels of a scan; any orientation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from FastSAM3DCore.types import VoxelBox

from .VolumeBridge import arrayFromMatrix, ijkToWorld


@dataclass(frozen=True)
class SliceLimit:
    """Voxels whose centre lies within `halfThickness` mm of a plane.

    Attributes:
        plane: distance in mm of voxel (i, j, k) = plane . (i, j, k, 1).
        halfThickness: mm; at least half a voxel step, so that the slab is never empty.
    """

    plane: tuple[float, float, float, float]
    halfThickness: float

    @classmethod
    def fromSliceNode(cls, sliceNode: Any, volumeNode: Any, slabMm: float = 0.0) -> SliceLimit:
        """The slice a view shows now, or a slab of `slabMm` around it."""
        return cls.fromMatrix(arrayFromMatrix(sliceNode.GetSliceToRAS()), volumeNode, slabMm)

    @classmethod
    def fromMatrix(cls, sliceToRas: np.ndarray, volumeNode: Any, slabMm: float = 0.0) -> SliceLimit:
        """The slice with this (4, 4) matrix to world RAS, or a slab of `slabMm` around it."""
        toWorld = ijkToWorld(volumeNode)
        normal = sliceToRas[:3, 2] / np.linalg.norm(sliceToRas[:3, 2])
        perVoxel = normal @ toWorld[:3, :3]
        offset = float(normal @ (toWorld[:3, 3] - sliceToRas[:3, 3]))
        half = max(slabMm / 2, float(np.abs(perVoxel).max()) / 2)
        return cls((*map(float, perVoxel), offset), half)

    @property
    def axis(self) -> int:
        """The voxel axis (0 = i, 1 = j, 2 = k) closest to the plane's normal."""
        return int(np.abs(self.plane[:3]).argmax())

    def index(self, shape: tuple[int, int, int]) -> int:
        """The slice along `axis` that the plane cuts in the middle of the scan, clipped to the scan."""
        middle = [(s - 1) / 2 for s in shape]
        rest = sum(self.plane[a] * middle[a] for a in range(3) if a != self.axis) + self.plane[3]
        return int(np.clip(np.rint(-rest / self.plane[self.axis]), 0, shape[self.axis] - 1))

    def inside(self, box: VoxelBox) -> np.ndarray:
        """Which voxels of a box are in the slab, bool, indexed [k, j, i]."""
        i, j, k = (np.arange(l, u) for l, u in zip(box.lower, box.upper, strict=True))
        a, b, c, d = self.plane
        distance = a * i[None, None, :] + b * j[None, :, None] + c * k[:, None, None] + d
        # Half-open, so that a plane midway between two slices takes one of them, not both.
        return (distance > -self.halfThickness - 1e-6) & (distance <= self.halfThickness - 1e-6)

    def bounds(self, box: VoxelBox) -> VoxelBox:
        """The part of a box that the slab can reach; one slice of it when the plane follows a voxel axis."""
        axis = self.axis
        others = [a for a in range(3) if a != axis]
        reach = [
            sum(self.plane[a] * corner[n] for n, a in enumerate(others)) + self.plane[3]
            for corner in np.array(np.meshgrid(*([box.lower[a], box.upper[a] - 1] for a in others))).reshape(2, -1).T
        ]
        step = self.plane[axis]
        ends = [(-r + h) / step for r in reach for h in (-self.halfThickness, self.halfThickness)]
        lower, upper = list(box.lower), list(box.upper)
        lower[axis], upper[axis] = int(np.floor(min(ends))), int(np.ceil(max(ends))) + 1
        return VoxelBox(tuple(lower), tuple(upper)).intersect(box)  # type: ignore[arg-type]
