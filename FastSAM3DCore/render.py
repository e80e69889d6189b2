"""A picture of a result: three orthogonal slices through the prompts and a strip through the structure.

Radiological convention: the patient's right is on the left of axial and coronal views; sagittal views look
from the left, anterior on the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .drawing import Canvas, Color, text_width
from .io.atomic import atomic_path
from .io.segmentation import mask_box
from .prompts import BoxPrompt, MaskPrompt, PointPrompt, Prompt
from .types import Volume
from .views import Plane, Reoriented, prompt_points, reorient

__all__ = ["render_montage", "save_png"]

BACKGROUND: Color = (18, 20, 24)
MASK: Color = (64, 190, 255)
POSITIVE: Color = (70, 225, 100)
NEGATIVE: Color = (245, 75, 75)
BOX: Color = (255, 205, 60)
FAINT: Color = (150, 155, 165)

PANEL, GAP, HEADER, STRIP = 360, 8, 44, 6
TILE = (3 * PANEL - 3 * GAP) // STRIP  # as wide together as the three panels
FILL, OUTLINE = 0.28, 0.9  # opacity of the mask's inside and of its outline
# Hounsfield units: anything below CT_AIR makes a scan a CT; then (value at the focus below, (black, white)).
CT_AIR = -500.0
CT_WINDOWS = ((-300.0, (-1100.0, 200.0)), (250.0, (-160.0, 240.0)), (np.inf, (-300.0, 1200.0)))
# Prompts farther than this from a shown slice are drawn faint, as seen through it.
NEAR_MM = 2.5


@dataclass(frozen=True, slots=True)
class _Panel:
    """One slice on the canvas."""

    plane: Plane
    index: int
    x: int
    y: int
    size: int
    window: tuple[float, float]
    region: tuple[tuple[float, float], tuple[float, float]]
    """Shown range along the plane's (horizontal, vertical) canonical axes, in voxels."""


def render_montage(
    volume: Volume, mask_kji: NDArray[Any], prompts: Sequence[Prompt] = (), title: str = ""
) -> NDArray[np.uint8]:
    """Draw a result.

    Args:
        volume: the scan.
        mask_kji: the segment on its grid, indexed [k, j, i].
        prompts: drawn where they are: points and strokes green (positive) or red (negative), boxes yellow.
        title: written above, with the segment's volume.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    width = 3 * PANEL + 4 * GAP
    canvas = Canvas(width, HEADER + PANEL + TILE + 3 * GAP, BACKGROUND)
    scan, mask = reorient(volume, volume.array_kji), reorient(volume, mask_kji)
    focus = _focus(volume, scan, mask_kji, prompts)
    grey = _grey_window(scan, mask, focus)
    _header(canvas, volume, mask_kji, prompts, title)
    for number, plane in enumerate(Plane):
        x = GAP + number * (PANEL + GAP)
        region = scan.whole(plane)
        panel = _Panel(plane, focus[plane.normal], x, HEADER, PANEL, grey, region)
        _draw_panel(canvas, panel, scan, mask, prompts, volume)
    _draw_strip(canvas, scan, mask, focus, grey, prompts, volume)
    return canvas.rgb()


def save_png(path: Path | str, rgb: NDArray[np.uint8]) -> None:
    """Write an RGB array as PNG, atomically.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_path(path) as temporary:
        sitk.WriteImage(sitk.GetImageFromArray(rgb, isVector=True), str(temporary))


def _focus(volume: Volume, scan: Reoriented, mask_kji: NDArray[Any], prompts: Sequence[Prompt]) -> tuple[int, int, int]:
    """The voxel (canonical) through which the large slices go: the first positive prompt, or the mask's middle."""
    for prompt in prompts:
        if getattr(prompt, "positive", False):
            points = prompt_points(prompt)
            return scan.nearest(points[len(points) // 2])
    box = mask_box(mask_kji)
    if box.is_empty:
        box = next((p.box.intersect(volume.box) for p in prompts if isinstance(p, BoxPrompt)), volume.box)
    middle = [(l + u - 1) / 2 for l, u in zip(box.lower, box.upper, strict=True)]
    return scan.nearest((middle[0], middle[1], middle[2]))


def _grey_window(scan: Reoriented, mask: Reoriented, focus: tuple[int, int, int]) -> tuple[float, float]:
    """Black and white levels: a usual CT window for what is at the focus, else from the focus's neighbourhood."""
    centre = np.asarray(focus)
    if float(scan.array[::4, ::4, ::4].min()) < CT_AIR:
        value = float(scan.array[focus])
        return next((window for limit, window in CT_WINDOWS if value < limit), CT_WINDOWS[-1][1])
    reach = np.maximum(8, np.round(50 / np.asarray(scan.spacing))).astype(int)
    lower, upper = np.maximum(0, centre - reach), np.minimum(scan.array.shape, centre + reach + 1)
    near = scan.array[tuple(slice(l, u, max(1, (u - l) // 64)) for l, u in zip(lower, upper, strict=True))]
    low, high = np.percentile(near, (1, 99))
    return (float(low), float(high if high > low else low + 1))


def _header(canvas: Canvas, volume: Volume, mask_kji: NDArray[Any], prompts: Sequence[Prompt], title: str) -> None:
    canvas.text(title[:40], GAP + 2, 15, 14)
    millilitres = np.count_nonzero(mask_kji) * float(np.prod(volume.spacing_ijk)) / 1000
    count = sum(not isinstance(p, MaskPrompt) for p in prompts)
    note = f"{millilitres:.2f} ml   {count} prompt{'s' if count != 1 else ''}"
    canvas.text(note, canvas.pixels.shape[1] - GAP - text_width(note, 11), 17, 11, FAINT)


def _draw_panel(
    canvas: Canvas, panel: _Panel, scan: Reoriented, mask: Reoriented, prompts: Sequence[Prompt], volume: Volume
) -> None:
    low, high = panel.window
    grey = scan.sample(panel.plane, panel.index, panel.region, panel.size)
    tile = np.repeat(np.clip((grey - low) / (high - low), 0, 1)[..., None] * 255, 3, axis=2).astype(np.float32)
    inside = mask.sample(panel.plane, panel.index, panel.region, panel.size) > 0.5
    _tint(tile, inside)
    top = (panel.size - tile.shape[0]) // 2
    left = (panel.size - tile.shape[1]) // 2
    canvas.paste(tile, panel.x + left, panel.y + top)
    for prompt in sorted(prompts, key=lambda p: isinstance(p, PointPrompt)):  # clicks on top
        _draw_prompt(canvas, panel, scan, prompt, (left, top), tile.shape[:2])
    _labels(canvas, panel, scan, volume)


def _tint(tile: NDArray[np.float32], inside: NDArray[np.bool_]) -> None:
    core = inside.copy()
    for axis in (0, 1):
        for shift in (-1, 1):
            core &= np.roll(inside, shift, axis)
    for where, alpha in ((core, FILL), (inside & ~core, OUTLINE)):
        tile[where] += alpha * (np.asarray(MASK, np.float32) - tile[where])


def _draw_prompt(
    canvas: Canvas, panel: _Panel, scan: Reoriented, prompt: Prompt, offset: tuple[int, int], size: tuple[int, ...]
) -> None:
    def on_canvas(point: NDArray[np.float64]) -> tuple[float, float]:
        x, y = scan.position(panel.plane, point, panel.region, (size[1], size[0]))
        return (panel.x + offset[0] + x, panel.y + offset[1] + y)

    if isinstance(prompt, BoxPrompt):
        corners = scan.from_ijk(np.array([prompt.box.lower, np.asarray(prompt.box.upper) - 1], dtype=float))
        low, high = corners.min(axis=0), corners.max(axis=0)
        if low[panel.plane.normal] - 0.5 <= panel.index <= high[panel.plane.normal] + 0.5:
            (x0, y0), (x1, y1) = on_canvas(low), on_canvas(high)
            canvas.line([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)], 1.0, BOX)
        return
    points = prompt_points(prompt)
    if not points:
        return
    positions = scan.from_ijk(np.asarray(points, dtype=float))
    distance = np.abs(positions[:, panel.plane.normal] - panel.index).min() * scan.spacing[panel.plane.normal]
    near = distance <= max(NEAR_MM, 0.5 * scan.spacing[panel.plane.normal])
    if not near and panel.size < PANEL:
        return
    positive = bool(getattr(prompt, "positive", True))
    color = POSITIVE if positive else NEGATIVE
    path = [on_canvas(p) for p in positions]
    if len(path) > 1:
        canvas.line(path, 2.0, color, 0.9 if near else 0.3)
        return
    _draw_click(canvas, path[0], positive, color, near)


def _draw_click(canvas: Canvas, at: tuple[float, float], positive: bool, color: Color, near: bool) -> None:
    if not near:
        canvas.ring(at, 5, color, 1.5, 0.55)
        return
    canvas.disc(at, 8, (0, 0, 0), 0.55)
    canvas.disc(at, 6.5, color)
    x, y = at
    canvas.line([(x - 3, y), (x + 3, y)], 0.9, (0, 0, 0))
    if positive:
        canvas.line([(x, y - 3), (x, y + 3)], 0.9, (0, 0, 0))


def _labels(canvas: Canvas, panel: _Panel, scan: Reoriented, volume: Volume) -> None:
    small = panel.size < PANEL
    height = 7 if small else 9
    normal = panel.plane.normal
    millimetres = scan.world_of_slice(volume, normal, panel.index)
    canvas.text(f"{'RAS'[normal]} {millimetres:.0f}", panel.x + 5, panel.y + 5, height, FAINT)
    if small:
        return
    name = panel.plane.name.capitalize()
    canvas.text(name, panel.x + panel.size - text_width(name, height) - 3, panel.y + 5, height, FAINT)
    left, top = panel.plane.edges
    canvas.text(left, panel.x + 5, panel.y + panel.size / 2, height, BOX)
    canvas.text(top, panel.x + panel.size / 2, panel.y + 5, height, BOX)


def _draw_strip(
    canvas: Canvas,
    scan: Reoriented,
    mask: Reoriented,
    focus: tuple[int, int, int],
    grey: tuple[float, float],
    prompts: Sequence[Prompt],
    volume: Volume,
) -> None:
    """Axial slices evenly spaced through the structure, zoomed in on it."""
    plane = Plane.AXIAL
    box = mask_box(np.transpose(mask.array, (2, 1, 0)))  # canonical axes R, A, S as i, j, k
    low, high = (focus[2], focus[2] + 1) if box.is_empty else (box.lower[2], box.upper[2])
    count = min(STRIP, high - low)
    region = scan.around(plane, focus, box)
    for number in range(count):
        index = round(low + (high - 1 - low) * (number + 0.5) / count)
        x = GAP + number * (TILE + GAP)
        panel = _Panel(plane, index, x, HEADER + PANEL + GAP, TILE, grey, region)
        _draw_panel(canvas, panel, scan, mask, prompts, volume)
