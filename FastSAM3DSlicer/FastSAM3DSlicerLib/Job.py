"""One prompt in three parts: prepared from the scene, answered by the engine, applied to the scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from FastSAM3DCore.errors import FastSAM3DError
from FastSAM3DCore.types import MaskUpdate


@dataclass(eq=False)
class Job:
    """What is left to do after a prompt was read from the scene.

    Attributes:
        title: what the user did, one or two words.
        call: the engine's part; any thread, never touches the scene.
        apply: takes what `call` returned; main thread.
        drop: instead of `apply`, when the answer is not wanted any more, or after `apply` refused it; main thread.
    """

    title: str
    call: Callable[[], Any]
    apply: Callable[[Any], MaskUpdate]
    drop: Callable[[], None]

    def run(self) -> MaskUpdate:
        """Everything at once, on this thread.

        Raises:
            FastSAM3DError: the prompt was refused; nothing changed.
        """
        return self.applied(self.call())

    def applied(self, answer: Any) -> MaskUpdate:
        """Apply what `call` returned; an answer that is refused is dropped, so that the engine is told again.

        Raises:
            FastSAM3DError: the scene changed meanwhile; nothing was written.
        """
        try:
            return self.apply(answer)
        except FastSAM3DError:
            self.drop()
            raise
