"""Prompts in, segment out: what every front end of the Slicer layer calls.

    logic = SegmentationLogic(scene, session)
    logic.setVolume(volumeNode)
    logic.setSegment(segmentationNode, segmentId)
    logic.addPoint((12.0, -3.5, 40.0))

The `add...` methods block. A front end that must stay responsive takes the same prompt as a `Job` from
`prepare...` (main thread), runs `job.call()` on its worker, and hands the answer to `job.apply()` (main
thread); one job at a time.
"""

from __future__ import annotations

from typing import Any

from FastSAM3DCore.types import MaskUpdate

from .PromptJobs import PromptJobs


class SegmentationLogic(PromptJobs):
    """Interactive segmentation of the segments of one MRML scene.

    Args:
        scene: the vtkMRMLScene; no other scene is touched.
        session: any implementation of `SegmentationSession`.

    Every prompt is one undo step. A prompt that is refused raises one of the project's errors, whose message
    can be shown as it is, and changes nothing.
    """

    def addPoint(self, ras: Any, positive: bool = True) -> MaskUpdate:
        """A click at a world position (R, A, S) in mm."""
        return self.preparePoint(ras, positive).run()

    def addBox(self, roiNode: Any) -> MaskUpdate:
        """A markups ROI, possibly rotated (its enclosing voxel box counts) or one slice thin."""
        return self.prepareBox(roiNode).run()

    def addScribble(self, curveNode: Any, positive: bool = True) -> MaskUpdate:
        """A markups curve along voxels that belong, or do not."""
        return self.prepareScribble(curveNode, positive).run()

    def addLasso(self, curveNode: Any, positive: bool = True) -> MaskUpdate:
        """A closed markups curve around voxels of one slice that belong, or do not."""
        return self.prepareLasso(curveNode, positive).run()

    def movePrompt(self, promptId: int, ras: Any) -> MaskUpdate:
        """Drag a point to another world position; everything after it is computed again."""
        return self.prepareMove(promptId, ras).run()

    def removePrompt(self, promptId: int) -> MaskUpdate:
        """Delete a prompt; everything after it is computed again."""
        return self.prepareRemove(promptId).run()

    def setThreshold(self, probability: float) -> MaskUpdate:
        """Voxels above this probability are inside; a run of changes is one undo step."""
        return self.prepareThreshold(probability).run()

    def fillSlice(self) -> MaskUpdate:
        """Slice mode: take over what the engine proposes for the current slice."""
        return self.prepareFill().run()

    def undo(self) -> MaskUpdate:
        """Take back the last change, in every segment it touched."""
        return self.prepareTurn(redo=False).run()

    def redo(self) -> MaskUpdate:
        return self.prepareTurn(redo=True).run()

    def reset(self) -> MaskUpdate:
        """Empty the segment and its log; one undo step."""
        return self.prepareReset().run()
