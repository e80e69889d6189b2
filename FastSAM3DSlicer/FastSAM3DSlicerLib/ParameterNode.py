"""What the user chose in the panel, saved with the scene. The only file that sees `slicer.parameterNodeWrapper`."""

# No `from __future__ import annotations`: the wrapper reads the types themselves.
from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


@parameterNodeWrapper
class FastSAM3DParameterNode:
    """Choices of the panel.

    volume: the scan.
    segmentation, segmentId: what prompts change.
    threshold: probability above which a voxel is inside.
    policy: "overwrite", "keep" or "overlap": what happens to other segments.
    showUncertainty: whether the overlay is on.
    sliceMode, slabMm: whether changes stay in the current slice, or a slab (mm) around it.
    reference, referenceId: what Dice compares with.
    model, device: what to segment with.
    serverUrl: address of a server; empty to compute here.
    """

    volume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    segmentId: str = ""
    threshold: Annotated[float, WithinRange(0.05, 0.95)] = 0.5
    policy: str = "overwrite"
    showUncertainty: bool = False
    sliceMode: bool = False
    slabMm: Annotated[float, WithinRange(0.0, 100.0)] = 0.0
    reference: vtkMRMLSegmentationNode
    referenceId: str = ""
    model: str = "default"
    device: str = "auto"
    serverUrl: str = ""
