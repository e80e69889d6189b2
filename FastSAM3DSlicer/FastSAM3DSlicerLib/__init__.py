"""The MRML layer: prompts in a Slicer scene to segments, with no Qt and no application.

Front ends (the Slicer module, the Segment Editor effect, the browser app) use these names.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("FastSAM3DCore") is None:  # a source checkout: the engine lies beside the module
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from .EditMask import KEEP, OVERLAP, OVERWRITE, EditRules, isLocked, setLocked
from .Job import Job
from .SegmentationLogic import SegmentationLogic
from .SliceLimit import SliceLimit

__all__ = [
    "KEEP",
    "OVERLAP",
    "OVERWRITE",
    "EditRules",
    "Job",
    "SegmentationLogic",
    "SliceLimit",
    "isLocked",
    "setLocked",
]
