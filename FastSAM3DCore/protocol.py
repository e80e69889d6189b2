"""The session protocol: what every front end may ask of an engine, local or remote.

One contract test runs against every implementation (`Testing/core/test_session_contract.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from .prompts import Prompt
from .types import MaskUpdate, ModelIdentity, Volume, VoxelBox

__all__ = ["SegmentationSession"]

Point = Sequence[float]


@runtime_checkable
class SegmentationSession(Protocol):
    """Interactive segmentation of one structure in one scan.

    Coordinates are continuous voxel coordinates (i, j, k) of the scan given to `set_image`. A call that
    raises leaves the session exactly as it was: same mask, same prompts, same undo depth. Every prompt is
    one undo step. Sessions are not thread-safe: call from one thread at a time.
    """

    @property
    def model(self) -> ModelIdentity:
        """Which weights answer."""
        ...

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The log of prompts in force, in the order they were given."""
        ...

    @property
    def can_undo(self) -> bool: ...

    @property
    def can_redo(self) -> bool: ...

    def set_image(self, volume: Volume) -> None:
        """Start on a scan; forgets mask, prompts and history.

        Raises:
            ImageError: NaN, infinite or constant voxels.
        """
        ...

    def mask(self, box: VoxelBox | None = None) -> NDArray[Any]:
        """The current mask, uint8 {0, 1}, indexed [k, j, i]; of `box`, or of the whole scan."""
        ...

    def probability(self, box: VoxelBox | None = None) -> NDArray[Any]:
        """The current foreground probability, float32 in [0, 1], indexed [k, j, i]."""
        ...

    def add_point(self, point_ijk: Point, positive: bool = True) -> MaskUpdate: ...

    def add_box(self, box: VoxelBox) -> MaskUpdate: ...

    def add_scribble(self, points_ijk: Iterable[Point], positive: bool = True) -> MaskUpdate: ...

    def add_lasso(self, polygon_ijk: Iterable[Point], positive: bool = True) -> MaskUpdate: ...

    def set_mask(self, mask_kji: NDArray[Any]) -> MaskUpdate:
        """Replace the mask by an existing segment or a hand edit; later prompts refine it."""
        ...

    def move_prompt(self, prompt_id: int, point_ijk: Point) -> MaskUpdate:
        """Move a point prompt and recompute everything from it on."""
        ...

    def remove_prompt(self, prompt_id: int) -> MaskUpdate:
        """Take a prompt out of the log and recompute everything that came after it."""
        ...

    def undo(self) -> MaskUpdate:
        """Take back the last change; PromptError if there is none."""
        ...

    def redo(self) -> MaskUpdate: ...

    def reset(self) -> MaskUpdate:
        """Empty mask and prompts; one undo step."""
        ...

    def set_threshold(self, probability: float) -> MaskUpdate:
        """Voxels above this probability are foreground (default 0.5); not an undo step."""
        ...

    def replay(self, prompts: Iterable[Prompt]) -> MaskUpdate:
        """Reset, then apply a log; restores the mask that the log's session had."""
        ...

    def close(self) -> None:
        """Free what the session holds."""
        ...
