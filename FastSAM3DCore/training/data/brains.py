"""Brains in the contrasts of real sequences, cut from label maps in FreeSurfer's scheme.

Random contrast teaches that a border is where grey values change. Between hippocampus and amygdala, or at the neck of
the temporal horn, they hardly do: a reader knows the shape. Here tissues look as they do in T1, T2 and FLAIR, so that
the shape has to be learnt.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ImageError
from .draw import Draw
from .volumes import LabelledVolume, find_structures

__all__ = ["DEEP", "LESION", "brain_means", "deep_brain", "halved_share", "halves", "tissue", "tissue_labels"]

# Grey values relative to white matter in T1 = 1, of T1, T2 and FLAIR; field strengths and vendors vary more than the
# second decimal, which is why `brain_means` draws around them. Order of the columns: `_SEQUENCES`.
_TISSUES: dict[str, tuple[float, float, float]] = {
    "white matter": (1.00, 0.34, 0.45),
    "cortex": (0.62, 0.55, 0.63),
    "fluid": (0.18, 1.00, 0.12),
    "cerebellar white matter": (0.96, 0.35, 0.45),
    "cerebellar cortex": (0.61, 0.55, 0.60),
    "thalamus": (0.80, 0.44, 0.55),
    "caudate": (0.69, 0.49, 0.59),
    "putamen": (0.73, 0.45, 0.56),
    "pallidum": (0.86, 0.30, 0.46),
    "brainstem": (0.91, 0.42, 0.50),
    "hippocampus": (0.64, 0.57, 0.68),
    "amygdala": (0.63, 0.57, 0.67),
    "accumbens": (0.66, 0.50, 0.60),
    "ventral diencephalon": (0.87, 0.40, 0.50),
    "lesion": (0.70, 0.75, 0.95),
    "plexus": (0.42, 0.75, 0.55),
}
_SEQUENCES = 3
_COMMON = [
    "white matter", "cortex", "fluid", "fluid", "cerebellar white matter", "cerebellar cortex",
    "thalamus", "caudate", "putamen", "pallidum",
]  # fmt: skip
# Label 1, 2, ... of the maps: the FreeSurfer numbers 2 3 4 5 7 8 10 11 12 13 14 15 16 17 18 24 25 26 28 30, then the
# right side's 41 42 43 44 46 47 49 50 51 52 53 54 57 58 60 62; above them come parts that vary from map to map.
_LEFT = [*_COMMON, "fluid", "fluid", "brainstem", "hippocampus", "amygdala", "fluid", "lesion", "accumbens"]
_LEFT_ALL = [*_LEFT, "ventral diencephalon", "plexus"]
_ORDER = [
    *_LEFT_ALL,
    *_COMMON, "hippocampus", "amygdala", "lesion", "accumbens", "ventral diencephalon", "plexus",
]  # fmt: skip
_AROUND = 16  # FreeSurfer's 24: the fluid between brain and skull

DEEP = {"thalamus", "caudate", "putamen", "pallidum", "hippocampus", "amygdala", "accumbens", "ventral diencephalon"}
LESION = _ORDER.index("lesion") + 1
_MARGIN = 10


def deep_brain(volume: LabelledVolume) -> LabelledVolume:
    """The middle of a head, its grey nuclei and what surrounds them, at twice the resolution with smooth borders.

    Args:
        volume: labels 1 .. 36 in the order above.

    Returns:
        A label map whose `structures` are those of `DEEP`, the hippocampi nine times.

    Raises:
        ImageError: the map has none of them.
    """
    deep = [s for s in volume.structures if s.label <= len(_ORDER) and _ORDER[s.label - 1] in DEEP]
    if not deep:
        raise ImageError(
            f"label map {volume.name} has no deep nuclei where FreeSurfer's order puts them; take it from 'freesurfer'"
            " in the split file"
        )
    part = tuple(
        slice(max(0, min(s.lower[a] for s in deep) - _MARGIN), max(s.upper[a] for s in deep) + _MARGIN)
        for a in range(3)
    )
    labels = volume.labels[part]
    best = torch.zeros([2 * n for n in labels.shape], device=labels.device)
    fine = torch.zeros_like(best, dtype=labels.dtype)
    for label in torch.unique(labels).tolist():  # the label with the largest share of each fine voxel
        share = F.avg_pool3d(F.pad((labels == label)[None, None].float(), [1] * 6, mode="replicate"), 3, 1)
        share = 0.5 * share + 0.5 * (labels == label)
        share = F.interpolate(share, scale_factor=2, mode="trilinear")[0, 0]
        fine = torch.where(share > best, label, fine)
        best = torch.maximum(best, share)
    kept = {s.label for s in deep}
    found = [s for s in find_structures(fine.cpu().numpy().astype(np.int16)) if s.label in kept]
    found += 8 * [s for s in found if _ORDER[s.label - 1] == "hippocampus"]  # what is outlined most, so met most
    return dataclasses.replace(volume, labels=fine, structures=found, spacing=volume.spacing / 2)


def brain_means(draw: Draw, labels: Sequence[int]) -> Tensor:
    """(len(labels),) grey values of labels of such a map (0 is outside) as one sequence would show them."""
    sequence = draw.python.choices(range(_SEQUENCES), [0.7, 0.15, 0.15])[0]
    values = []
    for label in labels:
        if label == 0:
            values.append(draw.choice([0.0, 0.0, draw.uniform(0, 1)]))
        elif label <= len(_ORDER):
            values.append(_TISSUES[_ORDER[label - 1]][sequence])
        else:
            values.append(draw.uniform(0.1, 1.1))
    means = torch.tensor(values, device=draw.device).pow(draw.log_uniform(0.7, 1.4))
    return means + draw.normal(len(values)) * draw.uniform(0.005, 0.05)


def tissue_labels(*names: str, side: str | None = None, ventricles: bool = False) -> set[int]:
    """Labels of such maps.

    Args:
        names: of tissues, "white matter" or "fluid" say; none for all.
        side: "left" or "right" for the labels of that side alone; what lies in the middle counts as left.
        ventricles: without the fluid around the brain.
    """
    known = enumerate(_ORDER, start=1)
    labels = {label for label, name in known if not names or name in names}
    if side is not None:
        labels = {label for label in labels if (label <= len(_LEFT_ALL)) == (side == "left")}
    return labels - {_AROUND} if ventricles else labels


def tissue(labels: Tensor, name: str) -> Tensor:
    """Where the labels of such a map are of a tissue, "white matter" or "fluid" say; bool, of the same shape."""
    return torch.isin(labels, torch.tensor(sorted(tissue_labels(name)), device=labels.device, dtype=labels.dtype))


def halved_share(label: int) -> float:
    """How often a structure of such a map is met in halves: protocols part the hippocampus, other nuclei seldom."""
    return 0.65 if _ORDER[label - 1] == "hippocampus" else 0.15


def halves(draw: Draw, labels: Tensor, label: int, other: int, along: Tensor | None = None) -> Tensor:
    """Cut a structure about in the middle, as head and body of the hippocampus are told apart.

    Args:
        draw: random numbers.
        labels: (D, H, W) int64.
        label: of the structure.
        other: label that one end gets.
        along: (D, H, W) positions of the voxels on the axis across which to cut; None: about the structure's long axis.
    """
    inside = labels == label
    places = inside.nonzero().float()
    if len(places) < 4:
        return labels
    if along is None:
        places = places - places.mean(0)
        axis = torch.linalg.eigh(places.T @ places).eigenvectors[:, -1]
        at = places @ (axis + 0.2 * draw.normal(3))
    else:
        at = along[inside]
    at = at * draw.choice([-1.0, 1.0])
    cut = labels.clone()
    cut[inside] = torch.where(at > torch.quantile(at, draw.uniform(0.35, 0.65)), other, label)
    return cut
