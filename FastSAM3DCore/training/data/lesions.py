"""Lesions and tumours grown into brains and real scans: soft borders, odd textures, one or many.

Where a lesion ends is a matter of degree, and of who outlines it. The grey value falls off over some tenths of a
millimetre or some millimetres; the target ends at a level of it that is drawn anew each time, so that corrections are
learnt to mean "all around less" or "all around more".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .brains import LESION, brain_means, tissue
from .components import component_labels
from .crops import Crop, sample_image, sample_labels
from .draw import Draw, Shape
from .render import augment_intensity, render_scan
from .scenes import Scene, crop_around
from .targets import LARGEST_SHARE, visible
from .volumes import LabelledVolume

__all__ = ["lesion_scene"]

_FEWEST_VOXELS = 10
_ALL_AT_ONCE = 0.3  # one target is all lesions, as for the load of disease; else each is a target of its own
_BESIDE_FLUID = 0.6
_APART_MM = 4.0
_FACTORS = (0.6, 1.6)  # radii of the other lesions, of the first one's


def lesion_scene(draw: Draw, volume: LabelledVolume, shape: Shape, wanted: int) -> Scene | None:
    """A crop of a scan or a brain with lesions grown into it.

    Args:
        draw: random numbers.
        volume: a scan, or the middle of a head (`deep_brain`), whose white matter then gets them.
        shape: of the crop.
        wanted: targets at most.

    Returns:
        None if no lesion is large enough to be a target.
    """
    brain = volume.image is None
    radius = draw.log_uniform(1.5, 7.0) if brain else draw.log_uniform(2.5, 40.0)
    places = _places(volume, beside_fluid=draw.chance(_BESIDE_FLUID))
    if len(places) == 0:
        return None
    centre = torch.tensor(places[draw.integer(0, len(places) - 1)].tolist(), dtype=torch.float32)
    half = radius / volume.spacing
    crop = crop_around(draw, volume, centre - half, centre + half, shape)
    if float(crop.inside.float().mean()) < 0.3:
        return None
    most = 24 if brain else 3
    others = draw.integer(0, most) if draw.chance(0.5) else 0
    depth = _depth(draw, crop, volume.spacing, _centres(draw, places, centre, others, crop), radius)
    softness = max(1.0, radius) * draw.log_uniform(0.04, 0.45)
    within = torch.sigmoid(depth / softness)
    drawn = depth > softness * draw.uniform(-1.2, 1.2)
    if brain:
        image, matter = _brain(draw, volume, crop, within)
        drawn &= matter
    else:
        image = _grown(draw, sample_image(volume.image, crop), depth, within, radius)  # type: ignore[arg-type]
    masks = visible(draw, image, _targets(draw, drawn & crop.inside, wanted))
    return Scene(image, torch.stack(masks), "lesions") if masks else None


def _places(volume: LabelledVolume, beside_fluid: bool) -> Tensor:
    """(N, 3) voxels that lesions may grow from, four millimetres apart: labelled ones, or in heads the white matter.

    Args:
        volume: a scan or a head.
        beside_fluid: in heads only what is within about four millimetres of fluid, if anything is.
    """
    steps = [max(1, round(_APART_MM / mm)) for mm in volume.spacing.tolist()]
    labels = volume.labels[:: steps[0], :: steps[1], :: steps[2]]
    host = labels > 0
    if volume.image is None:
        host = tissue(labels, "white matter")
        fluid = tissue(labels, "fluid")[None, None].float()
        near = host & (F.max_pool3d(fluid, 3, 1, 1)[0, 0] > 0)
        host = near if beside_fluid and bool(near.any()) else host
    return host.nonzero() * torch.tensor(steps, device=labels.device)


def _centres(draw: Draw, places: Tensor, first: Tensor, others: int, crop: Crop) -> Tensor:
    """(N, 3) voxels: the first lesion's centre and those of others within the crop's box."""
    first = first[None].to(places.device)
    if not others:
        return first
    low, high = crop.index.amin((1, 2, 3)), crop.index.amax((1, 2, 3))
    seen = places[((places >= low) & (places <= high)).all(1)]
    if len(seen) == 0:
        return first
    picks = (draw.rand(others) * len(seen)).long()
    return torch.cat([first, seen[picks].float()])


def _depth(draw: Draw, crop: Crop, spacing: Tensor, centres: Tensor, radius: float) -> Tensor:
    """(D, H, W) mm inside the nearest lesion's border; negative outside. Lesions are warped ellipsoids."""
    shape: Shape = (crop.inside.shape[0], crop.inside.shape[1], crop.inside.shape[2])
    longest = max(n * mm for n, mm in zip(shape, crop.voxel_mm, strict=True))
    place = crop.index * spacing.to(draw.device)[:, None, None, None]
    waves = max(2, round(longest / (radius * draw.uniform(0.8, 2.5))))
    place = place + draw.smooth(3, min(waves, max(shape) // 2), shape) * radius * draw.uniform(0, 0.5)
    depth = torch.full(shape, -1e3, device=draw.device)
    for number, centre in enumerate((centres * spacing.to(draw.device)).unbind()):
        own = radius if number == 0 else radius * draw.log_uniform(*_FACTORS)
        offset = (place - centre[:, None, None, None]).flatten(1)
        stretch = torch.exp(draw.rand(3) * 1.4 - 0.7)
        distance = ((draw.rotation() @ offset) * stretch[:, None]).square().sum(0).sqrt().reshape(shape)
        depth = torch.maximum(depth, own - distance)
    return depth


def _brain(draw: Draw, volume: LabelledVolume, crop: Crop, within: Tensor) -> tuple[Tensor, Tensor]:
    """A brain as T1, T2 or FLAIR show it with lesions in its white matter, and (D, H, W) bool where that is."""
    labels = sample_labels(volume.labels, crop)
    present, compact = torch.unique(labels, return_inverse=True)
    means = brain_means(draw, [*present.tolist(), LESION])
    image, matter = means[:-1][compact], tissue(labels, "white matter")
    strength = draw.uniform(0.5, 1.3)
    image = torch.where(matter, image + strength * within * (means[-1] - image), image)
    return render_scan(draw, image, crop.voxel_mm), matter


def _grown(draw: Draw, image: Tensor, depth: Tensor, within: Tensor, radius: float) -> Tensor:
    """A scan's crop in which lesions differ from what they replace by some of its own deviations."""
    around = depth > -radius
    level, spread = image[around].mean(), image[around].std() + 0.05 * image.std() + 1e-6
    step = spread * draw.log_uniform(0.5, 2.5) * draw.choice([-1.0, 1.0])
    texture = draw.smooth(1, draw.choice([8, 16, 24]), (image.shape[0], image.shape[1], image.shape[2]))[0]
    lesion = level + step + texture * spread * draw.uniform(0, 0.5)
    lesion = lesion + (image - level) * draw.uniform(0, 0.7)  # what was there shows through
    if draw.chance(0.3):  # a core that has died, or a rim that takes up contrast
        core = depth > radius * draw.uniform(0.15, 0.6)
        lesion = torch.where(core, lesion - step * draw.uniform(0.3, 1.5), lesion)
    return augment_intensity(draw, image.lerp(lesion, within), strength=0.5)


def _targets(draw: Draw, drawn: Tensor, wanted: int) -> list[Tensor]:
    """All lesions at once, or single ones."""
    pieces, sizes = component_labels(drawn)
    largest = LARGEST_SHARE * drawn.numel()
    usable = [k for k, size in enumerate(sizes) if _FEWEST_VOXELS <= size <= largest]
    draw.python.shuffle(usable)
    masks = [pieces == k for k in usable[:wanted]]
    if len(usable) > 1 and draw.chance(_ALL_AT_ONCE) and _FEWEST_VOXELS <= int(drawn.sum()) <= largest:
        masks[0] = drawn
    return masks
