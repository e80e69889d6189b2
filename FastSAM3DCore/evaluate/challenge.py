"""The rule of the CVPR 2025 challenge "Foundation Models for Interactive 3D Biomedical Image Segmentation".

A box, then five clicks. As in the organisers' evaluation script (CVPR25_iter_eval.py of the competition's repository):
each click goes to the voxel deepest inside the largest error component, where missed and extra voxels count together,
corners connect, depth is counted in voxels, and of equally deep voxels one is drawn with a fixed seed; the
truth at that voxel says whether the click is positive. Surface Dice is zero while Dice is 0.2 or less. The areas
under Dice and surface Dice run over the five clicks without the box, by trapezoids, so that 4 is the most.

Two things differ. Structures are scored one by one instead of all classes of a scan in one label map, so that the 0.2
applies to each structure. Surface Dice counts border voxels, where the organisers weigh patches of a triangulated
surface; the two agree where voxels are small against the tolerance of 2 mm.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..io.native import array_from_image
from ..io.segmentation import mask_box
from .clicks import Click, distance_inside
from .metrics import auc, dice, surface_dice
from .scoring import SessionMethod, timed

__all__ = ["CHALLENGE_CLICKS", "challenge_click", "score_challenge"]

CHALLENGE_CLICKS = 5
SEED = 42
# At this Dice or less the surface is not looked at.
LEAST_DICE = 0.2

Masks = NDArray[np.bool_]


def challenge_click(current_kji: Masks, truth_kji: Masks) -> Click | None:
    """Where the organisers' script clicks next; None if the mask is right."""
    error = (current_kji != 0) != (truth_kji != 0)
    box = mask_box(error)
    if box.is_empty:
        return None
    image = sitk.GetImageFromArray(error[box.slices_kji].astype(np.uint8))
    labels = array_from_image(sitk.ConnectedComponent(image, True))  # corners connect
    sizes = np.bincount(labels.reshape(-1))
    sizes[0] = 0
    depth = distance_inside(labels == int(sizes.argmax()), (1.0, 1.0, 1.0))
    deepest = np.argwhere(depth == depth.max())
    k, j, i = deepest[np.random.RandomState(SEED).choice(len(deepest))] + np.array(box.lower[::-1])
    return Click((int(i), int(j), int(k)), bool(truth_kji[k, j, i]))


def score_challenge(method: SessionMethod, truth_kji: Masks, spacing_ijk: tuple[float, float, float]) -> dict[str, Any]:
    """Prompt with the structure's box, correct five times, score after each.

    Returns:
        `dice` and `nsd` at steps 0 (box) to 5, the final ones, and the areas under the five click steps: as
        the challenge counts them (`dice_auc`, at most 4) and divided by 4 (`dice_auc_normalised`).
    """
    seconds: list[float] = []
    mask = timed(lambda: method.add_box_of(truth_kji), seconds)
    overlap, surface = [dice(mask, truth_kji)], [challenge_surface(mask, truth_kji, spacing_ijk)]
    for _ in range(CHALLENGE_CLICKS):
        click = challenge_click(mask, truth_kji)
        if click is not None:
            mask = timed(lambda click=click: method.add(click), seconds)  # type: ignore[misc]
        overlap.append(dice(mask, truth_kji) if click is not None else overlap[-1])
        surface.append(challenge_surface(mask, truth_kji, spacing_ijk) if click is not None else surface[-1])
    scores: dict[str, Any] = {"seconds": seconds, "dice_per_click": [round(v, 4) for v in overlap]}
    for name, values in (("dice", overlap), ("nsd", surface)):
        area = auc(values[1:])
        scores[name] = {str(n): round(v, 4) for n, v in enumerate(values)}
        scores[f"{name}_final"] = round(values[-1], 4)
        scores[f"{name}_auc"] = round(area * (CHALLENGE_CLICKS - 1), 4)
        scores[f"{name}_auc_normalised"] = round(area, 4)
    return scores


def challenge_surface(mask_kji: Masks, truth_kji: Masks, spacing_ijk: tuple[float, float, float]) -> float:
    """Surface Dice, zero where Dice is so low that the challenge does not look."""
    return surface_dice(mask_kji, truth_kji, spacing_ijk) if dice(mask_kji, truth_kji) > LEAST_DICE else 0.0
