"""How each figure of the bench was made, in words that travel with the figures."""

from __future__ import annotations

from .attention import HEAD_DIM, HEADS, WINDOW
from .compute import Sam2DTiming

__all__ = ["describe_methods"]


def describe_methods(*, size: int, own: int, pixels: int, sam: Sam2DTiming, starts: int) -> dict[str, str]:
    """One paragraph per part of the report.

    Args:
        size: crop size, voxels per axis.
        own: crop size that sessions cut for the default network.
        pixels: of the slices that a 2D network goes through.
        sam: how they were timed.
        starts: fresh processes that opened the scan.
    """
    return {
        "encode": (
            f"One crop of {size}^3 per call, batch 1, the networks in turn, medians after warm-up; quartiles, "
            "number of runs and the first call are under spread. ours: FastSAM3D's student as the product runs "
            "it; plain: the same weights in unoptimised float32 code; teacher_published: SAM-Med3D with its "
            "padded windows, the same plain code. A call of more than five seconds is run once. Random weights: "
            "they do not change the time."
        ),
        "click": "Prompt encoder and mask decoder on a cached embedding: two points and the previous mask.",
        "sam2d_slices": sam2d_words(sam, pixels),
        "end_to_end": (
            f"The default network in a local session on a made-up abdomen of int16 voxels; medians over {starts} "
            "fresh processes. first_click: the first one of the process, which finds the zoom, encodes, and "
            "follows the border; second_click: the first one after it, which often looks closer and encodes "
            "again, and counts among the warm ones, too; first_click_again: on the scan taken in anew by the same"
            " process; first_click_prefetched: the same after the crops under the cursor were embedded in the "
            "background. Warm clicks re-use the crop where the session can. Split: crop is cutting, resampling "
            "and normalising in one pass, paste is resampling the logits back to the scan's grid, thresholding "
            "and writing; medians per stage, so that they need not add up."
        ),
        "attention": (
            f"{HEADS} heads of {HEAD_DIM} channels, window {WINDOW}, forward, without projections. Memory: peak "
            "beyond q, k and v, the result included (CPU: growth of the process's resident high-water mark). "
            "Above 8 192 tokens a CPU runs dense attention once."
        ),
        "floors": (
            "The slower of arithmetic over the measured rate of a large matrix product in the fast type, and "
            "bytes over the measured bandwidth of a large copy, both at best. Bytes: weights once in the fast "
            "type, image, embedding and logits; for attention q, k, v and the result."
        ),
        "throughput": (
            f"Crops encoded per second in batches: the student on {size}^3, the default network on the {own}^3 "
            "that sessions cut."
        ),
        "model_load": "In the fresh processes: from the bundled file to a network that is ready; imports apart.",
        "memory": (
            "The fresh processes after opening the scan and all clicks (CPU: resident memory of the whole "
            "process, Python, torch and the scan included; CUDA: device memory reserved)."
        ),
        "agreement": (
            "Logits of a click in the fast precision against float32: the student with random weights against the"
            " plain code, the default network against its own float32 run; dice of the masks above zero."
        ),
    }


def sam2d_words(sam: Sam2DTiming, pixels: int) -> str:
    """What was run of the stack of slices, and whether the rest is a multiplication."""
    stack = f"The image encoder of a 2D SAM ViT-B in float32, one slice of {pixels} x {pixels} after the other: "
    if not sam["extrapolated"]:
        return stack + f"all {sam['slices']} were run."
    return stack + (
        f"{sam['slices_timed']} of {sam['slices']} were run, and their mean is multiplied by {sam['slices']}; an "
        "extrapolation, as slices do not depend on each other."
    )
