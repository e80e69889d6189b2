"""Whole heads in the contrasts of real sequences: brain, hemispheres, cerebellum and tissues as targets."""

from __future__ import annotations

import torch
from torch import Tensor

from .brains import brain_means, tissue_labels
from .crops import random_crop, sample_labels
from .draw import Draw, Shape
from .render import render_scan
from .scenes import Scene
from .targets import LARGEST_SHARE
from .volumes import LabelledVolume

__all__ = ["head_scene", "wholes"]

_SMALLEST = 100  # voxels
_MIN_VIEW_MM = 100.0


def head_scene(draw: Draw, volume: LabelledVolume, shape: Shape, wanted: int) -> Scene | None:
    """A wide crop of a head as T1, T2 or FLAIR show it, the brain as a whole nearly always among its targets.

    All other scenes of heads ask for parts. Without these a click on a brain was answered with the whole after 1 100
    steps of a leg and with a piece after 1 950 (Dice .95 and .03).

    Args:
        draw: random numbers.
        volume: a label map in FreeSurfer's scheme (see `brains`), skull and skin included.
        shape: of the crop.
        wanted: how many masks at most.
    """
    groups = wholes(draw)
    brain = groups[0]
    boxes = [s for s in volume.structures if s.label in brain]
    if not boxes:
        return None
    lower = torch.tensor([s.lower for s in boxes]).amin(0).float()
    upper = torch.tensor([s.upper for s in boxes]).amax(0).float()
    size = torch.tensor(volume.labels.shape).float()
    crop = random_crop(draw, lower, upper, volume.spacing, size, shape, _MIN_VIEW_MM)
    labels = sample_labels(volume.labels, crop)
    labels[~crop.inside] = 0
    names, compact = torch.unique(labels, return_inverse=True)
    image = render_scan(draw, brain_means(draw, names.tolist())[compact], crop.voxel_mm)
    masks = [_within(labels, group) for group in [brain, *draw.python.sample(groups[1:], len(groups) - 1)]]
    masks = [mask for mask in masks if _SMALLEST <= int(mask.sum()) <= LARGEST_SHARE * labels.numel()][:wanted]
    return Scene(image, torch.stack(masks), "brains") if masks else None


def wholes(draw: Draw) -> list[set[int]]:
    """Labels that people outline as one: the brain first, with its ventricles every other time, and parts of it."""
    cerebellum = tissue_labels("cerebellar white matter", "cerebellar cortex")
    fluid = tissue_labels("fluid", "plexus")
    left, right = (tissue_labels(side=side) - fluid for side in ("left", "right"))
    brain = left | right
    if draw.chance(0.5):
        brain = brain | tissue_labels("fluid", "plexus", ventricles=True)
    tissues = [tissue_labels(name) for name in ("white matter", "cortex")]
    hemispheres = [side - cerebellum - tissue_labels("brainstem") for side in (left, right)]
    return [brain, *hemispheres, cerebellum, *tissues, *(t & side for t in tissues for side in (left, right))]


def _within(labels: Tensor, group: set[int]) -> Tensor:
    return torch.isin(labels, torch.tensor(sorted(group), dtype=labels.dtype, device=labels.device))
