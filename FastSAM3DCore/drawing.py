"""Smooth discs, lines and letters on an RGB array, so that pictures of results need no plotting library."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["Canvas", "Color", "Point2", "text_width"]

Color = tuple[int, int, int]
Point2 = tuple[float, float]
"""(x, y) in pixels, x to the right, y down."""

# A stroke font on a grid of 4 x 6: each glyph is polylines of "xy" points, strokes parted by "|".
GLYPHS = {
    "A": "06 02 20 42 46|04 44", "B": "00 06 36 45 44 33 03|33 42 41 30 00", "C": "41 30 10 01 05 16 36 45",
    "D": "00 06 26 44 42 20 00", "E": "40 00 06 46|03 33", "F": "40 00 06|03 33", "G": "41 30 10 01 05 16 36 45 43 23",
    "H": "00 06|40 46|03 43", "I": "10 30|20 26|16 36", "J": "40 45 36 16 05", "K": "00 06|40 03 46", "L": "00 06 46",
    "M": "06 00 23 40 46", "N": "06 00 46 40", "O": "10 30 41 45 36 16 05 01 10", "P": "06 00 30 41 42 33 03",
    "Q": "10 30 41 45 36 16 05 01 10|24 46", "R": "06 00 30 41 42 33 03|23 46",
    "S": "41 30 10 01 02 13 33 44 45 36 16 05",
    "T": "00 40|20 26", "U": "00 05 16 36 45 40", "V": "00 26 40", "W": "00 16 23 36 40", "X": "00 46|40 06",
    "Y": "00 23 40|23 26", "Z": "00 40 06 46", "0": "10 30 41 45 36 16 05 01 10|14 32", "1": "01 20 26|06 46",
    "2": "01 10 30 41 42 06 46", "3": "00 40 23 33 44 45 36 16 05", "4": "36 30 04 44", "5": "40 00 02 32 43 45 36 06",
    "6": "40 20 02 05 16 36 45 44 33 03", "7": "00 40 16", "8": "13 33 42 41 30 10 01 02 13 04 05 16 36 45 44 33",
    "9": "06 26 44 41 30 10 01 02 13 43", "-": "03 43", "+": "03 43|21 25", ".": "25 26", ",": "25 16",
    ":": "22 23|25 26",
    "/": "06 40", "(": "30 12 14 36", ")": "10 32 34 16", "%": "06 40|00 10|36 46", "=": "02 42|04 44", "_": "06 46",
    "<": "40 03 46", ">": "00 43 06", "'": "20 21", '"': "10 11|30 31", "#": "10 16|30 36|02 42|04 44",
    "?": "01 10 30 41 23 24|26 26",
    "!": "20 24|26 26", "*": "21 25|02 44|42 04", "&": "46 02 10 21 04 15 26 43",
}  # fmt: skip
ADVANCE = 6.0  # grid units from one letter to the next


def text_width(text: str, height: float) -> float:
    """Pixels that a line of text takes; `height` is that of a capital letter."""
    return len(text) * ADVANCE * height / 6


class Canvas:
    """An RGB picture to draw on.

    Args:
        width, height: in pixels.
        background: initial colour.
    """

    def __init__(self, width: int, height: int, background: Color = (0, 0, 0)) -> None:
        self.pixels: NDArray[np.float32] = np.empty((height, width, 3), np.float32)
        self.pixels[:] = background

    def rgb(self) -> NDArray[np.uint8]:
        """(height, width, 3) uint8."""
        return np.clip(np.rint(self.pixels), 0, 255).astype(np.uint8)

    def paste(self, tile: NDArray[np.float32], x: int, y: int) -> None:
        """Put an RGB tile with its upper left corner at (x, y)."""
        height, width = tile.shape[:2]
        self.pixels[y : y + height, x : x + width] = tile

    def disc(self, centre: Point2, radius: float, color: Color, alpha: float = 1.0) -> None:
        """A filled disc with a soft rim."""
        self.line([centre], radius, color, alpha)

    def ring(self, centre: Point2, radius: float, color: Color, width: float = 2.0, alpha: float = 1.0) -> None:
        """A circle."""
        window, x, y = self._window([centre], radius + width)
        distance = np.abs(np.hypot(x - centre[0], y - centre[1]) - radius)
        self._blend(window, distance, width / 2, color, alpha)

    def line(self, points: list[Point2], radius: float, color: Color, alpha: float = 1.0) -> None:
        """A polyline with round ends; `radius` is half its width."""
        window, x, y = self._window(points, radius)
        distance = np.hypot(x - points[0][0], y - points[0][1])
        for (x0, y0), (x1, y1) in pairwise(points):
            dx, dy = x1 - x0, y1 - y0
            along = ((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-9)
            along = np.clip(along, 0, 1)
            distance = np.minimum(distance, np.hypot(x - x0 - along * dx, y - y0 - along * dy))
        self._blend(window, distance, radius, color, alpha)

    def text(self, text: str, x: float, y: float, height: float, color: Color = (235, 235, 235)) -> None:
        """A line of capitals with its upper left corner at (x, y), dark around it so that it reads on any grey.

        Unknown characters become gaps.
        """
        scale, radius = height / 6, max(0.7, height / 14)
        strokes = []
        for number, letter in enumerate(text.upper()):
            left = x + number * ADVANCE * scale
            for stroke in filter(None, GLYPHS.get(letter, "").split("|")):
                strokes.append([(left + int(p[0]) * scale, y + int(p[1]) * scale) for p in stroke.split()])
        for points in strokes:
            self.line(points, radius + 1.3, (0, 0, 0), 0.5)
        for points in strokes:
            self.line(points, radius, color)

    def _window(
        self, points: list[Point2], reach: float
    ) -> tuple[tuple[slice, slice], NDArray[np.float64], NDArray[np.float64]]:
        """The pixels near some points, and their coordinates."""
        height, width = self.pixels.shape[:2]
        xs, ys = zip(*points, strict=True)
        left, right = (int(v) for v in np.clip((min(xs) - reach - 1, max(xs) + reach + 2), 0, width))
        top, bottom = (int(v) for v in np.clip((min(ys) - reach - 1, max(ys) + reach + 2), 0, height))
        y, x = np.mgrid[top:bottom, left:right].astype(np.float64)
        return (slice(top, bottom), slice(left, right)), x, y

    def _blend(
        self, window: tuple[slice, slice], distance: NDArray[np.float64], radius: float, color: Color, alpha: float
    ) -> None:
        cover = (np.clip(radius + 0.5 - distance, 0, 1) * alpha)[..., None]
        region = self.pixels[window]
        region += cover * (np.asarray(color, np.float32) - region)
