"""The session that runs in this process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calibration import STEPS_PER_LOGIT
from ..doubt import slice_doubt
from ..engine import Engine
from ..errors import ImageError, PromptError
from ..geometry import CropFrame
from ..prompts import (
    BoxPrompt,
    LassoPrompt,
    MaskPrompt,
    PointPrompt,
    Prompt,
    ScribblePrompt,
    as_ijk,
    as_ijk_list,
)
from ..types import MaskUpdate, ModelIdentity, Volume, VoxelBox
from ..voxels import check_voxels
from .acceptance import Proposal, restrict
from .checks import check_prompt, inside_box, inside_lasso, inside_scan, inside_stroke
from .grid import UNDECIDED, Delta, LogitGrid
from .history import History, Step
from .painting import Painter
from .proposals import Proposer
from .refine import refinement_frames
from .resizing import Resizer

__all__ = ["LocalSession"]


class LocalSession:
    """Interactive segmentation of one structure; see `FastSAM3DCore.protocol.SegmentationSession`.

    Args:
        engine: runs the network.
        with_probability: fill `probability` and `uncertainty` of every MaskUpdate; its box then covers all
            changed probabilities, not only the changed mask.
        model: which weights the engine runs.
    """

    def __init__(self, engine: Engine, *, with_probability: bool = False, model: ModelIdentity | None = None) -> None:
        self.engine = engine
        self.model = model or ModelIdentity()
        self.with_probability = with_probability
        self._grid: LogitGrid | None = None
        self._start()

    def _start(self) -> None:
        self._prompts: tuple[Prompt, ...] = ()
        self._history = History()
        self._frame: CropFrame | None = None
        self._next_id = 1

    # ---- the scan -------------------------------------------------------------------------------------

    def set_image(self, volume: Volume) -> None:
        """Start on a scan; forgets mask, prompts and history."""
        check_voxels(volume.array_kji)
        self.engine.set_volume(volume)
        i, j, k = volume.shape_ijk
        self._grid = LogitGrid((k, j, i))
        self._proposer = Proposer(self.engine, self._grid)
        self._resizer = Resizer(self.engine, self._grid, self._proposer)
        self._painter = Painter(self.engine, self._grid)
        self._start()

    @property
    def grid(self) -> LogitGrid:
        if self._grid is None:
            raise ImageError("No scan is loaded; call set_image first.")
        return self._grid

    def close(self) -> None:
        """Free the scan, the mask and cached embeddings."""
        self.engine.close()
        self._grid = None
        self._start()

    def cancel(self) -> None:
        """Stop the prompt running in another thread; it raises CancelledError and changes nothing."""
        self.engine.cancel()

    def prefetch(self, point_ijk: Sequence[float]) -> None:
        """Embed the crops that a click at this voxel would need, so that the click itself is quick."""
        point = as_ijk(point_ijk)
        if self.grid.box.contains(point):
            self.engine.begin()
            fresh = self.grid.foreground_box().is_empty
            focus = self._proposer.focus(PointPrompt(self._next_id, point, True))
            for frame in self._proposer.crops(focus, self._frame, fresh):
                self.engine.embed(frame)

    # ---- what is there --------------------------------------------------------------------------------

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The log of prompts in force."""
        return self._prompts

    @property
    def can_undo(self) -> bool:
        return self._history.undo_depth > 0

    @property
    def can_redo(self) -> bool:
        return self._history.redo_depth > 0

    def mask(self, box: VoxelBox | None = None) -> NDArray[np.uint8]:
        """The current mask of `box` or of the whole scan, uint8 {0, 1}, indexed [k, j, i]."""
        return self.grid.mask(self._clip(box))

    def probability(self, box: VoxelBox | None = None) -> NDArray[np.float32]:
        """The foreground probability, float32 in [0, 1], indexed [k, j, i]."""
        return self.engine.traits.calibration.probability(self.grid.logits(self._clip(box)))

    def uncertainty(self, box: VoxelBox | None = None) -> NDArray[np.float32]:
        """Entropy of the foreground probability in bits, float32 in [0, 1], indexed [k, j, i]."""
        return _entropy(self.probability(box))

    def most_uncertain_slice(self, axis: int) -> int | None:
        """The slice across a voxel axis (0 = i, 1 = j, 2 = k) whose summed uncertainty is largest."""
        box = self.grid.touched
        if box.is_empty:
            return None
        return box.lower[axis] + int(slice_doubt(self.uncertainty(box), self.mask(box) != 0, axis).argmax())

    def _clip(self, box: VoxelBox | None) -> VoxelBox:
        return self.grid.box if box is None else box.intersect(self.grid.box)

    # ---- prompts --------------------------------------------------------------------------------------

    def add_point(self, point_ijk: Sequence[float], positive: bool = True) -> MaskUpdate:
        """A click."""
        return self._add(PointPrompt(self._next_id, inside_scan(as_ijk(point_ijk), self.grid.box), bool(positive)))

    def add_box(self, box: VoxelBox) -> MaskUpdate:
        """A 3D box around the structure, or a one-voxel-thick one around its outline in a slice."""
        return self._add(BoxPrompt(self._next_id, inside_box(box, self.grid.box)))

    def add_scribble(self, points_ijk: Iterable[Sequence[float]], positive: bool = True) -> MaskUpdate:
        """A stroke along a polyline."""
        points = inside_stroke(as_ijk_list(points_ijk), self.grid.box)
        return self._add(ScribblePrompt(self._next_id, points, bool(positive)))

    def add_lasso(self, polygon_ijk: Iterable[Sequence[float]], positive: bool = True) -> MaskUpdate:
        """A closed contour in one slice plane."""
        polygon = inside_lasso(as_ijk_list(polygon_ijk), self.grid.box)
        return self._add(LassoPrompt(self._next_id, polygon, bool(positive)))

    def set_mask(self, mask_kji: NDArray[Any]) -> MaskUpdate:
        """Replace the mask; voxels that agree with it keep their probability."""
        mask = np.asarray(mask_kji)
        if mask.shape != self.grid.values.shape:
            raise PromptError(
                f"The mask has shape {mask.shape} but the scan has {self.grid.values.shape} (k, j, i); "
                "resample it to the scan first."
            )
        return self._add(MaskPrompt.from_mask(self._next_id, mask))

    def move_prompt(self, prompt_id: int, point_ijk: Sequence[float]) -> MaskUpdate:
        """Move a point prompt and recompute everything from it on; one undo step."""
        index, prompt = self._find(prompt_id)
        if not isinstance(prompt, PointPrompt):
            raise PromptError(f"Prompt {prompt_id} is a {prompt.kind}; only points can be moved.")
        moved = replace(prompt, point_ijk=inside_scan(as_ijk(point_ijk), self.grid.box))
        return self._rerun(index, (moved, *self._prompts[index + 1 :]), prompt_id)

    def remove_prompt(self, prompt_id: int) -> MaskUpdate:
        """Take a prompt out and recompute everything after it; one undo step."""
        index, _ = self._find(prompt_id)
        return self._rerun(index, self._prompts[index + 1 :], prompt_id)

    def _find(self, prompt_id: int) -> tuple[int, Prompt]:
        for index, prompt in enumerate(self._prompts):
            if prompt.id == prompt_id:
                return index, prompt
        raise PromptError(f"There is no prompt {prompt_id}; it may have been undone.")

    def reset(self) -> MaskUpdate:
        """Empty mask and prompts; one undo step."""
        return self._change(lambda deltas: self._blank(deltas), ())

    def replay(self, prompts: Iterable[Prompt]) -> MaskUpdate:
        """Reset, then apply a log; one undo step."""
        log = tuple(prompts)
        for prompt in log:
            check_prompt(prompt, self.grid.box)

        def run(deltas: list[Delta]) -> None:
            self._blank(deltas)
            self._apply_all(log, deltas)

        update = self._change(run, log)
        self._next_id = max([self._next_id, *(p.id + 1 for p in log)])
        return update

    # ---- history --------------------------------------------------------------------------------------

    def undo(self) -> MaskUpdate:
        """Take back the last change."""
        if not self.can_undo:
            raise PromptError("There is nothing to undo.")
        return self._travel(self._history.undo)

    def redo(self) -> MaskUpdate:
        """Apply the last undone change again."""
        if not self.can_redo:
            raise PromptError("There is nothing to redo.")
        return self._travel(self._history.redo)

    def _travel(self, move: Any) -> MaskUpdate:
        start = perf_counter()
        step = move(self.grid, Step(self._prompts, self._frame))
        self._prompts, self._frame = step.prompts, step.frame
        return self._update(step.deltas, None, start, {})

    def set_threshold(self, probability: float) -> MaskUpdate:
        """Voxels above this probability are foreground; not an undo step."""
        if not 0.0 < probability < 1.0:
            raise PromptError(f"The threshold must lie between 0 and 1, got {probability}.")
        start = perf_counter()
        level = round(float(self.engine.traits.calibration.logit(probability)) * STEPS_PER_LOGIT)
        box = self.grid.set_level(UNDECIDED + max(1 - UNDECIDED, min(UNDECIDED - 1, level)))
        return MaskUpdate(box, self.grid.mask(box), seconds={"total": perf_counter() - start})

    # ---- how a change is made -------------------------------------------------------------------------

    def _add(self, prompt: Prompt) -> MaskUpdate:
        log = (*self._prompts, prompt)
        update = self._change(lambda deltas: self._apply(log, deltas), log, prompt.id)
        self._next_id = prompt.id + 1
        return update

    def _change(self, run: Any, prompts: tuple[Prompt, ...], prompt_id: int | None = None) -> MaskUpdate:
        """Run something that writes voxels, as one undo step; if it raises, nothing has changed."""
        start = perf_counter()
        grid, step = self.grid, Step(self._prompts, self._frame)
        self.engine.begin()
        try:
            run(step.deltas)
            self.engine.check_cancelled()
        except BaseException:
            step.revert(grid)
            self._frame = step.frame
            raise
        self._history.push(step)
        self._prompts = prompts
        return self._update(step.deltas, prompt_id, start, self.engine.seconds)

    def _update(
        self, deltas: list[Delta], prompt_id: int | None, start: float, seconds: dict[str, float]
    ) -> MaskUpdate:
        box = self.grid.changed_box(deltas, logits=self.with_probability)
        probability = self.probability(box) if self.with_probability else None
        uncertainty = None if probability is None else _entropy(probability)
        seconds = {**seconds, "total": perf_counter() - start}
        return MaskUpdate(box, self.grid.mask(box), probability, uncertainty, prompt_id, seconds)

    def _rerun(self, index: int, rest: tuple[Prompt, ...], prompt_id: int) -> MaskUpdate:
        """Recompute from prompt `index` on with other prompts, as one undo step."""
        kept = self._prompts[:index]

        def run(deltas: list[Delta]) -> None:
            self._rewind(kept, deltas)
            self._apply_all((*kept, *rest), deltas, done=len(kept))

        return self._change(run, (*kept, *rest), prompt_id)

    def _rewind(self, kept: tuple[Prompt, ...], deltas: list[Delta]) -> None:
        """Bring mask and frame back to where only the prompts `kept` had been given.

        The history usually holds that very state; otherwise it is recomputed from an empty mask.
        """
        steps = self._history.back_to(kept)
        if steps is None:
            self._blank(deltas)
            self._apply_all(kept, deltas)
            return
        for step in steps:
            deltas.extend(step.revert(self.grid))
            self._frame = step.frame

    def _apply_all(self, log: tuple[Prompt, ...], deltas: list[Delta], done: int = 0) -> None:
        for count in range(done + 1, len(log) + 1):
            self._apply(log[:count], deltas)

    def _blank(self, deltas: list[Delta]) -> None:
        self._painter.blank(deltas)
        self._frame = None

    def _apply(self, log: tuple[Prompt, ...], deltas: list[Delta]) -> None:
        """Carry out the last prompt of a log."""
        prompt = log[-1]
        if isinstance(prompt, MaskPrompt):
            self._painter.seed(prompt.mask_kji() != 0, deltas)
            self._frame = None
            return
        limit = self._limit(prompt)
        anew = self._resizer.anew(log, self._frame)
        if anew is not None:
            self._blank(deltas)
        focus = self._proposer.focus(prompt if anew is None else log[0])
        fresh = self.grid.foreground_box().is_empty
        if not (fresh and not focus.positive):
            careful = not fresh and not isinstance(prompt, BoxPrompt)
            proposal = anew or self._proposer.propose(log, focus, self._frame, fresh)
            restrict(proposal, focus, self.engine.traits.mask_stride, careful=careful)
            self._painter.paste(proposal, limit, deltas)
            self._frame = proposal.frame
            if fresh or isinstance(prompt, BoxPrompt):
                self._refine(log, proposal, limit, deltas)
        for given in (prompt,) if anew is None else log:
            self._painter.honour(given, deltas)

    def _limit(self, prompt: Prompt) -> VoxelBox:
        """The voxels a prompt may change: those of its 3D box, or all."""
        if isinstance(prompt, BoxPrompt) and not prompt.thin_axes:
            return prompt.box
        return self.grid.box

    def _refine(self, log: tuple[Prompt, ...], coarse: Proposal, limit: VoxelBox, deltas: list[Delta]) -> None:
        """Follow a large structure's border with overlapping crops at a finer zoom."""
        frames = refinement_frames(self.engine, self.grid, coarse.frame)
        for frame in frames:
            self.engine.check_cancelled()
            tile = self._proposer.refine(log, frame, coarse.frame.voxel_mm)
            if tile is not None:
                self._painter.paste(tile, limit, deltas)
        if frames:
            # Coarse answers must not blur the refined border: the next prompt looks at a fine crop of its own.
            self._frame = None


def _entropy(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Binary entropy in bits."""
    p = np.clip(probability, 1e-6, 1 - 1e-6)
    return np.asarray(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)), dtype=np.float32)
