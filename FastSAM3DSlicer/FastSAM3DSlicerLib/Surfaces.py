"""Closed surfaces stay on while segments are edited, and are meshed again when the user pauses.

Slicer drops every surface of a segmentation when a labelmap changes, and meshing takes 200 ms and more, so the
old surface is kept on show until `refresh`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .SegmentImage import SURFACE


class Surfaces:
    """Remembers which segments' surfaces no longer fit."""

    def __init__(self) -> None:
        self._stale: dict[str, tuple[Any, set[str]]] = {}

    @contextmanager
    def kept(self, segmentationNode: Any) -> Iterator[set[str]]:
        """While segments are written; the caller adds the segments it touched to the set it is given."""
        segmentation = segmentationNode.GetSegmentation()
        segments = {id: segmentation.GetSegment(id) for id in segmentation.GetSegmentIDs()}
        held = {id: (segment, segment.GetRepresentation(SURFACE)) for id, segment in segments.items()}
        touched: set[str] = set()
        yield touched
        shown = False
        for segment, surface in held.values():
            if surface is not None:
                shown = True
                if segment.GetRepresentation(SURFACE) is None:
                    segment.AddRepresentation(SURFACE, surface)
        if shown and touched:
            _, stale = self._stale.setdefault(segmentationNode.GetID(), (segmentationNode, set()))
            stale |= touched

    @property
    def stale(self) -> bool:
        """Whether `refresh` has something to do."""
        return bool(self._stale)

    def refresh(self) -> None:
        """Mesh the segments that changed; the others keep their surface."""
        for node, touched in self._stale.values():
            segmentation = node.GetSegmentation()
            if node.GetScene() is None:
                continue
            for segmentId in touched & set(segmentation.GetSegmentIDs()):
                segmentation.GetSegment(segmentId).RemoveRepresentation(SURFACE)
            segmentation.CreateRepresentation(SURFACE, False)
        self._stale.clear()
