"""Enough of Slicer's Qt side, on PySide6, to run the module's panel against a real MRML scene without Slicer.

    harness = qt_harness.install()
    module, widget = harness.loadModule("FastSAM3D/FastSAM3DSlicer.py")

Real: Qt's event loop, signals, form loader, the scene, its logics, `slicer.util`. Stand-ins: ctk and qMRML widgets
(`widgets`), ScriptedLoadableModule and parameterNodeWrapper (`scripted`, `parameters`), the application
(`application`). PythonQt's own quirks are not reproduced; Testing/slicer/CHECKLIST.md covers them by hand.
"""

from __future__ import annotations

from .application import Harness, install

__all__ = ["Harness", "install"]
