"""One segment's voxels: read, written and restored box by box, in place, neighbours untouched.

Writing a whole 512x512x400 labelmap takes 200-500 ms (SetBinaryLabelmapToSegment and
slicer.util.updateSegmentBinaryLabelmapFromArray, 2-core CPU); writing a 121^3 box in place about 5 ms.

Boxes are given in the voxels of the scan. A segment whose labelmap lies on another grid (imported, other
resolution, other transform) is read and written through the nearest voxel, on its own grid.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from FastSAM3DCore.errors import PromptError
from FastSAM3DCore.types import VoxelBox

from .Resampling import boundsThrough, sampleNearest, shiftBox, wholeVoxelShift
from .VolumeBridge import arrayFromMatrix, matrixFromArray, nodeToWorld

BINARY = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
SURFACE = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
# A labelmap that must grow gets this many voxels of room, so that the next clicks find it large enough.
GROWTH_VOXELS = 16


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a box of a segment held: packed bits, compressed (a 121^3 ball takes about 10 kB)."""

    box: VoxelBox
    bits: bytes
    imageToLocal: np.ndarray

    @classmethod
    def of(cls, box: VoxelBox, content: np.ndarray, imageToLocal: np.ndarray) -> Snapshot:
        return cls(box, zlib.compress(np.packbits(content).tobytes(), 1), imageToLocal)

    def content(self) -> np.ndarray:
        """bool, indexed [k, j, i]."""
        shape = self.box.shape_ijk[::-1]
        bits = np.frombuffer(zlib.decompress(self.bits), np.uint8)
        return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)


class SegmentImage:
    """A segment of a segmentation node, addressed in the voxels of a scan.

    Args:
        segmentationNode: the node; may be under any linear transform.
        segmentId: an existing segment.
        worldFromVoxel: (4, 4) from the scan's voxels to world RAS.
        shape: the scan's voxels along i, j, k.
    """

    def __init__(self, segmentationNode: Any, segmentId: str, worldFromVoxel: np.ndarray, shape: tuple[int, int, int]):
        self.node, self.segmentId = segmentationNode, segmentId
        self.segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
        if self.segment is None:
            raise PromptError("The segment is gone; choose or add another one.")
        self._localFromVoxel = np.linalg.inv(nodeToWorld(segmentationNode)) @ worldFromVoxel
        self._whole = VoxelBox((0, 0, 0), shape)

    @property
    def image(self) -> Any:
        """The labelmap (vtkOrientedImageData), shared or not; None for a segment that has none yet."""
        return self.segment.GetRepresentation(BINARY)

    @property
    def box(self) -> VoxelBox:
        """The labelmap's own extent, in its own voxels."""
        image = self.image
        if image is None or image.GetNumberOfPoints() == 0:
            return VoxelBox.empty()
        e = image.GetExtent()
        return VoxelBox((e[0], e[2], e[4]), (e[1] + 1, e[3] + 1, e[5] + 1))

    @property
    def imageToLocal(self) -> np.ndarray:
        """(4, 4) from the labelmap's voxels to the segmentation node's coordinates."""
        if self.box.is_empty:
            return self._localFromVoxel
        matrix = vtk.vtkMatrix4x4()
        self.image.GetImageToWorldMatrix(matrix)
        return arrayFromMatrix(matrix)

    @property
    def stamp(self) -> tuple[Any, ...]:
        """Differs after anybody touched the labelmap (or a neighbour on the same layer)."""
        image = self.image
        return (image.GetAddressAsString(""), image.GetMTime()) if image is not None else ("", 0)

    def labels(self) -> np.ndarray:
        """The layer's label values as a view, indexed [k, j, i] from `box.lower`."""
        return vtk_to_numpy(self.image.GetPointData().GetScalars()).reshape(self.box.shape_ijk[::-1])

    def ownContent(self) -> np.ndarray:
        """This segment's voxels over its whole extent, bool."""
        if self.box.is_empty:
            return np.zeros((0, 0, 0), bool)
        return self.labels() == self.segment.GetLabelValue()

    def read(self, box: VoxelBox) -> np.ndarray:
        """This segment in a box of the scan's voxels, bool, indexed [k, j, i]."""
        return self.reader(box)()

    def reader(self, box: VoxelBox) -> Callable[[], np.ndarray]:
        """`read` in two parts: voxels are copied now, what is returned resamples them, on any thread."""
        if self.box.is_empty:
            return lambda: np.zeros(box.shape_ijk[::-1], bool)
        voxelFromImage, shift = self._grids()
        if shift is not None:
            content = self._get(shiftBox(box, -shift))
            return lambda: content
        imageFromVoxel = np.linalg.inv(voxelFromImage)
        near = boundsThrough(imageFromVoxel, box).intersect(self.box)
        native = self._get(near)
        return lambda: sampleNearest(native, near, imageFromVoxel, box)

    def nativeBox(self, box: VoxelBox) -> VoxelBox:
        """The labelmap voxels that a box of the scan's voxels covers."""
        voxelFromImage, shift = self._grids()
        return shiftBox(box, -shift) if shift is not None else boundsThrough(np.linalg.inv(voxelFromImage), box)

    def snapshot(self, box: VoxelBox, content: np.ndarray | None = None) -> Snapshot:
        """What a box of the scan's voxels holds now, for `restore`; `content` if `read` has just given it."""
        native = self.nativeBox(box)
        if content is None or self._grids()[1] is None:
            content = self._get(native)
        return Snapshot.of(native, content, self.imageToLocal)

    def write(self, box: VoxelBox, values: np.ndarray, where: np.ndarray) -> None:
        """Set this segment to `values` where `where` is true; both bool arrays of `box`, indexed [k, j, i]."""
        voxelFromImage, shift = self._grids()
        native = self.nativeBox(box)
        if shift is None:
            values = sampleNearest(values, box, voxelFromImage, native)
            where = sampleNearest(where, box, voxelFromImage, native)
        self._put(native, values, where)

    def restore(self, snapshot: Snapshot) -> Snapshot:
        """Put back what a snapshot holds; returns what was there before, so that it can be redone."""
        now = Snapshot.of(snapshot.box, self._get(snapshot.box), snapshot.imageToLocal)
        self._put(snapshot.box, snapshot.content(), np.True_)
        return now

    def sharers(self) -> list[str]:
        """Other segments on the same layer."""
        image, segmentation = self.image, self.node.GetSegmentation()
        ids = list(segmentation.GetSegmentIDs())
        return [
            other
            for other in ids
            if other != self.segmentId and segmentation.GetSegment(other).GetRepresentation(BINARY) is image
        ]

    def isolate(self) -> None:
        """Move this segment to a layer of its own, so that growing it can neither touch nor copy a neighbour.

        Slicer merges layers again when it saves; while editing they must stay apart.
        """
        if self.image is not None and not self.sharers():
            return
        content, box, matrix = self.ownContent(), self.box, self.imageToLocal
        if content.any():
            own = VoxelBox.around(content, box.lower)
            kept = content[shiftBox(own, -np.array(box.lower)).slices_kji]
            self.labels()[content] = 0
            self.image.Modified()
            self._replaceImage(own, kept, matrix)
        else:
            self._replaceImage(VoxelBox.empty(), np.zeros((0, 0, 0), bool), matrix)

    @property
    def voxelFromImage(self) -> np.ndarray:
        """(4, 4) from the labelmap's voxels to the scan's."""
        return np.linalg.inv(self._localFromVoxel) @ self.imageToLocal

    def voxelBox(self, native: VoxelBox) -> VoxelBox:
        """The scan's voxels that a box of the labelmap covers."""
        voxelFromImage, shift = self._grids()
        return shiftBox(native, shift) if shift is not None else boundsThrough(voxelFromImage, native)

    def canRestore(self, snapshot: Snapshot) -> bool:
        """Whether the labelmap is still on the grid that the snapshot was taken on."""
        return np.allclose(self.imageToLocal, snapshot.imageToLocal, atol=1e-4)

    def _grids(self) -> tuple[np.ndarray, np.ndarray | None]:
        voxelFromImage = self.voxelFromImage
        return voxelFromImage, wholeVoxelShift(voxelFromImage)

    def _get(self, native: VoxelBox) -> np.ndarray:
        """This segment in a box of its own voxels, bool; outside its extent there is nothing."""
        mine = self.box
        both = native.intersect(mine)
        if both.is_empty:
            return np.zeros(native.shape_ijk[::-1], bool)
        there = self.labels()[shiftBox(both, -np.array(mine.lower)).slices_kji] == self.segment.GetLabelValue()
        if both == native:
            return there
        out = np.zeros(native.shape_ijk[::-1], bool)
        out[shiftBox(both, -np.array(native.lower)).slices_kji] = there
        return out

    def _put(self, native: VoxelBox, values: np.ndarray, where: np.ndarray | np.bool_) -> None:
        wanted = values & where
        if wanted.any():
            self._makeRoom(native)
        mine = self.box
        both = native.intersect(mine)
        if both.is_empty:
            return
        cut = shiftBox(both, -np.array(native.lower)).slices_kji
        view = self.labels()[shiftBox(both, -np.array(mine.lower)).slices_kji]
        label = self.segment.GetLabelValue()
        if label == 1 and not self.sharers():  # nobody else is on this layer: one pass instead of six
            if np.ndim(where) and view.dtype == np.uint8:  # masking bytes takes half the time of a masked copy
                view &= where[cut].view(np.uint8) - np.uint8(1)
                view |= (values[cut] & where[cut]).view(np.uint8)
            else:
                np.copyto(view, values[cut], where=where[cut] if np.ndim(where) else True)
            self.image.Modified()
            return
        if ((view != 0) & (view != label) & wanted[cut]).any():  # a neighbour on this layer is there: keep it
            self.isolate()
            self._put(native, values, where)
            return
        gone = (view == label) & ~wanted[cut]
        view[gone & where[cut] if np.ndim(where) else gone] = 0
        view[wanted[cut]] = label
        self.image.Modified()

    def _makeRoom(self, native: VoxelBox) -> None:
        """Grow the labelmap until `native` fits."""
        mine = self.box
        if mine.intersect(native) == native:
            return
        self.isolate()
        mine, matrix = self.box, self.imageToLocal
        around = mine.union(native)
        if not mine.is_empty:
            roomy = VoxelBox(
                tuple(v - GROWTH_VOXELS for v in around.lower), tuple(v + GROWTH_VOXELS for v in around.upper)
            )
            around = around.union(roomy.intersect(self.nativeBox(self._whole)))
        content = np.zeros(around.shape_ijk[::-1], bool)
        if not mine.is_empty:
            content[shiftBox(mine, -np.array(around.lower)).slices_kji] = self.ownContent()
        self._replaceImage(around, content, matrix)

    def _replaceImage(self, box: VoxelBox, content: np.ndarray, imageToLocal: np.ndarray) -> None:
        image = slicer.vtkOrientedImageData()
        l, u = box.lower, box.upper
        image.SetExtent(l[0], u[0] - 1, l[1], u[1] - 1, l[2], u[2] - 1)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        image.SetGeometryFromImageToWorldMatrix(matrixFromArray(imageToLocal))
        if content.size:
            vtk_to_numpy(image.GetPointData().GetScalars())[:] = content.reshape(-1)
        self.segment.SetLabelValue(1)
        self.segment.AddRepresentation(BINARY, image)
        image.Modified()
