"""A head of three tissues with a hippocampus beside an amygdala, in FreeSurfer's order."""

from __future__ import annotations

import numpy as np

__all__ = ["AMYGDALA", "FLUID", "HIPPOCAMPUS", "WHITE_MATTER", "head"]

WHITE_MATTER, FLUID, HIPPOCAMPUS, AMYGDALA = 1, 4, 14, 15


def head() -> np.ndarray:
    """(36, 48, 40) int16: the hippocampus 6 x 18 x 6 voxels along the second axis, the amygdala at its end."""
    z, y, x = np.mgrid[:36, :48, :40]
    labels = np.where((z - 18) ** 2 + (y - 24) ** 2 * 0.6 + (x - 20) ** 2 < 17**2, WHITE_MATTER, 0)
    labels[15:21, 14:32, 17:23] = HIPPOCAMPUS
    labels[15:21, 32:38, 17:23] = AMYGDALA
    labels[15:21, 14:32, 14:17] = FLUID
    return labels.astype(np.int16)
