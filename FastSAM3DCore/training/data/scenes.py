"""Training scenes of random shapes, anatomy, brains, and scans with labels or with supervoxels for labels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .brains import brain_means, halved_share, halves
from .crops import Crop, random_crop, sample_image, sample_labels
from .draw import Draw, Shape
from .render import augment_intensity, render, render_scan
from .shapes import background_regions, random_shapes
from .supervoxels import similar_union
from .targets import choose_targets, visible
from .volumes import LabelledVolume, Structure

__all__ = ["Scene", "anatomy_scene", "brain_scene", "crop_around", "scan_scene", "shapes_scene", "walls"]

_MIN_VIEW_VOXELS = 20
_WALLS = 0.25
_SMALL_SCANS, _RIMS, _CORONAL = 0.6, 0.3, 0.8


@dataclass(frozen=True, slots=True)
class Scene:
    """A crop and what could be segmented in it.

    Attributes:
        image: (D, H, W) float32 in any unit.
        targets: (K, D, H, W) bool, K >= 1.
        kind: "shapes", "anatomy", "brains", "lesions", "scans" or "supervoxels".
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
    contrast, colours = walls(draw, labels, count) if draw.chance(_WALLS) else (labels, count)
    if first and draw.chance(0.5):  # something around the anatomy
        regions, extra = background_regions(draw, shape)
        contrast, colours = torch.where(labels == 0, regions + colours, contrast), colours + extra
    image = render(draw, contrast, colours)
    masks = visible(draw, image, choose_targets(draw, labels, focus, wanted, background=first))
    return Scene(image, torch.stack(masks), "anatomy") if masks else None


def brain_scene(draw: Draw, volume: LabelledVolume, shape: Shape, wanted: int) -> Scene | None:
    """A crop of a deep brain as T1, T2 or FLAIR show it, of a scan that may end close by; often half a structure."""
    structure = draw.choice(volume.structures)
    if draw.chance(_SMALL_SCANS):
        volume, structure = _scanned_around(draw, volume, structure)
    crop = _crop(draw, volume, structure, shape)
    present, labels = torch.unique(sample_labels(volume.labels, crop), return_inverse=True)
    names = present.tolist()
    if structure.label not in names:
        return None
    focus, count = names.index(structure.label), len(names)
    means = brain_means(draw, names)
    image = means[labels]
    if draw.chance(_RIMS):  # white matter that borders a nucleus belongs to it in some protocols, as the alveus does
        inside = labels == focus
        image = torch.where(inside & ~_core(inside, 3), image.lerp(means.amax(), draw.uniform(0.3, 0.8)), image)
    image = render_scan(draw, image, crop.voxel_mm)
    if draw.chance(halved_share(structure.label)):
        coronal = crop.index[1] if draw.chance(_CORONAL) else None  # protocols cut along a plane of the scan
        labels = halves(draw, labels, focus, count, coronal)
    masks = choose_targets(draw, labels, focus, wanted, background=int(names[0] == 0))
    return Scene(image, torch.stack(masks), "brains") if masks else None


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


def crop_around(draw: Draw, volume: LabelledVolume, lower: Tensor, upper: Tensor, shape: Shape) -> Crop:
    """A random crop of a volume around a box, (3,) first voxels and (3,) ones beyond the last; see `random_crop`."""
    size = torch.tensor(volume.labels.shape).float()
    minimum = _MIN_VIEW_VOXELS * float(volume.spacing.min())
    return random_crop(draw, lower, upper, volume.spacing, size, shape, minimum)


def _crop(draw: Draw, volume: LabelledVolume, structure: Structure, shape: Shape) -> Crop:
    lower, upper = torch.tensor(structure.lower).float(), torch.tensor(structure.upper).float()
    return crop_around(draw, volume, lower, upper, shape)


def _scanned_around(draw: Draw, volume: LabelledVolume, structure: Structure) -> tuple[LabelledVolume, Structure]:
    """The part of a volume that a scan of one structure alone would show: 4 to 16 mm more on each side."""
    margin = [[round(draw.uniform(4, 16) / mm) for mm in volume.spacing.tolist()] for _ in range(2)]
    start = [max(0, structure.lower[a] - margin[0][a]) for a in range(3)]
    stop = [min(volume.labels.shape[a], structure.upper[a] + margin[1][a]) for a in range(3)]
    part = volume.labels[start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]]
    lower, upper = ([end[a] - start[a] for a in range(3)] for end in (structure.lower, structure.upper))
    moved = Structure(structure.label, (lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2]))
    return dataclasses.replace(volume, labels=part), moved


def walls(draw: Draw, labels: Tensor, count: int) -> tuple[Tensor, int]:
    """Half of the structures with a wall of another contrast, one or two voxels thick: cortical bone, heart, bowel.

    Every other time all walls look alike, so that they fuse where two of them touch, as the bones of a joint do.
    """
    width = draw.choice([3, 3, 5])
    values = labels[None, None].float()
    ends = (F.max_pool3d(sign * values, width, 1, width // 2)[0, 0] != sign * values[0, 0] for sign in (1, -1))
    wall = (next(ends) | next(ends)) & (draw.rand(count) < 0.5)[labels]
    if draw.chance(0.5):
        return torch.where(wall, count, labels), count + 1
    return torch.where(wall, labels + count, labels), 2 * count


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
    return torch.where(inside & ~_core(inside, width), count, labels), count + 1


def _core(inside: Tensor, width: int) -> Tensor:
    """A mask without its rim of width // 2 voxels."""
    return -F.max_pool3d(-inside[None, None].float(), width, 1, width // 2)[0, 0] > 0


def _window(draw: Draw, image: Tensor) -> tuple[float, float]:
    """A display window as a radiologist would set it: part of the range."""
    sample = image.flatten()[::17]
    low, high = torch.quantile(sample, torch.tensor([0.01, 0.99], device=sample.device)).tolist()
    width = (high - low) * draw.uniform(0.3, 1.0)
    start = low + (high - low - width) * draw.uniform(0, 1)
    return start, start + max(width, 1e-6)
