"""From prompts to a proposed change: choose a crop, ask the network, decide which of its voxels to accept.

Everything here happens on the crop's grid and changes nothing; `session.local` writes accepted proposals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..engine import Engine
from ..framing import frame_around
from ..geometry import CropFrame, resample_axes, sample_crop
from ..prompts import BoxPrompt, LassoPrompt, PointPrompt, Prompt, ScribblePrompt
from .acceptance import Focus, Proposal, dilate, near_focus
from .grid import BACKGROUND, LogitGrid, decoded
from .looks import most_convincing
from .nearness import WEIGHT, nearness
from .seen import active_prompts, box_edges, crop_prompts, lasso_points

__all__ = ["Proposer", "middle_of"]

# How large is what was clicked? A first click is looked at in crops of these sides, in mm, and the most convincing
# answer is taken. The widest finds a lung whole (Dice .80 instead of .42). The finest finds small nuclei: mean Dice at
# the first click .22 instead of .16 on eight of them, .532 instead of .524 on 49 structures of 28 scans.
FIRST_SIDES_MM = (36.0, 60.0, 106.0, 188.0, 330.0)
# A scan smaller than that was cut out around something, which fills less of it than the network takes for granted:
# mean Dice after 1 / 3 / 5 clicks on 22 parts of hippocampi .57 / .67 / .73, in the whole scan .49 / .62 / .71.
SMALL_SCAN_MM = 60.0
SMALL_SCAN_SHARE = 0.66
# It is the only look at a click there, so a closer one is averaged with it, which costs less than the five looks at a
# first click elsewhere: mean Dice after 1 / 3 / 5 / 10 clicks on 106 parts of hippocampi .584 / .721 / .777 / .829,
# without .580 / .709 / .769 / .825. In all other scans a closer look lost .01 from the third click on (49 structures).
CLOSER = 0.8
# Nor do other looks say there how large the structure is, so nearness to the clicks counts for more than its usual 4.
# Mean Dice after 1 / 2 / 3 clicks on 54 parts of hippocampi with 4, 8, 12: .606 / .704 / .752, .614 / .711 / .756,
# .618 / .711 / .752; with the weights before, 4 and 8: .588 / .692 / .740 and .599 / .699 / .748. Where the first click
# is anywhere inside, 4 and 8 are within .006. In other scans 8 lost .008 at the third click (49 structures).
SMALL_SCAN_NEARNESS = 8.0
ZOOM_OUT = 1.6
MAX_ZOOMS = 3
# When the mask, with this much room around it, fills less than ZOOM_IN of the crop, the next prompt is looked at in a
# crop of that size. Mean Dice after six clicks on 18 structures: .718 without, .729 (2.0, 0.7), .736 as it is.
ROOM = 1.6
ZOOM_IN = 0.85
# A prompt this close to a crop's faces (fraction of the crop) is looked at in another crop.
MARGIN = 0.1
# Near crop faces that are not the scan's own, answers fade into what was there before, over this many crop voxels.
FADE_VOXELS = 4


class Proposer:
    """Finds the right crop for a prompt and proposes what changes in it."""

    def __init__(self, engine: Engine, grid: LogitGrid) -> None:
        self._engine = engine
        self._grid = grid

    def focus(self, prompt: Prompt) -> Focus:
        """What a prompt is about."""
        axes = self._engine.axes
        match prompt:
            case PointPrompt():
                point = axes.from_ijk(prompt.point_ijk)
                return Focus(point, None, point[None], prompt.positive)
            case ScribblePrompt():
                points = axes.from_ijk(np.array(prompt.points_ijk))
                return Focus(middle_of(points), self.side(points), points, prompt.positive)
            case LassoPrompt():
                outline = axes.from_ijk(np.array(prompt.polygon_ijk))
                inside = axes.from_ijk(lasso_points(self._engine, prompt)[:1])
                return Focus(middle_of(outline), self.side(outline), inside, prompt.positive)
            case BoxPrompt():
                corners = box_edges(axes, prompt) + np.array([[0.5], [-0.5]])
                return Focus(corners.mean(axis=0), self.side(corners), corners.mean(axis=0)[None], True)
        raise TypeError(f"{type(prompt).__name__} has no place to look at")

    def side(self, points: NDArray[np.float64]) -> float:
        """A crop side in mm that holds canonical points with room around them."""
        extent = (np.ptp(points, axis=0) + 1) * self._engine.axes.spacing
        return float(extent.max()) * 1.4

    def propose(self, prompts: Sequence[Prompt], focus: Focus, current: CropFrame | None, fresh: bool) -> Proposal:
        """Answer the newest of `prompts`.

        Args:
            prompts: the log with the new prompt last.
            focus: what the new prompt is about.
            current: the crop of the last answer; used again if the prompt lies well inside it.
            fresh: nothing has been segmented yet, so the structure's size is free to set the zoom.
        """
        answers = [self.answer(prompts, frame) for frame in self.frames(focus, current, fresh)]
        return self.with_nearness(prompts, self.whole(prompts, most_convincing(self._engine, answers, focus), focus))

    def with_nearness(self, prompts: Sequence[Prompt], proposal: Proposal) -> Proposal:
        """The proposal with what its distance from the clicks says, unless a hand edit says more than that.

        Looks are chosen without it: with it, eight nuclei scored .184 instead of .224 at the first click.
        """
        if len(active_prompts(prompts)) == len(prompts):
            seen = crop_prompts(self._engine, prompts, proposal.frame)
            image, inside = self._engine.image(proposal.frame), seen.points[seen.labels == 1]
            weight = SMALL_SCAN_NEARNESS if self._small_scan() else WEIGHT
            proposal.logits = proposal.logits + nearness(image, inside, proposal.logits, len(prompts), weight)
        return proposal

    def whole(self, prompts: Sequence[Prompt], proposal: Proposal, focus: Focus, *, afresh: bool = False) -> Proposal:
        """The proposal, or if its crop cuts the change off, that of a wider one, averaged with it where both look.

        The closer look knows the edges, the wider one what goes on beyond: taken alone, it let a click in one lateral
        ventricle run through the septum into the other.
        """
        for _ in range(MAX_ZOOMS):
            frame = self._wider_frame(proposal, focus)
            if frame is None or frame == proposal.frame:
                break
            wider = self.answer(prompts, frame, afresh=afresh)
            wider.logits = self._averaged(frame, wider.logits, proposal.frame, proposal.logits)
            proposal = wider
        return proposal

    def frames(self, focus: Focus, current: CropFrame | None, fresh: bool) -> list[CropFrame]:
        """The crops that a prompt is looked at in; arguments as for `propose`."""
        if current is not None and self._fits(focus, current):
            return [self._tighter_frame(current, focus) or current]
        if focus.side_mm is None and (fresh or current is None):
            return list(dict.fromkeys(self.frame_at(focus.centre, side) for side in self._first_sides()))
        side = focus.side_mm or self._extent_mm(current)  # type: ignore[arg-type]
        return [self.frame_at(focus.centre, side)]

    def crops(self, focus: Focus, current: CropFrame | None, fresh: bool) -> list[CropFrame]:
        """All crops that a prompt has the network look at, but for corrections of their size; as for `frames`."""
        frames = self.frames(focus, current, fresh)
        return frames + [closer for frame in frames if (closer := self._closer(frame)) is not None]

    def mask_corners(self) -> NDArray[np.float64] | None:
        """(2, 3) first and last canonical voxel of the mask along each axis; None if it is empty."""
        found = self._grid.foreground_box()
        if found.is_empty:
            return None
        box = self._engine.axes.box_from_ijk(found)
        return np.array([box.lower, np.array(box.upper) - 1], dtype=np.float64)

    def _first_sides(self) -> tuple[float, ...]:
        return (self._scan_mm() * SMALL_SCAN_SHARE,) if self._small_scan() else FIRST_SIDES_MM

    def _small_scan(self) -> bool:
        return self._scan_mm() < SMALL_SCAN_MM

    def _scan_mm(self) -> float:
        """The longest side of the scan."""
        axes = self._engine.axes
        return float((np.asarray(axes.shape) * axes.spacing).max())

    def frame_at(self, centre: NDArray[np.float64], side_mm: float) -> CropFrame:
        axes, traits = self._engine.axes, self._engine.traits
        # Finer than half a voxel shows nothing new; wider than the scan wastes the crop.
        side_mm = min(max(side_mm, traits.crop_size * min(axes.spacing) / 2), self._scan_mm())
        return frame_around(axes, traits, centre, side_mm)

    def _extent_mm(self, frame: CropFrame) -> float:
        """The longest side of a crop."""
        return float((np.asarray(frame.size) * frame.step * self._engine.axes.spacing).max())

    def _fits(self, focus: Focus, frame: CropFrame) -> bool:
        points = np.vstack([focus.anchors, focus.centre[None]])
        crop, size, edge = frame.from_canonical(points), np.asarray(frame.size), self._open_faces(frame)
        margin = MARGIN * size
        low_ok = (crop >= np.where(edge[:, 0], margin, -0.5)).all()
        high_ok = (crop <= np.where(edge[:, 1], size - 1 - margin, size - 0.5)).all()
        wide_enough = focus.side_mm is None or focus.side_mm <= self._extent_mm(frame) * 1.05
        return bool(low_ok and high_ok and wide_enough)

    def _open_faces(self, frame: CropFrame) -> NDArray[np.bool_]:
        """(3, 2) whether the scan goes on beyond the crop's low and high face along each axis."""
        low = frame.to_canonical(np.full(3, -0.5))
        high = frame.to_canonical(np.asarray(frame.size) - 0.5)
        return np.stack([low > 0.5, high < np.asarray(self._engine.axes.shape) - 1.5], axis=1)

    def _wider_frame(self, proposal: Proposal, focus: Focus) -> CropFrame | None:
        """A wider crop if this one cuts the change off."""
        frame = proposal.frame
        stride = self._engine.traits.mask_stride
        changes = near_focus(proposal.changes, frame, focus, stride)
        if not changes.any():
            return None
        where = changes.nonzero()
        low, high = where.amin(0).numpy() * stride, (where.amax(0).numpy() + 1) * stride
        open_faces = self._open_faces(frame)
        cut = (open_faces[:, 0] & (low <= stride)) | (open_faces[:, 1] & (high >= np.asarray(frame.size) - stride))
        if not cut.any():
            return None
        middle = frame.to_canonical((low + high) / 2 - 0.5)
        return self.frame_at((middle + focus.centre) / 2, self._extent_mm(frame) * ZOOM_OUT)

    def _tighter_frame(self, current: CropFrame, focus: Focus) -> CropFrame | None:
        """A tighter crop if the mask has turned out to be small in this one."""
        mask = self.mask_corners()
        if mask is None or focus.side_mm is not None:
            return None
        corners = np.vstack([mask, focus.anchors])
        side = float(((np.ptp(corners, axis=0) + 1) * self._engine.axes.spacing).max()) * ROOM
        if side > ZOOM_IN * self._extent_mm(current):
            return None
        frame = self.frame_at(middle_of(corners), side)
        return frame if frame.voxel_mm < current.voxel_mm else None

    def largest(self, click: Prompt, frame: CropFrame) -> Proposal:
        """The largest structure in a crop that a click by itself may mean."""
        previous = self._nothing(frame)
        logits, quality = self._engine.decode(frame, crop_prompts(self._engine, [click], frame), None, largest=True)
        return Proposal(frame, logits, previous, self._fade(frame, logits.shape), quality, self._grid.level_logit)

    def answer(self, prompts: Sequence[Prompt], frame: CropFrame, *, afresh: bool = False) -> Proposal:
        """The network's answer to all prompts in a crop, before anything is rejected; `afresh` as if without a mask."""
        logits, previous, quality = self._ask(prompts, frame, afresh)
        closer = self._closer(frame)
        if closer is not None:
            logits = self._averaged(frame, logits, closer, self._ask(prompts, closer, afresh)[0])
        accept = self._fade(frame, logits.shape)
        return Proposal(frame, logits, previous, accept, quality, self._grid.level_logit)

    def _ask(self, prompts: Sequence[Prompt], frame: CropFrame, afresh: bool) -> tuple[Tensor, Tensor, float]:
        """The network's logits in a crop, the logits so far, and the predicted IoU."""
        previous = self._nothing(frame) if afresh else self.previous(frame)
        seen = crop_prompts(self._engine, prompts, frame)
        blank = not bool((previous > self._grid.level_logit).any())
        logits, quality = self._engine.decode(frame, seen, None if blank else previous)
        return logits, previous, quality

    def _closer(self, frame: CropFrame) -> CropFrame | None:
        """The second crop that a small scan is looked at in; None in other scans and for networks of one zoom."""
        axes, traits = self._engine.axes, self._engine.traits
        if traits.fixed_crop or not self._small_scan():
            return None
        return frame_around(
            axes, traits, frame.to_canonical((np.asarray(frame.size) - 1) / 2), CLOSER * self._extent_mm(frame)
        )

    def _averaged(self, frame: CropFrame, logits: Tensor, closer: CropFrame, also: Tensor) -> Tensor:
        """Logits of a crop, averaged with those of another one as far as that reaches."""
        coarse, fine = (f.coarsened(self._engine.traits.mask_stride) for f in (frame, closer))
        places = [(coarse.positions(axis) - fine.origin[axis]) / fine.step[axis] for axis in range(3)]
        weight = resample_axes(self._fade(closer, also.shape).numpy(), places)
        for axis, (place, size) in enumerate(zip(places, fine.size, strict=True)):
            seen = torch.from_numpy((place > -0.5) & (place < size - 0.5))
            weight *= seen.reshape([-1 if a == axis else 1 for a in range(3)])
        return (logits + weight * resample_axes(also.numpy(), places)) / (1 + weight)

    def refine(self, prompts: Sequence[Prompt], frame: CropFrame, coarse_mm: float) -> Proposal | None:
        """A finer answer to the border of the mask so far, accepted only near that border.

        Args:
            coarse_mm: voxel size the mask so far was made at; its border is right to about twice that.

        Returns:
            None if the crop holds no border.
        """
        inside = self.previous(frame) > self._grid.level_logit
        if bool(inside.all()) or not bool(inside.any()):
            return None
        reach = math.ceil(2 * coarse_mm / (frame.voxel_mm * self._engine.traits.mask_stride))
        proposal = self.answer(prompts, frame)
        band = dilate(inside, reach) * dilate(~inside, reach)
        proposal.accept *= band
        return proposal

    def previous(self, frame: CropFrame) -> Tensor:
        """The logits so far on a crop's mask grid."""
        coarse = frame.coarsened(self._engine.traits.mask_stride)
        # Far below the scan's resolution the nearest voxel tells as much, and costs an eighth of the reads.
        method: Literal["nearest", "linear"] = "nearest" if max(coarse.step) >= 2 else "linear"
        return decoded(sample_crop(self._grid.values, self._engine.axes, coarse, method))

    def _nothing(self, frame: CropFrame) -> Tensor:
        """The logits of an empty mask on a crop's mask grid."""
        return decoded(torch.full(frame.coarsened(self._engine.traits.mask_stride).size, float(BACKGROUND)))

    def _fade(self, frame: CropFrame, shape: Sequence[int]) -> Tensor:
        """Acceptance that falls to zero at faces where the scan goes on, (d, h, w)."""
        fade = torch.ones(tuple(shape))
        stride = self._engine.traits.mask_stride
        width = max(1, FADE_VOXELS // stride)
        ramp = (torch.arange(width) + 0.5) / width
        for axis, (low, high) in enumerate(self._open_faces(frame)):
            weights = torch.ones(shape[axis])
            if low:
                weights[:width] *= ramp
            if high:
                weights[-width:] *= ramp.flip(0)
            fade *= weights.reshape([-1 if a == axis else 1 for a in range(3)])
        return fade


def middle_of(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((points.min(axis=0) + points.max(axis=0)) / 2)
