"""Files of the scene, written and read by MRML's own storage nodes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import slicer
import vtk

from FastSAM3DCore.errors import OutputError

__all__ = ["read_segmentation", "write_label_map", "write_scene", "write_segmentation"]


def write_segmentation(node: Any, path: Path, *, quick: bool = False) -> None:
    """Write a segmentation node as .seg.nrrd; whole or not at all.

    Args:
        quick: only the voxels around the segments, uncompressed. On a 512x512x400 scan the whole grid takes
            0.7 s; this takes as long as the segments are large.

    Raises:
        OutputError: it could not be written.
    """
    temporary = path.with_name(f"new-{os.getpid()}-{path.name}")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetUseCompression(not quick)
    storage.SetCropToMinimumExtent(quick)
    storage.SetFileName(str(temporary))
    if not storage.WriteData(node) or not temporary.is_file():
        temporary.unlink(missing_ok=True)
        raise OutputError(f"The segmentation could not be written to {path.parent}; is the disk full?")
    os.replace(temporary, path)


def read_segmentation(scene: Any, path: Path, name: str) -> Any:
    """A segmentation node with a file's segments, or None if it holds none."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node) or node.GetSegmentation().GetNumberOfSegments() == 0:
        scene.RemoveNode(node)
        return None
    return node


def write_label_map(scene: Any, segmentation_node: Any, volume_node: Any, path: Path) -> None:
    """Write all segments as one label map on the scan's grid: 1, 2, ... in the list's order.

    Raises:
        OutputError: it could not be written.
    """
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    ids = vtk.vtkStringArray()
    for segment_id in segmentation_node.GetSegmentation().GetSegmentIDs():
        ids.InsertNextValue(segment_id)
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    try:
        done = slicer.vtkSlicerSegmentationsModuleLogic.ExportSegmentsToLabelmapNode(
            segmentation_node, ids, labels, volume_node
        ) and storage.WriteData(labels)
    finally:
        scene.RemoveNode(labels)
    if not done:
        raise OutputError("The label map could not be written; is the disk full?")


def write_scene(scene: Any, path: Path) -> None:
    """Write the whole scene as .mrb.

    Raises:
        OutputError: it could not be written.
    """
    if not scene.WriteToMRB(str(path), None) or not path.is_file():
        raise OutputError("The scene could not be written; is the disk full?")
