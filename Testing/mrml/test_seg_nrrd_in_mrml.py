"""Segmentation files of the command line, read by 3D Slicer's own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from FastSAM3DCore.io import Segment, load_segmentation, mask_on_grid, save_segmentation
from FastSAM3DCore.io.terminology import terminology_for
from FastSAM3DCore.types import Volume
from Testing.mrml.scene import OBLIQUE, HeadlessScene

SHAPE = (12, 20, 30)


def block(k: slice, j: slice, i: slice) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[k, j, i] = 1
    return mask


LIVER = block(slice(2, 8), slice(3, 9), slice(4, 12))
TUMOUR = block(slice(5, 7), slice(5, 8), slice(6, 11))  # inside the liver
CORNER = block(slice(0, 2), slice(15, 20), slice(25, 30))


def given() -> list[Segment]:
    return [
        Segment("liver", LIVER),
        Segment("liver tumour", TUMOUR, color=(1.0, 0.0, 0.25), tags={"Source": "FastSAM3D default"}),
        Segment("kidney_left: Ünï", CORNER, id="Kidney-1"),
    ]


def read(headless: HeadlessScene, path: Path) -> Any:
    node = headless.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = headless.scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node) == 1
    return node


def voxels_of(node: Any, segment_id: str, affine: np.ndarray) -> np.ndarray:
    """The segment's voxels as MRML has them, put on the scan's grid by their world positions."""
    image = slicer.vtkOrientedImageData()
    assert node.GetBinaryLabelmapRepresentation(segment_id, image)
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    to_ras = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1)
    kji = np.add(np.argwhere(array), (k0, j0, i0))
    ras = np.c_[kji[:, ::-1], np.ones(len(kji))] @ to_ras.T
    ijk = np.linalg.solve(affine, ras.T).T[:, :3]
    assert np.abs(ijk - np.round(ijk)).max() < 1e-3
    mask = np.zeros(SHAPE, np.uint8)
    i, j, k = np.round(ijk).astype(int).T
    mask[k, j, i] = 1
    return mask


def tag(segment: Any, name: str) -> str:
    value = vtk.mutable("")
    assert segment.GetTag(name, value)
    return str(value)


@pytest.mark.parametrize("flip", [1, -1])
def test_slicer_reads_names_colours_codes_and_every_voxel(flip: int, headless: HeadlessScene, tmp_path: Path) -> None:
    affine = OBLIQUE @ np.diag([flip, 1, 1, 1.0])  # left- and right-handed
    scan = Volume(np.zeros(SHAPE, np.int16), affine)
    path = tmp_path / "case.seg.nrrd"
    save_segmentation(path, given(), scan)
    node = read(headless, path)
    segmentation = node.GetSegmentation()
    assert segmentation.GetNumberOfSegments() == 3
    for number, expected in enumerate(given()):
        segment_id = segmentation.GetNthSegmentID(number)
        segment = segmentation.GetNthSegment(number)
        assert segment.GetName() == expected.name
        assert tag(segment, "TerminologyEntry") == terminology_for(expected.name).entry()
        assert np.array_equal(voxels_of(node, segment_id, affine), expected.mask_kji)
    assert segmentation.GetNthSegment(1).GetColor() == (1.0, 0.0, 0.25)
    assert tag(segmentation.GetNthSegment(1), "Source") == "FastSAM3D default"
    assert segmentation.GetNthSegmentID(2) == "Kidney-1"


def test_slicer_takes_the_scans_grid_as_reference_geometry(headless: HeadlessScene, tmp_path: Path) -> None:
    path = tmp_path / "case.seg.nrrd"
    save_segmentation(path, given()[:1], Volume(np.zeros(SHAPE, np.int16), OBLIQUE))
    text = read(headless, path).GetSegmentation().GetConversionParameter("Reference image geometry")
    values = [float(v) for v in text.split(";") if v]
    assert np.allclose(np.reshape(values[:16], (4, 4)), OBLIQUE)
    assert values[16:] == [0, SHAPE[2] - 1, 0, SHAPE[1] - 1, 0, SHAPE[0] - 1]


def test_slicer_can_edit_and_save_it_and_the_command_line_reads_that(headless: HeadlessScene, tmp_path: Path) -> None:
    scan = Volume(np.zeros(SHAPE, np.int16), OBLIQUE)
    save_segmentation(tmp_path / "case.seg.nrrd", given(), scan)
    node = read(headless, tmp_path / "case.seg.nrrd")
    node.GetSegmentation().GetNthSegment(0).SetName("Leber")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    headless.scene.AddNode(storage)
    storage.SetFileName(str(tmp_path / "edited.seg.nrrd"))
    assert storage.WriteData(node) == 1
    edited = load_segmentation(tmp_path / "edited.seg.nrrd")
    assert [s.name for s in edited.segments] == ["Leber", "liver tumour", "kidney_left: Ünï"]
    for before, after in zip(given(), edited.segments, strict=True):
        assert np.array_equal(mask_on_grid(after.mask_kji, edited.ijk_to_ras, scan), before.mask_kji)


def test_slicer_places_a_label_map_like_the_scan(headless: HeadlessScene, tmp_path: Path) -> None:
    save_segmentation(tmp_path / "labels.nii.gz", given()[:1], Volume(np.zeros(SHAPE, np.int16), OBLIQUE))
    node = headless.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    storage = headless.scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(tmp_path / "labels.nii.gz"))
    assert storage.ReadData(node) == 1
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    assert np.allclose([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)], OBLIQUE, atol=1e-4)
    assert np.array_equal(slicer.util.arrayFromVolume(node), LIVER)
