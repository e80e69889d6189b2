"""Pseudo-labels for scans nobody labelled: watershed regions of similar intensity."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from ...modeling.hires.intensity import two_channels
from .components import grow
from .draw import Draw
from .volumes import LabelledVolume, find_structures

__all__ = ["similar_union", "with_supervoxels"]

_TARGET_MM3 = 4000.0  # a region of 16 mm across, before merging


def with_supervoxels(volume: LabelledVolume, seed: int = 0) -> LabelledVolume:
    """Replace the labels by watershed regions on the gradient of the equalised image.

    Dark regions (air) get label 0. Takes seconds per scan; done once when the data engine starts.
    """
    if volume.image is None:
        raise ValueError("supervoxels need an image; pass a scan, not a label map")
    from scipy import ndimage

    equalised = two_channels(volume.image[None, None].cpu())[0, 1].numpy()
    smooth = ndimage.gaussian_filter(equalised, 0.8)
    steepness = ndimage.gaussian_gradient_magnitude(smooth, 0.8)
    levels = np.clip(steepness / max(1e-6, float(np.quantile(steepness, 0.99))) * 255, 0, 255).astype(np.uint8)
    minima = (ndimage.minimum_filter(levels, 3) == levels) & (levels < 90)
    places = np.argwhere(minima)
    voxel_mm3 = float(volume.spacing.prod())
    wanted = int(np.clip(equalised.size * voxel_mm3 / _TARGET_MM3, 50, 6000))
    generator = np.random.default_rng(seed)
    places = places[generator.permutation(len(places))[:wanted]]
    markers = np.zeros(levels.shape, np.int16)
    markers[tuple(places.T)] = np.arange(1, len(places) + 1)
    regions = ndimage.watershed_ift(levels, markers)
    counts = np.bincount(regions.ravel(), minlength=len(places) + 1)
    means = np.bincount(regions.ravel(), smooth.ravel(), minlength=len(places) + 1) / np.maximum(counts, 1)
    squares = np.bincount(regions.ravel(), smooth.ravel() ** 2, minlength=len(places) + 1) / np.maximum(counts, 1)
    spread = np.sqrt(np.maximum(squares - means**2, 0))
    dull = (means < -0.8) | (spread > 0.3)  # air, and regions that follow no edge
    regions = np.where(dull[regions], 0, regions).astype(np.int16)
    return dataclasses.replace(
        volume,
        labels=torch.from_numpy(regions).to(volume.labels.device),
        structures=find_structures(regions),
        means=torch.from_numpy(means.astype(np.float32)).to(volume.labels.device),
    )


def similar_union(draw: Draw, labels: Tensor, means: Tensor, seed: int) -> Tensor:
    """Grow a region over touching regions of similar mean: relabels them to `seed` in a copy of the crop's labels."""
    tolerance = draw.choice([0.0, 0.05, 0.1, 0.15])
    if tolerance == 0.0:
        return labels
    similar = (means - means[seed]).abs() < tolerance
    similar[0] = False
    for _ in range(draw.integer(1, 3)):
        mask = labels == seed
        around = torch.where(grow(mask) & ~mask, labels, 0)
        touched = torch.zeros_like(similar).index_fill_(0, around.flatten(), True)
        labels = torch.where((similar & touched)[labels], seed, labels)
    return labels
