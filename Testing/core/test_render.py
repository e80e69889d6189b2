"""Pictures of results: the right voxels in the right place, whichever way the scan is stored."""

from __future__ import annotations

import numpy as np

from FastSAM3DCore.drawing import Canvas, text_width
from FastSAM3DCore.prompts import BoxPrompt, LassoPrompt, PointPrompt, Prompt, ScribblePrompt
from FastSAM3DCore.render import BOX, GAP, HEADER, MASK, NEGATIVE, PANEL, POSITIVE, render_montage
from FastSAM3DCore.types import Volume, VoxelBox
from FastSAM3DCore.views import Plane, reorient
from Testing.core.phantoms import orientations

SHAPE_RAS = (60, 50, 40)
SPACING_RAS = (1.0, 1.2, 2.0)


def head() -> tuple[np.ndarray, np.ndarray]:
    """Grey values and mask indexed [r, a, s]: bright right half, mask in the left upper front."""
    r, a, s = np.ogrid[:60, :50, :40]
    grey = np.where(r >= 30, 900, 100) + a * 2 + s
    mask = (r - 15) ** 2 + ((a - 38) * 1.2) ** 2 + ((s - 30) * 2) ** 2 < 9**2
    return grey.astype(np.int16), mask


def stored(order: tuple[int, ...], flips: tuple[bool, ...]) -> tuple[Volume, np.ndarray, np.ndarray]:
    """The head with its array axes permuted and flipped: scan, mask [k, j, i] and its affine."""
    to_ras = np.eye(4)
    columns = np.diag([*SPACING_RAS, 1.0])[:, [*order, 3]]
    origin = np.zeros(4)
    for axis, flip in enumerate(flips):
        if flip:
            origin += columns[:, axis] * (SHAPE_RAS[order[axis]] - 1)
            columns[:, axis] *= -1
    to_ras[:, :3] = columns[:, :3]
    to_ras[:, 3] = np.add(origin, (0, 0, 0, 1))
    arrays = []
    for array in head():
        turned = np.transpose(array, order)
        for axis, flip in enumerate(flips):
            turned = np.flip(turned, axis) if flip else turned
        arrays.append(np.ascontiguousarray(turned.transpose(2, 1, 0)))
    return Volume(arrays[0], to_ras), arrays[1], to_ras


def prompts(volume: Volume) -> list[Prompt]:
    def at(r: float, a: float, s: float) -> tuple[float, float, float]:
        i, j, k = volume.ras_to_ijk(np.multiply((r, a, s), SPACING_RAS))
        return (float(i), float(j), float(k))

    corners = np.round([at(10, 30, 26), at(21, 45, 35)]).astype(int)
    box = VoxelBox(tuple(corners.min(axis=0)), tuple(corners.max(axis=0) + 1))
    return [
        PointPrompt(1, at(15, 38, 30)),
        PointPrompt(2, at(40, 20, 30), positive=False),
        ScribblePrompt(3, (at(20, 10, 30), at(28, 12, 30))),
        LassoPrompt(4, (at(40, 40, 30), at(50, 40, 30), at(50, 46, 30)), positive=False),
        BoxPrompt(5, box),
    ]


def test_all_48_ways_of_storing_a_scan_give_the_same_picture() -> None:
    reference = None
    count = 0
    for affine in orientations():
        directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        order = tuple(int(np.argmax(np.abs(directions[:, v]))) for v in range(3))
        flips = tuple(bool(directions[order[v], v] < 0) for v in range(3))
        volume, mask, _ = stored(order, flips)
        picture = render_montage(volume, mask, prompts(volume), "test")
        reference = picture if reference is None else reference
        assert np.abs(picture.astype(int) - reference).max() <= 1  # rounding at edges
        count += 1
    assert count == 48


def axial(picture: np.ndarray) -> np.ndarray:
    return picture[HEADER : HEADER + PANEL, GAP : GAP + PANEL].astype(int)


def test_the_axial_view_shows_the_patients_right_on_the_left_and_anterior_on_top() -> None:
    volume, mask, _ = stored((0, 1, 2), (False, False, False))
    view = axial(render_montage(volume, mask))
    grey = view.sum(axis=2)
    assert grey[150:250, 60:120].mean() > grey[150:250, 240:300].mean() + 200  # bright right half of the body
    blue = (np.abs(view - MASK).sum(axis=2) < 120).nonzero()
    assert blue[0].size > 50
    assert blue[0].mean() < PANEL / 2 < blue[1].mean()  # anterior and left: up and right


def close_to(view: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((np.abs(view - color).sum(axis=2) < 30).sum())


def test_prompts_are_drawn_in_their_colours_where_they_are() -> None:
    volume, mask, _ = stored((0, 1, 2), (False, False, False))
    view = axial(render_montage(volume, mask, prompts(volume)))
    bare = axial(render_montage(volume, mask, prompts(volume)[:1]))
    x = round((59.5 - 15) / 60 * PANEL)
    y = round((49.5 - 38) / 50 * PANEL)
    assert close_to(view[y - 8 : y + 9, x - 8 : x + 9], POSITIVE) > 40
    x = round((59.5 - 40) / 60 * PANEL)
    y = round((49.5 - 20) / 50 * PANEL)
    assert close_to(view[y - 8 : y + 9, x - 8 : x + 9], NEGATIVE) > 40
    assert close_to(bare, NEGATIVE) == 0
    assert close_to(view, BOX) > close_to(bare, BOX) + 100


def test_a_picture_without_mask_or_prompts_and_of_one_slice_is_still_a_picture() -> None:
    scan = Volume(np.arange(20 * 30, dtype=np.int16).reshape(1, 20, 30))
    picture = render_montage(scan, np.zeros((1, 20, 30), np.uint8))
    assert picture.dtype == np.uint8
    assert close_to(picture.astype(int), MASK) == 0


def test_ct_is_shown_in_a_window_for_what_was_clicked() -> None:
    grey = np.full((30, 40, 40), -1000, np.int16)
    grey[:, 10:30, 10:30] = 40
    grey[:, 18:22, 18:22] = 100
    view = axial(render_montage(Volume(grey), np.zeros_like(grey), [PointPrompt(1, (12, 12, 15))]))
    vessel, tissue = view[175:185, 175:185].mean(), view[130:140, 130:140].mean()
    assert 90 < tissue < vessel - 20 < 255


def test_a_canonical_view_is_no_copy() -> None:
    volume, _, _ = stored((2, 0, 1), (True, False, True))
    view = reorient(volume, volume.array_kji)
    assert np.shares_memory(view.array, volume.array_kji)
    assert np.array_equal(view.array, head()[0])
    assert view.spacing == SPACING_RAS
    assert view.world_of_slice(volume, Plane.AXIAL.normal, 7) == 14


def test_letters_can_be_told_apart_and_stay_in_their_place() -> None:
    shapes = set()
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-+.,:/()%":
        canvas = Canvas(30, 24)
        canvas.text(letter, 4, 4, 14)
        picture = canvas.rgb()
        assert picture.max() > 200
        assert picture[:, int(5 + text_width("A", 14)) :].max() == 0
        shapes.add(picture.tobytes())
    assert len(shapes) == 45
