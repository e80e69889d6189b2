"""One prompt of a log to a session, whatever its kind."""

from __future__ import annotations

from ..prompts import BoxPrompt, LassoPrompt, PointPrompt, Prompt, ScribblePrompt
from ..protocol import SegmentationSession
from ..types import MaskUpdate

__all__ = ["apply_prompt"]


def apply_prompt(session: SegmentationSession, prompt: Prompt) -> MaskUpdate:
    """Give a session a prompt.

    Raises:
        PromptError: the session refuses it.
    """
    match prompt:
        case PointPrompt():
            return session.add_point(prompt.point_ijk, prompt.positive)
        case BoxPrompt():
            return session.add_box(prompt.box)
        case ScribblePrompt():
            return session.add_scribble(prompt.points_ijk, prompt.positive)
        case LassoPrompt():
            return session.add_lasso(prompt.polygon_ijk, prompt.positive)
    return session.set_mask(prompt.mask_kji())
