"""The four kinds of training scenes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .crops import Crop, random_crop, sample_image, sample_labels
from .draw import Draw, Shape
from .render import augment_intensity, render
from .shapes import background_regions, random_shapes
from .supervoxels import similar_union
from .targets import choose_targets, visible
from .volumes import LabelledVolume, Structure

__all__ = ["Scene", "anatomy_scene", "scan_scene", "shapes_scene"]

_MIN_VIEW_VOXELS = 20


@dataclass(frozen=True, slots=True)
class Scene:
    """A crop and what could be segmented in it.

    Attributes:
        image: (D, H, W) float32 in any unit.
        targets: (K, D, H, W) bool, K >= 1.
        kind: "shapes", "anatomy", "scans" or "supervoxels".
    """

    image: Tensor
    targets: Tensor
    kind: str


def shapes_scene(draw: Draw, shape: Shape, wanted: int) -> Scene | None:
    """Random shapes with random contrast; None if no shape makes a target."""
    labels, count = random_shapes(draw, shape)
    image = render(draw, labels, count)
    masks = visible(draw, image, choose_targets(draw, labels, None, wanted))
    return Scene(image, torch.stack(masks), "shapes") if masks else None


def anatomy_scene(draw: Draw, volume: LabelledVolume, shape: Shape, wanted: int) -> Scene | None:
    """A crop of an anatomical label map with random contrast per structure."""
    structure = draw.choice(volume.structures)
    labels = sample_labels(volume.labels, _crop(draw, volume, structure, shape))
    present, compact = torch.unique(labels, return_inverse=True)
    labels = compact.reshape(labels.shape)
    names = present.tolist()
    focus: int | None = names.index(structure.label) if structure.label in names else None
    count, first = len(names), int(names[0] == 0)
    if draw.chance(0.25) and count > 4:  # coarser anatomy: neighbours in the list of labels are neighbours in the body
        group = draw.integer(2, 4)
        labels = torch.where(labels >= first, (labels - first) // group + first, labels)
        focus = None if focus is None or focus < first else (focus - first) // group + first
        count = (count - 1 - first) // group + first + 1
    if draw.chance(0.08) and focus is not None:
        labels, count = _alter(draw, labels, focus, count)
    contrast, colours = labels, count
    if first and draw.chance(0.5):  # something around the anatomy
        regions, extra = background_regions(draw, shape)
        contrast, colours = torch.where(labels == 0, regions + count, labels), count + extra
    image = render(draw, contrast, colours)
    masks = visible(draw, image, choose_targets(draw, labels, focus, wanted, background=first))
    return Scene(image, torch.stack(masks), "anatomy") if masks else None


def scan_scene(draw: Draw, volume: LabelledVolume, shape: Shape, wanted: int) -> Scene | None:
    """A crop of a real scan with its labels, or with supervoxels for labels."""
    structure = draw.choice(volume.structures)
    crop = _crop(draw, volume, structure, shape)
    if volume.image is None or float(crop.inside.float().mean()) < 0.3:
        return None
    labels = sample_labels(volume.labels, crop)
    image = sample_image(volume.image, crop)
    if bool(image.std() < 1e-4 * (1 + image.abs().mean())):
        return None
    if volume.means is not None:
        labels = similar_union(draw, labels, volume.means, structure.label)
    masks = choose_targets(draw, labels, structure.label, wanted, background=1)
    if volume.means is not None:
        masks = visible(draw, image, masks)
    if not masks:
        return None
    if draw.chance(0.3):
        image = image.clamp(*_window(draw, image))
    image = augment_intensity(draw, image, strength=0.5)
    return Scene(image, torch.stack(masks), "scans" if volume.means is None else "supervoxels")


def _crop(draw: Draw, volume: LabelledVolume, structure: Structure, shape: Shape) -> Crop:
    lower, upper = torch.tensor(structure.lower).float(), torch.tensor(structure.upper).float()
    size = torch.tensor(volume.labels.shape).float()
    minimum = _MIN_VIEW_VOXELS * float(volume.spacing.min())
    return random_crop(draw, lower, upper, volume.spacing, size, shape, minimum)


def _alter(draw: Draw, labels: Tensor, focus: int, count: int) -> tuple[Tensor, int]:
    """Split the focused structure in two, or give it a shell (which also erodes it)."""
    inside = labels == focus
    if draw.chance(0.5):
        axis = draw.integer(0, 2)
        at = draw.integer(labels.shape[axis] // 4, 3 * labels.shape[axis] // 4)
        side = torch.arange(labels.shape[axis], device=labels.device) < at
        view = [1, 1, 1]
        view[axis] = -1
        return torch.where(inside & side.reshape(view), count, labels), count + 1
    width = draw.choice([3, 3, 5])
    core = -F.max_pool3d(-inside[None, None].float(), width, 1, width // 2)[0, 0] > 0
    return torch.where(inside & ~core, count, labels), count + 1


def _window(draw: Draw, image: Tensor) -> tuple[float, float]:
    """A display window as a radiologist would set it: part of the range."""
    sample = image.flatten()[::17]
    low, high = torch.quantile(sample, torch.tensor([0.01, 0.99], device=sample.device)).tolist()
    width = (high - low) * draw.uniform(0.3, 1.0)
    start = low + (high - low - width) * draw.uniform(0, 1)
    return start, start + max(width, 1e-6)
