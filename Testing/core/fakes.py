"""A session with simple, predictable rules instead of a network: the whole protocol, numpy only.

Rules (probability P, mask = P above the threshold):
    point      P falls off around the voxel, 0.5 at `radius` voxels: adds a ball, or takes one away
    box        every voxel of the box (clipped to the scan) is added
    scribble   a ball of `scribble_radius` along every voxel of the polyline is added, or taken away
    lasso      the polygon's inside in its slice plane is added, or taken away
    mask       replaces everything

The same calls are rejected, with the same errors, as by a real session.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from FastSAM3DCore.errors import ImageError, PromptError
from FastSAM3DCore.prompts import (
    BoxPrompt,
    LassoPrompt,
    MaskPrompt,
    PointPrompt,
    Prompt,
    ScribblePrompt,
    as_ijk,
    as_ijk_list,
)
from FastSAM3DCore.types import MaskUpdate, ModelIdentity, Volume, VoxelBox


class FakeSession:
    """Implements `SegmentationSession`; `radius` is not a whole number so that no voxel lies on the rim."""

    def __init__(self, radius: float = 5.5, scribble_radius: float = 1.5) -> None:
        self.radius = radius
        self.scribble_radius = scribble_radius
        self.model = ModelIdentity("fake", "fa" * 32)
        self.closed = False
        self.images_set = 0
        self._volume: Volume | None = None
        self._probability = np.zeros((0, 0, 0), np.float32)
        self._threshold = 0.5
        self._prompts: tuple[Prompt, ...] = ()
        self._undo: list[tuple[Prompt, ...]] = []
        self._redo: list[tuple[Prompt, ...]] = []
        self._next_id = 1

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        return self._prompts

    @property
    def can_undo(self) -> bool:
        return bool(self._undo)

    @property
    def can_redo(self) -> bool:
        return bool(self._redo)

    def set_image(self, volume: Volume) -> None:
        array = volume.array_kji
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ImageError("The scan holds NaN or infinite voxels; replace them with a number first.")
        if array.min() == array.max():
            raise ImageError("Every voxel of the scan has the same value; there is nothing to segment.")
        self._volume = volume
        self._probability = np.zeros(array.shape, np.float32)
        self._threshold = 0.5
        self._prompts = ()
        self._undo, self._redo = [], []
        self._next_id = 1
        self.images_set += 1

    def mask(self, box: VoxelBox | None = None) -> NDArray[np.uint8]:
        return (self.probability(box) > self._threshold).astype(np.uint8)

    def probability(self, box: VoxelBox | None = None) -> NDArray[np.float32]:
        whole = self._image().box
        return self._probability[(box.intersect(whole) if box else whole).slices_kji].copy()

    def add_point(self, point_ijk: Sequence[float], positive: bool = True) -> MaskUpdate:
        return self._add(PointPrompt(self._next_id, self._inside(as_ijk(point_ijk)), bool(positive)))

    def add_box(self, box: VoxelBox) -> MaskUpdate:
        if box.is_empty:
            raise PromptError(f"The box from {box.lower} to {box.upper} is inverted or empty.")
        if box.intersect(self._image().box).is_empty:
            raise PromptError(f"The box from {box.lower} to {box.upper} lies outside the scan.")
        return self._add(BoxPrompt(self._next_id, box))

    def add_scribble(self, points_ijk: Iterable[Sequence[float]], positive: bool = True) -> MaskUpdate:
        points = tuple(self._inside(p) for p in as_ijk_list(points_ijk))
        if not points:
            raise PromptError("A scribble needs at least one point.")
        return self._add(ScribblePrompt(self._next_id, points, bool(positive)))

    def add_lasso(self, polygon_ijk: Iterable[Sequence[float]], positive: bool = True) -> MaskUpdate:
        points = tuple(self._inside(p) for p in as_ijk_list(polygon_ijk))
        if len(points) < 3:
            raise PromptError("A lasso needs at least three points.")
        if _plane_axis(points) is None:
            raise PromptError("A lasso must lie in one slice: give all its points the same i, j or k.")
        if not _inside_polygon(points, self._probability.shape).any():
            raise PromptError("A lasso must hold at least one voxel's centre.")
        return self._add(LassoPrompt(self._next_id, points, bool(positive)))

    def set_mask(self, mask_kji: NDArray[Any]) -> MaskUpdate:
        mask = np.asarray(mask_kji)
        if mask.shape != self._image().array_kji.shape:
            raise PromptError(f"The mask has the shape {mask.shape}; the scan has {self._image().array_kji.shape}.")
        return self._add(MaskPrompt.from_mask(self._next_id, mask))

    def move_prompt(self, prompt_id: int, point_ijk: Sequence[float]) -> MaskUpdate:
        old = self._find(prompt_id)
        if not isinstance(old, PointPrompt):
            raise PromptError(f"Prompt {prompt_id} is a {old.kind}; only points can be moved.")
        new = replace(old, point_ijk=self._inside(as_ijk(point_ijk)))
        update = self._change(tuple(new if p.id == prompt_id else p for p in self._prompts))
        return replace(update, prompt_id=prompt_id)

    def remove_prompt(self, prompt_id: int) -> MaskUpdate:
        self._find(prompt_id)
        return self._change(tuple(p for p in self._prompts if p.id != prompt_id))

    def undo(self) -> MaskUpdate:
        if not self._undo:
            raise PromptError("There is nothing to undo.")
        self._redo.append(self._prompts)
        return self._show(self._undo.pop())

    def redo(self) -> MaskUpdate:
        if not self._redo:
            raise PromptError("There is nothing to redo.")
        self._undo.append(self._prompts)
        return self._show(self._redo.pop())

    def reset(self) -> MaskUpdate:
        self._image()
        return self._change(())

    def set_threshold(self, probability: float) -> MaskUpdate:
        if not 0.0 < probability < 1.0:
            raise PromptError(f"The threshold must lie between 0 and 1, got {probability}.")
        before = self.mask()
        self._threshold = float(probability)
        return _difference(before, self.mask())

    def replay(self, prompts: Iterable[Prompt]) -> MaskUpdate:
        log = tuple(prompts)
        scratch = FakeSession(self.radius, self.scribble_radius)
        scratch.set_image(self._image())
        for prompt in log:  # every check, before anything here changes
            scratch._repeat(prompt)
        return self._change(log)

    def close(self) -> None:
        self.closed = True
        self._volume = None

    def _repeat(self, prompt: Prompt) -> None:
        match prompt:
            case PointPrompt():
                self.add_point(prompt.point_ijk, prompt.positive)
            case BoxPrompt():
                self.add_box(prompt.box)
            case ScribblePrompt():
                self.add_scribble(prompt.points_ijk, prompt.positive)
            case LassoPrompt():
                self.add_lasso(prompt.polygon_ijk, prompt.positive)
            case MaskPrompt():
                self.set_mask(prompt.mask_kji())

    def _image(self) -> Volume:
        if self._volume is None:
            raise ImageError("No scan is loaded; call set_image first.")
        return self._volume

    def _inside(self, point: tuple[float, float, float]) -> tuple[float, float, float]:
        if not self._image().box.contains(point):
            raise PromptError(f"The point {point} lies outside the scan of {self._image().shape_ijk} voxels.")
        return point

    def _find(self, prompt_id: int) -> Prompt:
        for prompt in self._prompts:
            if prompt.id == prompt_id:
                return prompt
        raise PromptError(f"There is no prompt {prompt_id}.")

    def _add(self, prompt: Prompt) -> MaskUpdate:
        return replace(self._change((*self._prompts, prompt)), prompt_id=prompt.id)

    def _change(self, prompts: tuple[Prompt, ...]) -> MaskUpdate:
        self._undo.append(self._prompts)
        self._redo.clear()
        return self._show(prompts)

    def _show(self, prompts: tuple[Prompt, ...]) -> MaskUpdate:
        before = self.mask()
        known = len(self._prompts)
        if prompts[:known] == self._prompts:
            new = prompts[known:]
        else:
            self._probability[:] = 0
            new = prompts
        for prompt in new:
            self._apply(prompt)
        self._prompts = prompts
        self._next_id = max([self._next_id, *(p.id + 1 for p in prompts)])
        return _difference(before, self.mask())

    def _apply(self, prompt: Prompt) -> None:
        match prompt:
            case PointPrompt():
                self._ball(prompt.point_ijk, self.radius, prompt.positive)
            case BoxPrompt():
                self._probability[prompt.box.intersect(self._image().box).slices_kji] = 0.9
            case ScribblePrompt():
                for point in _along(prompt.points_ijk):
                    self._ball(point, self.scribble_radius, prompt.positive)
            case LassoPrompt():
                inside = _inside_polygon(prompt.polygon_ijk, self._probability.shape)
                self._probability[inside] = 0.9 if prompt.positive else 0.1
            case MaskPrompt():
                self._probability[:] = prompt.mask_kji()

    def _ball(self, center_ijk: Sequence[float], radius: float, positive: bool) -> None:
        center = [round(v) for v in center_ijk]
        reach = int(4 * radius)  # P is 1/17 there
        box = VoxelBox(tuple(c - reach for c in center), tuple(c + reach + 1 for c in center))
        box = box.intersect(self._image().box)
        k, j, i = np.ogrid[box.slices_kji]
        squared = (i - center[0]) ** 2 + (j - center[1]) ** 2 + (k - center[2]) ** 2
        near = (1 / (1 + squared / radius**2)).astype(np.float32)
        here = self._probability[box.slices_kji]
        self._probability[box.slices_kji] = np.maximum(here, near) if positive else np.minimum(here, 1 - near)


def _difference(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> MaskUpdate:
    changed = np.nonzero(before != after)
    if not changed[0].size:
        return MaskUpdate(VoxelBox.empty(), np.zeros((0, 0, 0), np.uint8))
    lower = tuple(int(axis.min()) for axis in reversed(changed))
    upper = tuple(int(axis.max()) + 1 for axis in reversed(changed))
    box = VoxelBox(lower, upper)  # type: ignore[arg-type]
    return MaskUpdate(box, after[box.slices_kji])


def _along(points: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    """The polyline's points, no further than one voxel apart."""
    path = [tuple(points[0])]
    for start, end in pairwise(points):
        steps = max(1, int(np.ceil(np.abs(np.subtract(end, start)).max())))
        path += [tuple(np.add(start, np.subtract(end, start) * n / steps)) for n in range(1, steps + 1)]
    return path


def _plane_axis(points: Sequence[Sequence[float]]) -> int | None:
    """The axis (0 = i, 1 = j, 2 = k) along which all points have the same voxel; the highest if several do."""
    voxels = np.round(np.asarray(points))
    flat = [axis for axis in (2, 1, 0) if np.ptp(voxels[:, axis]) == 0]
    return flat[0] if flat else None


def _inside_polygon(points: Sequence[Sequence[float]], shape_kji: tuple[int, ...]) -> NDArray[np.bool_]:
    """Voxels whose centre lies inside the polygon, in the polygon's slice (even-odd rule)."""
    axis = _plane_axis(points)
    across = [a for a in (0, 1, 2) if a != axis]
    polygon = np.asarray(points, dtype=float)[:, across]
    u, v = np.meshgrid(*(np.arange(shape_kji[2 - a]) for a in across), indexing="ij")
    inside = np.zeros(u.shape, bool)
    for (u0, v0), (u1, v1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if v0 != v1:
            crosses = (v0 > v) != (v1 > v)
            inside ^= crosses & (u < (u1 - u0) * (v - v0) / (v1 - v0) + u0)
    whole = np.zeros(shape_kji[::-1], bool)  # [i, j, k]
    index: list[Any] = [slice(None)] * 3
    index[axis or 0] = round(points[0][axis or 0])
    whole[tuple(index)] = inside
    return whole.transpose(2, 1, 0)
