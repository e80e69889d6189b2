"""A quick look at scans never trained on: fixed crops, ideal clicks, Dice after each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..evaluate.clicks import next_click
from ..modeling.hires import HiresModel
from .data.crops import Crop, sample_image, sample_labels
from .data.draw import Draw
from .data.volumes import LabelledVolume, Structure, load_volume
from .losses import dice_score

__all__ = ["HeldOutCrop", "clicked_dice", "held_out_crops", "mean_scores"]


@dataclass(frozen=True, slots=True)
class HeldOutCrop:
    """An image (D, H, W) float32, its target (D, H, W) bool, and where they come from."""

    case: str
    label: int
    image: Tensor
    target: Tensor


def held_out_crops(scans: Path, cases: list[str], size: int, per_case: int, seed: int = 0) -> list[HeldOutCrop]:
    """Isotropic cubes around structures, side 1.3 to 2.2 times their extent: the zoom comes from the answer.

    Args:
        scans: folder of cases.
        cases: names; missing folders are skipped.
        size: voxels per axis.
        per_case: structures per case at most.
        seed: of the choice.
    """
    crops = []
    for number, case in enumerate(sorted(cases)):
        folder = scans / case
        if not (folder / "label.nii.gz").exists():
            continue
        volume = load_volume(case, folder / "label.nii.gz", folder / "image.nii.gz")
        draw = Draw(seed, number)
        structures = list(volume.structures)
        draw.python.shuffle(structures)
        found = [crop for s in structures[: 2 * per_case] if (crop := _crop(draw, volume, s, size)) is not None]
        crops += found[:per_case]
    return crops


@torch.inference_mode()
def clicked_dice(model: HiresModel, crop: HeldOutCrop, clicks: int, bfloat16: bool) -> list[float]:
    """Dice after each click, placed as `evaluate` places them."""
    device = next(model.parameters()).device
    target = crop.target[None].to(device)
    points, labels = torch.zeros(1, 0, 3, device=device), torch.zeros(1, 0, dtype=torch.int64, device=device)
    mask: Tensor | None = None
    scores: list[float] = []
    truth = crop.target.numpy()
    found = np.zeros_like(truth)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
        embedding = model.encode(crop.image[None, None].to(device))
        for _ in range(clicks):
            click = next_click(found, truth, (1.0, 1.0, 1.0))
            if click is not None:
                place = torch.tensor([[click.point_ijk[::-1]]], dtype=torch.float32, device=device)
                points = torch.cat([points, place], 1)
                labels = torch.cat([labels, torch.tensor([[int(click.positive)]], device=device)], 1)
                mask, _ = model.decode(embedding, points, labels, mask)
                found = (mask[0, 0] > 0).cpu().numpy()
            scores.append(float(dice_score(mask, target)) if mask is not None else 0.0)
    return scores


@torch.inference_mode()
def boxed_dice(model: HiresModel, crop: HeldOutCrop, bfloat16: bool) -> float:
    """Dice of the target's box alone."""
    device = next(model.parameters()).device
    places = crop.target.nonzero()
    box = torch.stack([places.amin(0), places.amax(0) + 1])[None].float().to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
        embedding = model.encode(crop.image[None, None].to(device))
        none = torch.zeros(1, 0, 3, device=device), torch.zeros(1, 0, dtype=torch.int64, device=device)
        mask, _ = model.decode(embedding, *none, None, boxes=box)
    return float(dice_score(mask, crop.target[None].to(device)))


def mean_scores(model: HiresModel, crops: list[HeldOutCrop], clicks: int, *, bfloat16: bool) -> dict[str, float]:
    """Mean Dice over crops at 1, 3, 5 and 10 clicks as far as `clicks` goes, and of a box."""
    training = model.training
    model.eval()
    table = np.array([clicked_dice(model, crop, clicks, bfloat16) for crop in crops])
    scores = {str(n): float(table[:, n - 1].mean()) for n in (1, 3, 5, 10) if n <= clicks}
    scores["box"] = float(np.mean([boxed_dice(model, crop, bfloat16) for crop in crops]))
    model.train(training)
    return scores


def _crop(draw: Draw, volume: LabelledVolume, structure: Structure, size: int) -> HeldOutCrop | None:
    lower, upper = torch.tensor(structure.lower).float(), torch.tensor(structure.upper).float()
    spacing = volume.spacing
    view = max(float(((upper - lower) * spacing).max()) * draw.uniform(1.3, 2.2), size * float(spacing.min()) * 0.5)
    centre = ((lower + upper) / 2 - 0.5) * spacing + (draw.rand(3) * 2 - 1) * 0.12 * view
    axis = (torch.arange(size) - (size - 1) / 2) * (view / size)
    place = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
    index = place / spacing[:, None, None, None] + (centre / spacing)[:, None, None, None]
    step = view / size / spacing
    limit = torch.tensor(volume.labels.shape)[:, None, None, None]
    inside = ((index > -0.5) & (index < limit - 0.5)).all(0)
    crop = Crop(index, (float(step[0]), float(step[1]), float(step[2])), inside, (view / size,) * 3)
    if volume.image is None:
        return None
    target = (sample_labels(volume.labels, crop) == structure.label) & crop.inside
    pieces, count = ndimage.label(target.numpy())
    if count == 0:
        return None
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    target = torch.from_numpy(pieces == int(sizes.argmax()))
    if int(target.sum()) < 80:
        return None
    return HeldOutCrop(volume.name, structure.label, sample_image(volume.image, crop), target)
