"""Triton and Mesa's software renderer in one process; each brings an LLVM."""

import importlib.util
import subprocess
import sys

import pytest

RENDER_THEN_BUILD = """
import vtk
window = vtk.vtkRenderWindow()
window.SetOffScreenRendering(1)
window.AddRenderer(vtk.vtkRenderer())
window.Render()

from FastSAM3DCore.modeling.build import build_sam3d
from FastSAM3DCore.modeling.config import STUDENT
from FastSAM3DCore.modeling.sam3d import Sam3D

state = Sam3D(STUDENT).state_dict()
build_sam3d(STUDENT, state)
import torch._dynamo
window.Render()
print("alive")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_a_published_network_is_built_after_views_were_rendered():
    done = subprocess.run([sys.executable, "-c", RENDER_THEN_BUILD], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "alive"
