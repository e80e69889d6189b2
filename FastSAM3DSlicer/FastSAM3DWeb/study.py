"""What the person works on: the scan, its segmentation and the logic between them and the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
import vtk

from FastSAM3DCore.types import Volume
from FastSAM3DSlicerLib.EditMask import isLocked, setLocked
from FastSAM3DSlicerLib.SegmentationLogic import SegmentationLogic

from .loading import add_volume
from .scene_files import read_segmentation, write_segmentation

__all__ = ["PALETTE", "Study"]

# Told apart on grey at half opacity, also by most colour-blind people (Okabe and Ito's set, softened).
PALETTE = (
    (0.31, 0.75, 0.68),
    (0.93, 0.62, 0.26),
    (0.45, 0.66, 0.93),
    (0.90, 0.47, 0.55),
    (0.80, 0.74, 0.38),
    (0.70, 0.55, 0.88),
    (0.55, 0.78, 0.42),
    (0.86, 0.56, 0.78),
)


class Study:
    """The nodes and the logic of one scan at a time.

    Attributes:
        volume: the scan as the engine sees it; its array is the node's own memory.
        name: the scan's name for the page.
        source: path of the scan, or None for the sample.
    """

    def __init__(self, scene: slicer.vtkMRMLScene, session: Any) -> None:
        self.scene = scene
        self.logic = SegmentationLogic(scene, session)
        self.volume: Volume | None = None
        self.volume_node: Any = None
        self.segmentation_node: Any = None
        self.name = ""
        self.source: str | None = None

    @property
    def is_open(self) -> bool:
        return self.volume_node is not None

    def open(self, volume: Volume, name: str, source: str | None) -> None:
        """Start on a scan; the one before, with its segments, leaves the scene.

        Raises:
            ImageError: it cannot be segmented; the scan before stays.
        """
        node = add_volume(self.scene, volume, name)
        try:
            self.logic.setVolume(node)
        except Exception:
            self.scene.RemoveNode(node)
            raise
        before = (self.volume_node, self.segmentation_node)
        self.volume, self.volume_node, self.name, self.source = volume, node, name, source
        self._new_segmentation()
        self.logic.history.clear()
        for old in before:
            if old is not None:
                self.scene.RemoveNode(old)

    def _new_segmentation(self) -> None:
        node = self.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{self.name} segments")
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(self.volume_node)
        self.segmentation_node = node
        self.add_segment()

    def load_segmentation(self, path: Path) -> int:
        """Take over the segments of a file, in place of the ones there are.

        Returns:
            how many there are now.
        """
        node = read_segmentation(self.scene, path, f"{self.name} segments")
        if node is None:
            return 0
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(self.volume_node)
        old, self.segmentation_node = self.segmentation_node, node
        self.scene.RemoveNode(old)
        self.logic.history.clear()
        self.activate(self.segment_ids()[0])
        return node.GetSegmentation().GetNumberOfSegments()

    def write_segmentation(self, path: Path, *, quick: bool = False) -> None:
        """Write the segments, with their prompt logs, as .seg.nrrd."""
        write_segmentation(self.segmentation_node, path, quick=quick)

    # Segments

    @property
    def segmentation(self) -> Any:
        return self.segmentation_node.GetSegmentation()

    def segment_ids(self) -> list[str]:
        return list(self.segmentation.GetSegmentIDs()) if self.segmentation_node is not None else []

    def segment(self, segment_id: str) -> Any:
        return self.segmentation.GetSegment(segment_id)

    @property
    def active_id(self) -> str:
        return self.logic.active.segmentId if self.logic.active is not None else ""

    def activate(self, segment_id: str) -> None:
        self.logic.setSegment(self.segmentation_node, segment_id)

    def add_segment(self) -> str:
        """An empty segment with the next name and colour, active."""
        names = {self.segment(i).GetName() for i in self.segment_ids()}
        number = len(names) + 1
        while f"Segment {number}" in names:
            number += 1
        segment_id = self.logic.addSegment(self.segmentation_node, f"Segment {number}")
        self.segment(segment_id).SetColor(*PALETTE[(number - 1) % len(PALETTE)])
        return segment_id

    def remove_segment(self, segment_id: str) -> None:
        """Take a segment away; there is always one left to work on."""
        others = [i for i in self.segment_ids() if i != segment_id]
        self.segmentation.RemoveSegment(segment_id)
        if self.active_id == segment_id or not others:
            if others:
                self.activate(others[-1])
            else:
                self.add_segment()

    def is_locked(self, segment_id: str) -> bool:
        return isLocked(self.segment(segment_id))

    def set_locked(self, segment_id: str, locked: bool) -> None:
        setLocked(self.segment(segment_id), locked)

    # Temporary markups: how a stroke on the page is told to the logic

    @staticmethod
    def curve(points_ras: list[tuple[float, float, float]], closed: bool) -> Any:
        node = slicer.vtkMRMLMarkupsClosedCurveNode() if closed else slicer.vtkMRMLMarkupsCurveNode()
        node.SetCurveTypeToLinear()
        for point in points_ras:
            node.AddControlPointWorld(vtk.vtkVector3d(*point))
        return node
