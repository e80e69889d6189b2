"""One structure, one method: click, time it, score it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..io.segmentation import mask_box
from ..protocol import SegmentationSession
from ..types import MaskUpdate, Volume
from .clicks import Click, next_click
from .metrics import dice, surface_dice

__all__ = ["ClickMethod", "SessionMethod", "score_structure", "timed"]

Masks = NDArray[np.bool_]


class ClickMethod(Protocol):
    """Segments one structure of one scan from clicks."""

    def add(self, click: Click) -> Masks:
        """The whole mask, indexed [k, j, i], after one more click."""
        ...


class SessionMethod:
    """A session as a click method; the first click carries the cost of `set_image`."""

    def __init__(self, session: SegmentationSession, volume: Volume) -> None:
        self._session = session
        self._volume = volume
        self._ready = False
        self._mask = np.zeros(volume.array_kji.shape, bool)

    def add(self, click: Click) -> Masks:
        """See `ClickMethod`."""
        self._prepare()
        return self._take(self._session.add_point(click.point_ijk, click.positive))

    def add_box_of(self, truth_kji: Masks) -> Masks:
        """Prompt with the tight box of a structure."""
        self._prepare()
        return self._take(self._session.add_box(mask_box(truth_kji)))

    def _prepare(self) -> None:
        if not self._ready:
            self._session.set_image(self._volume)
            self._ready = True

    def _take(self, update: MaskUpdate) -> Masks:
        if not update.box.is_empty:
            self._mask[update.box.slices_kji] = update.mask != 0
        return self._mask


def timed(call: Callable[[], Masks], seconds: list[float]) -> Masks:
    """Run a call and append how long it took."""
    start = time.perf_counter()
    mask = call()
    seconds.append(round(time.perf_counter() - start, 4))
    return mask


def score_structure(
    method: ClickMethod, truth_kji: Masks, spacing_ijk: tuple[float, float, float], clicks: tuple[int, ...]
) -> dict[str, Any]:
    """Simulate clicks and score the mask after each of the named numbers of them.

    Args:
        method: fresh for this structure.
        truth_kji: the structure, indexed [k, j, i].
        spacing_ijk: voxel size in mm.
        clicks: at which numbers of clicks to score; a perfect mask is not clicked any further.

    Returns:
        `dice` and `nsd` by number of clicks, `seconds` and `dice_per_click` as lists.
    """
    mask: Masks = np.zeros(truth_kji.shape, bool)
    seconds: list[float] = []
    curve: list[float] = []
    nsd: dict[str, float] = {}
    for number in range(1, max(clicks) + 1):
        click = next_click(mask, truth_kji, spacing_ijk)
        if click is not None:
            mask = timed(lambda click=click: method.add(click), seconds)  # type: ignore[misc]
            curve.append(round(dice(mask, truth_kji), 4))
        else:
            curve.append(curve[-1])
        if number in clicks:
            nsd[str(number)] = round(surface_dice(mask, truth_kji, spacing_ijk), 4)
    return {
        "dice": {str(n): curve[n - 1] for n in clicks},
        "nsd": nsd,
        "seconds": seconds,
        "dice_per_click": curve,
    }
