"""Prompts as the network of a crop sees them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..engine import CropPrompts, Engine
from ..geometry import CanonicalAxes, CropFrame
from ..prompts import BoxPrompt, LassoPrompt, MaskPrompt, PointPrompt, Prompt, ScribblePrompt
from .shapes import polygon_points, polyline_voxels

__all__ = ["active_prompts", "box_edges", "crop_prompts", "lasso_points"]

MAX_POINTS = 64
SCRIBBLE_POINTS = 12


def active_prompts(prompts: Sequence[Prompt]) -> Sequence[Prompt]:
    """The prompts given since the mask was last replaced; earlier ones may contradict the hand edit."""
    for index in range(len(prompts) - 1, -1, -1):
        if isinstance(prompts[index], MaskPrompt):
            return prompts[index + 1 :]
    return prompts


def box_edges(axes: CanonicalAxes, prompt: BoxPrompt) -> NDArray[np.float64]:
    """(2, 3) lower and upper faces of a box in canonical voxel coordinates.

    A box drawn in one slice stands for a structure about as deep as it is wide: on 24 structures .56 mean Dice,
    .41 where the network was given the flat box, .53 with a click in its middle alone.
    """
    box = axes.box_from_ijk(prompt.box)
    edges = np.array([box.lower, box.upper], dtype=np.float64) - 0.5
    if len(prompt.thin_axes) == 1:
        extent, spacing = edges[1] - edges[0], np.asarray(axes.spacing)
        flat = extent == 1
        depth = float((extent * spacing)[~flat].mean()) / float(spacing[flat][0])
        grow = np.where(flat, max(0.0, (depth - 1) / 2), 0.0)
        limit = np.asarray(axes.shape) - 0.5
        edges = np.array([np.maximum(edges[0] - grow, -0.5), np.minimum(edges[1] + grow, limit)])
    return edges


def lasso_points(engine: Engine, prompt: LassoPrompt) -> NDArray[np.float64]:
    """Voxels (n, 3) ijk that stand for a lasso, its middle first."""
    return polygon_points(prompt.polygon_ijk, engine.volume.shape_ijk, SCRIBBLE_POINTS)


def crop_prompts(engine: Engine, prompts: Sequence[Prompt], frame: CropFrame) -> CropPrompts:
    """The prompts since the last hand edit that lie in a crop, in its voxels."""
    points: list[NDArray[np.float64]] = []
    labels: list[bool] = []
    box: NDArray[np.float64] | None = None
    axes = engine.axes
    for prompt in active_prompts(prompts):
        match prompt:
            case PointPrompt():
                places, positive = np.array([prompt.point_ijk]), prompt.positive
            case ScribblePrompt():
                places, positive = polyline_voxels(prompt.points_ijk, SCRIBBLE_POINTS), prompt.positive
            case LassoPrompt():
                places, positive = lasso_points(engine, prompt), prompt.positive
            case BoxPrompt():
                edges = box_edges(axes, prompt)
                box = frame.from_canonical(edges) + 0.5
                if engine.traits.box_prompts:
                    continue
                places, positive = axes.to_ijk((edges[0] + edges[1])[None] / 2), True
            case _:
                continue
        crop = frame.from_canonical(axes.from_ijk(places))
        seen = ((crop > -0.5) & (crop < np.asarray(frame.size) - 0.5)).all(axis=1)
        points.extend(crop[seen])
        labels.extend([positive] * int(seen.sum()))
    if box is not None and ((box[1] <= 0) | (box[0] >= np.asarray(frame.size))).any():
        box = None
    if box is not None and not points:
        # A box alone says little of what it holds. On 33 structures .57 mean Dice, with a click in its middle .60.
        points, labels = [box.mean(axis=0) - 0.5], [True]
    kept = np.array(points[-MAX_POINTS:], dtype=np.float64).reshape(-1, 3)
    return CropPrompts(kept, np.array(labels[-MAX_POINTS:], dtype=np.int64), box)
