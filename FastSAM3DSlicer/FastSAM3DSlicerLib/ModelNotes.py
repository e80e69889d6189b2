"""Which weights made a segment, and what to say when others go on with it."""

from __future__ import annotations

from FastSAM3DCore.prompts import MaskPrompt, Prompt
from FastSAM3DCore.types import ModelIdentity


def sameWeights(made: ModelIdentity | None, now: ModelIdentity | None) -> bool:
    """Whether two sessions answer with the same weights: by digest where both are known, else by name."""
    if made is None or now is None:
        return made is now
    if made.sha256 and now.sha256:
        return made.sha256 == now.sha256
    return made.name == now.name


def byModel(prompts: tuple[Prompt, ...]) -> bool:
    """Whether a model answered any of these; a segment that was painted by hand has only a mask."""
    return any(not isinstance(prompt, MaskPrompt) for prompt in prompts)


def otherWeights(segmentName: str, made: ModelIdentity | None, now: ModelIdentity) -> str:
    """Said before other weights refine a segment."""
    maker = str(made) if made is not None else "a model that was not recorded"
    return f"{segmentName} was made with {maker}; the next prompt uses {now} and starts from the segment as it is."


def refinedBy(made: ModelIdentity | None, now: ModelIdentity) -> str:
    """Said with the first prompt that other weights answered."""
    maker = str(made) if made is not None else "a model that was not recorded"
    return f"Made with {maker}, refined with {now}."
