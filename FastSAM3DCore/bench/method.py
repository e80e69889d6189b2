"""How each figure of the bench was made, in words that travel with the figures."""

from __future__ import annotations

from .attention import HEAD_DIM, HEADS, WINDOW

__all__ = ["describe_methods"]


def describe_methods(*, size: int, slices: int, pixels: int, timed: int) -> dict[str, str]:
    """One paragraph per part of the report.

    Args:
        size: crop size, voxels per axis.
        slices: slices of the stack that a 2D network goes through.
        pixels: their size.
        timed: how many of them were really run.
    """
    return {
        "encode": (
            f"One crop of {size}^3 per call, batch 1, the networks in turn, medians after warm-up. ours: FastSAM3D's "
            "student as the product runs it; plain: the same weights in unoptimised float32 code; teacher_published: "
            "SAM-Med3D with its padded windows, the same plain code. A call of more than five seconds is run once. "
            "Random weights: they do not change the time."
        ),
        "click": "Prompt encoder and mask decoder on a cached embedding: two points and the previous mask.",
        "sam2d_slices": (
            f"The image encoder of a 2D SAM ViT-B in float32 over {slices} slices of {pixels} x {pixels}: "
            f"{timed} run of one slice, times {slices}."
        ),
        "end_to_end": (
            "The default network in a local session on a made-up abdomen of int16 voxels. The first click includes "
            "finding the zoom, encoding and following the border; warm clicks re-use the crop where the session can."
        ),
        "attention": (
            f"{HEADS} heads of {HEAD_DIM} channels, window {WINDOW}, forward, without projections. Memory: peak beyond "
            "q, k and v, the result included (CPU: growth of the process's resident high-water mark)."
        ),
        "memory": (
            "A fresh process that loads the default network, encodes one crop and answers one click (CPU: resident "
            "memory of the whole process, Python and torch included; CUDA: device memory reserved)."
        ),
        "agreement": (
            "Logits of a click in the fast precision against float32: the student with random weights against the "
            "plain code, the default network against its own float32 run; dice of the masks above zero."
        ),
    }
