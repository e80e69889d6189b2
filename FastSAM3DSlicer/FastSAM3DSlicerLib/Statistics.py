"""Numbers about the active segment."""

from __future__ import annotations

from typing import Any

import numpy as np

from FastSAM3DCore.errors import PromptError
from FastSAM3DCore.types import VoxelBox

from .ActiveSegment import ActiveSegment
from .SegmentImage import SegmentImage
from .VolumeBridge import ijkToWorld, shapeIjk


def dice(active: ActiveSegment, referenceNode: Any, referenceId: str) -> float:
    """Overlap with a reference segment on the scan's grid, 0 to 1; 1 if both are empty.

    Raises:
        PromptError: there is no such segment.
    """
    if referenceNode is None:
        raise PromptError("Choose a reference segmentation first.")
    volume = active.volumeNode
    shape = shapeIjk(volume)
    reference = SegmentImage(referenceNode, referenceId, ijkToWorld(volume), shape)
    mine = active.image()
    whole = VoxelBox((0, 0, 0), shape)
    box = mine.voxelBox(mine.box).union(reference.voxelBox(reference.box)).intersect(whole)
    a, b = mine.read(box), reference.read(box)
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2.0 * np.count_nonzero(a & b) / total if total else 1.0
