"""The command line with the bundled model on real scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from FastSAM3DCore.cli import main
from FastSAM3DCore.errors import FastSAM3DError
from FastSAM3DCore.evaluate.clicks import deepest_voxel
from FastSAM3DCore.evaluate.metrics import dice
from FastSAM3DCore.io import load_labels, load_segmentation, load_volume
from FastSAM3DCore.resources import resource_path

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def weights_are_there() -> bool:
    try:
        return resource_path("weights", "default.safetensors").is_file()
    except FastSAM3DError:
        return False


pytestmark = [
    pytest.mark.scans,
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.is_dir(), reason="no real scans beside the checkout"),
    pytest.mark.skipif(not weights_are_there(), reason="the default weights are not in this checkout"),
]


def test_a_real_tumour_comes_out_alike_from_its_dicom_series_and_its_nifti_file(tmp_path: Path) -> None:
    case = SHARED / "scans" / "mr_t1_sarcoma_002"
    truth = load_labels(case / "label.nii.gz").array_kji > 0
    scan = load_volume(case / "image.nii.gz")
    point = ",".join(f"{v:.3f}" for v in scan.ijk_to_ras_points(deepest_voxel(truth, scan.spacing_ijk)))
    masks = []
    for number, source in enumerate((case / "image.nii.gz", SHARED / "dicom" / "mr_t1_sarcoma_002_rtstruct")):
        output = tmp_path / f"{number}.seg.nrrd"
        assert main(["segment", str(source), "--point", point, "-o", str(output), "--name", "tumour"]) == 0
        masks.append(load_segmentation(output).segments[0].mask_kji)
    assert dice(masks[0], masks[1]) > 0.98  # float32 header of the one, decimal strings of the other
    assert np.any(masks[0] & truth)
    assert dice(masks[0], truth) > 0.4
