"""Slice-by-slice work: where changes may go, which slices are accepted, which one needs a look next."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .EditMask import tagValue
from .PromptJobs import PromptJobs
from .SliceLimit import SliceLimit
from .SlicePointer import SlicePointer
from .Uncertainty import sliceScores
from .VolumeBridge import arrayFromMatrix, ijkToWorld, shapeIjk, transformPoints

# A slice whose uncertainty adds up to less than this many fully undecided voxels needs no look.
WORTH_A_LOOK_VOXELS = 1.0


ACCEPTED_TAG = "FastSAM3D.Accepted"


def acceptedSlices(segment: Any) -> list[SliceLimit]:
    """Slices that were accepted, kept with the segment in the scene."""
    try:
        rows = json.loads(tagValue(segment, ACCEPTED_TAG) or "[]")
        return [SliceLimit((float(a), float(b), float(c), float(d)), float(half)) for a, b, c, d, half in rows]
    except (TypeError, ValueError):
        return []


class SliceReview:
    """The slice mode of one `SegmentationLogic`.

    Args:
        logic: whose changes are limited.
        pointer: tells the slice view the user works in.
    """

    def __init__(self, logic: PromptJobs, pointer: SlicePointer | None = None):
        self.logic, self.pointer = logic, pointer or SlicePointer(logic.scene)
        self.on = False
        self.slabMm = 0.0

    def set(self, on: bool, slabMm: float = 0.0) -> None:
        """Switch slice mode; `slabMm` is the thickness that may change, 0 for one slice."""
        self.on, self.slabMm = on, slabMm
        self.aim()

    def aim(self, sliceNode: Any = None) -> None:
        """Limit changes to the slice that a view (the user's, by default) shows now; call before each prompt."""
        self.confine(self.place(sliceNode))

    def place(self, sliceNode: Any = None) -> np.ndarray | None:
        """Where changes may go now: the slice's (4, 4) matrix to world RAS; None for anywhere."""
        node = (sliceNode or self.pointer.node) if self.on else None
        return arrayFromMatrix(node.GetSliceToRAS()) if node is not None else None

    def confine(self, place: np.ndarray | None) -> None:
        """Limit changes to a place that may have been left since; accepted slices never change."""
        rules, active, volume = self.logic.rules, self.logic.active, self.logic.volumeNode
        rules.limit = None
        rules.accepted = acceptedSlices(active.segment) if active is not None and active.segment is not None else []
        if place is not None and volume is not None:
            rules.limit = SliceLimit.fromMatrix(place, volume, self.slabMm)

    def accept(self) -> bool:
        """The slice that changes go to is right; False if slice mode is off."""
        self.aim()
        active, limit = self.logic.active, self.logic.rules.limit
        if limit is None or active is None:
            return False
        accepted = [*acceptedSlices(active.segment), limit]
        active.segment.SetTag(ACCEPTED_TAG, json.dumps([[*plane.plane, plane.halfThickness] for plane in accepted]))
        return True

    def release(self) -> None:
        """Accepted slices of the segment may change again."""
        if self.logic.active is not None:
            self.logic.active.segment.RemoveTag(ACCEPTED_TAG)
        self.aim()

    def goToUncertain(self, sliceNode: Any = None) -> str:
        """Move a slice view to the most uncertain slice that is not accepted; returns what to say."""
        node = sliceNode or self.pointer.node
        if node is None or self.logic.probability is None:
            return "Nothing to look at yet; give a prompt first."
        limit = SliceLimit.fromSliceNode(node, self.logic.volumeNode)
        accepted = self.logic.rules.accepted
        first, scores = sliceScores(self.logic.probability, limit.axis, accepted)
        if not scores.size or scores.max() < WORTH_A_LOOK_VOXELS:
            return "No slice needs a look."
        index = first + int(scores.argmax())
        ijk = (np.array(shapeIjk(self.logic.volumeNode)) - 1) / 2
        ijk[limit.axis] = index
        node.JumpSliceByOffsetting(*transformPoints(ijkToWorld(self.logic.volumeNode), [ijk])[0])
        self.aim(node)
        return f"Slice {index + 1}: {scores.max():.0f} voxels' worth of doubt."
