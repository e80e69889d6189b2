"""What the person works on: the scan, its segmentation and the logic between them and the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
import vtk

from FastSAM3DCore.errors import ImageError
from FastSAM3DCore.types import Volume, VoxelBox
from FastSAM3DSlicerLib.EditMask import isLocked, setLocked
from FastSAM3DSlicerLib.SegmentationLogic import SegmentationLogic
from FastSAM3DSlicerLib.SegmentImage import SegmentImage
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, shapeIjk

from .loading import add_volume
from .reading import Scan, ScanSource
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
        source: where the scan came from, and what the page calls it.
    """

    def __init__(self, scene: slicer.vtkMRMLScene, session: Any) -> None:
        self.scene = scene
        self.logic = SegmentationLogic(scene, session)
        self.volume: Volume | None = None
        self.volume_node: Any = None
        self.segmentation_node: Any = None
        self.source = ScanSource()

    @property
    def is_open(self) -> bool:
        return self.volume_node is not None

    @property
    def name(self) -> str:
        return self.source.name

    def open(self, scan: Scan) -> None:
        """Start on a scan; the one before, with its segments, leaves the scene.

        Raises:
            ImageError: it cannot be segmented; the scan before stays.
        """
        node = add_volume(self.scene, scan.volume, scan.source.name)
        try:
            self.logic.setVolume(node)
        except Exception:
            self.scene.RemoveNode(node)
            raise
        before = (self.volume_node, self.segmentation_node)
        self.volume, self.volume_node, self.source = scan.volume, node, scan.source
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

    def load_segmentation(self, path: Path, name: str) -> None:
        """Take over the segments of a file, in place of the ones there are.

        Args:
            name: what messages call the file.

        Raises:
            ImageError: it holds no segments, or they lie outside the scan.
        """
        node = read_segmentation(self.scene, path, f"{self.name} segments")
        if node is None:
            raise ImageError(f"{name} holds no segments that can be read.")
        if not self._overlaps(node):
            self.scene.RemoveNode(node)
            raise ImageError(f"{name} does not overlap the scan; its segments were made on another one.")
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(self.volume_node)
        old, self.segmentation_node = self.segmentation_node, node
        self.scene.RemoveNode(old)
        self.logic.history.clear()
        self.activate(self.segment_ids()[0])

    def _overlaps(self, node: Any) -> bool:
        """Whether a segmentation has voxels in the scan; one without any voxels contradicts no scan."""
        whole, found = VoxelBox((0, 0, 0), shapeIjk(self.volume_node)), False
        for segment_id in node.GetSegmentation().GetSegmentIDs():
            image = self._image_of(node, segment_id)
            own = VoxelBox.around(image.ownContent(), image.box.lower)
            if own.is_empty:
                continue
            found, inside = True, image.voxelBox(own).intersect(whole)
            if not inside.is_empty and image.read(inside).any():
                return True
        return not found

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

    def image(self, segment_id: str) -> SegmentImage:
        """A segment's voxels."""
        return self._image_of(self.segmentation_node, segment_id)

    def _image_of(self, node: Any, segment_id: str) -> SegmentImage:
        return SegmentImage(node, segment_id, ijkToWorld(self.volume_node), shapeIjk(self.volume_node))

    def has_voxels(self) -> bool:
        """Whether anything has been segmented."""
        return any(self.image(segment_id).ownContent().any() for segment_id in self.segment_ids())

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
        """Delete a segment, which undo brings back; there is always one left to work on.

        Raises:
            PromptError: it is locked.
        """
        if self.segment_ids() == [segment_id] and not self.is_locked(segment_id):
            self.add_segment()
        self.logic.removeSegment(self.segmentation_node, segment_id)

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
