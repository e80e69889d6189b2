"""From labels to a scan: contrast, texture, bias field, partial volume, slices, noise and accidents."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .draw import Draw, Shape

__all__ = ["augment_intensity", "render", "render_scan"]


def render(draw: Draw, labels: Tensor, count: int) -> Tensor:
    """Synthesise an image with random contrast per structure (the idea of SynthSeg, Billot et al. 2023).

    Args:
        draw: random numbers.
        labels: (D, H, W) int64 in 0..count - 1.
        count: number of labels.

    Returns:
        (D, H, W) float32 in arbitrary units.
    """
    shape: Shape = (labels.shape[0], labels.shape[1], labels.shape[2])
    image = _means(draw, count)[labels]
    if draw.chance(0.6):
        spread = draw.rand(count) ** 2 * draw.uniform(0, 0.18)
        image = image + spread[labels] * draw.smooth(1, draw.choice([10, 16, 24, 32, 64]), shape)[0]
    if draw.chance(0.3):  # structures that nobody labelled
        field = draw.smooth(1, draw.choice([8, 12, 16, 24]), shape)[0]
        hidden = field.abs() < 0.12 if draw.chance(0.5) else field > 1.7
        image = image + hidden * draw.uniform(-0.25, 0.25)
    if draw.chance(0.25):  # air around the body
        field = draw.smooth(1, 3, shape)[0]
        ramp = torch.linspace(-1, 1, shape[0], device=draw.device)[:, None, None] * draw.choice([-3.0, 3.0])
        air = draw.choice([0.0, 0.0, -0.5, -1.0])
        image = torch.where(field + ramp > draw.uniform(2, 4), air, image)
    image = _blur(draw, image) if draw.chance(0.85) else image
    image = _slices(draw, image)
    return augment_intensity(draw, image)


def render_scan(draw: Draw, image: Tensor, voxel_mm: tuple[float, ...]) -> Tensor:
    """What a scanner with voxels of about a millimetre, now and then with thicker slices, makes of ideal grey values.

    Args:
        draw: random numbers.
        image: (D, H, W) grey values.
        voxel_mm: of `image`, mm per axis; scanned voxels are never finer.

    Returns:
        (D, H, W) float32 in arbitrary units.
    """
    shape: Shape = (image.shape[0], image.shape[1], image.shape[2])
    view = max(n * mm for n, mm in zip(shape, voxel_mm, strict=True))
    if draw.chance(0.7):  # layers and folds finer than the labels
        image = image + draw.smooth(1, round(view / draw.uniform(2.5, 8)), shape)[0] * draw.uniform(0, 0.12)
    if draw.chance(0.5):  # vessels and fluid between folds
        field = draw.smooth(1, round(view / draw.uniform(4, 9)), shape)[0]
        image = torch.where(field > draw.uniform(1.6, 2.6), image * draw.uniform(0.2, 0.8), image)
    scanned = [draw.uniform(0.8, 1.3)] * 3
    if draw.chance(0.2):
        scanned[draw.integer(0, 2)] *= draw.uniform(1, 3)
    coarse = [max(6, min(n, round(n * mm / s))) for n, mm, s in zip(shape, voxel_mm, scanned, strict=True)]
    image = F.interpolate(_blur(draw, image)[None, None], size=coarse, mode="area")
    image = image + draw.normal(*image.shape) * draw.uniform(0, 0.35) ** 2
    return augment_intensity(draw, F.interpolate(image, size=shape, mode="trilinear")[0, 0], strength=0.6)


def augment_intensity(draw: Draw, image: Tensor, strength: float = 1.0) -> Tensor:
    """Bias field, noise, gamma, clipping, outliers and inversion; `image` in any unit.

    Args:
        draw: random numbers.
        image: (D, H, W).
        strength: scales the probability of each change.
    """
    shape: Shape = (image.shape[0], image.shape[1], image.shape[2])
    low, high = image.amin(), image.amax()
    x = (image - low) / (high - low + 1e-6)
    if draw.chance(0.45 * strength):
        x = x * torch.exp(draw.smooth(1, draw.integer(2, 4), shape)[0] * draw.uniform(0, 0.25))
        x = x + draw.smooth(1, draw.integer(2, 4), shape)[0] * draw.uniform(0, 0.06)
    if draw.chance(0.6 * strength):
        noise = draw.normal(*shape) * (draw.log_uniform(0.004, 0.06) if draw.chance(0.8) else draw.uniform(0.06, 0.3))
        x = (x.square() + noise.square()).sqrt() if draw.chance(0.15) else x + noise
    if draw.chance(0.2 * strength):  # coarse-grained noise, as after interpolation
        x = x + draw.smooth(1, max(shape) // 2, shape)[0] * draw.uniform(0, 0.04)
    if draw.chance(0.3 * strength):
        span = x.amax() - x.amin() + 1e-6
        x = ((x - x.amin()) / span).pow(draw.log_uniform(0.55, 1.8))
    if draw.chance(0.2 * strength):
        sample = x.flatten()[::37]
        x = x.clamp(torch.quantile(sample, draw.uniform(0, 0.1)), torch.quantile(sample, draw.uniform(0.85, 0.99)))
    if draw.chance(0.06 * strength):  # metal: a few voxels far outside the range
        field = draw.smooth(1, draw.integer(6, 16), shape)[0]
        x = torch.where(field > draw.uniform(2.8, 3.6), draw.uniform(2, 8), x)
    return -x if draw.chance(0.15 * strength) else x


def _means(draw: Draw, count: int) -> Tensor:
    mode = draw.uniform(0, 1)
    if mode < 0.5:
        return draw.rand(count)
    if mode < 0.8:  # few tissues: neighbours often look the same
        tissues = draw.rand(draw.integer(3, 7))
        picks = (draw.rand(count) * len(tissues)).long()
        return tissues[picks] + draw.normal(count) * draw.uniform(0.01, 0.05)
    return 0.5 + draw.normal(count) * draw.uniform(0.06, 0.2)


def _blur(draw: Draw, image: Tensor) -> Tensor:
    sigma = draw.uniform(0.3, 1.1)
    taps = torch.exp(-(torch.arange(-2, 3, device=draw.device).float() ** 2) / (2 * sigma**2))
    taps = taps / taps.sum()
    for axis in range(3):
        ends = [image.narrow(axis, 0, 1)] * 2, [image.narrow(axis, image.shape[axis] - 1, 1)] * 2
        padded = torch.cat([*ends[0], image, *ends[1]], axis)
        image = sum((padded.narrow(axis, k, image.shape[axis]) * taps[k] for k in range(5)), torch.zeros_like(image))
    return image


def _slices(draw: Draw, image: Tensor) -> Tensor:
    """Thick slices along one axis, or a low resolution along all."""
    shape = list(image.shape)
    kind = draw.uniform(0, 1)
    if kind < 0.3:
        axis = draw.integer(0, 2)
        shape[axis] = max(6, int(shape[axis] / draw.uniform(1.5, 4)))
        noise, mode = draw.uniform(0, 0.05), "trilinear" if draw.chance(0.7) else "nearest"
    elif kind < 0.42:
        factor = draw.uniform(1.15, 2.2)
        shape = [max(6, int(n / factor)) for n in shape]
        noise, mode = draw.uniform(0, 0.05), "trilinear"
    else:
        return image
    coarse = F.interpolate(image[None, None], size=shape, mode="area")
    coarse = coarse + draw.normal(*coarse.shape) * noise
    return F.interpolate(coarse, size=image.shape, mode=mode)[0, 0]
