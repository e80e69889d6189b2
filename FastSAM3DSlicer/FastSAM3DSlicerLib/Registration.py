"""What is registered with Slicer after startup: sample scans and the Segment Editor effect."""

from __future__ import annotations

import importlib.util
import sys
import unittest
from pathlib import Path

# Slicer's own test scans (content-addressed; MR head: free use, CT chest: CC BY-SA 4.0).
DATA_URL = "https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/"
SAMPLES = (
    # (sample name, file name, SHA-256, node name)
    (
        "FastSAM3D MR head",
        "MR-head.nrrd",
        "cc211f0dfd9a05ca3841ce1141b292898b2dd2d3f08286affadf823a7e58df93",
        "MR head",
    ),
    (
        "FastSAM3D CT chest",
        "CT-chest.nrrd",
        "4507b664690840abb6cb9af2d919377ffc4ef75b167cb6fd0f747befdb12e38e",
        "CT chest",
    ),
)
CATEGORY = "FastSAM3D"


def registerSampleData(icons: str) -> None:
    """Offer the sample scans in the Sample Data module."""
    import SampleData

    for name, fileName, sha256, nodeName in SAMPLES:
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=name,
            thumbnailFileName=str(Path(icons) / f"{fileName.removesuffix('.nrrd')}.png"),
            uris=DATA_URL + sha256,
            fileNames=fileName,
            nodeNames=nodeName,
            checksums=f"SHA256:{sha256}",
        )


def registerEffect(path: Path) -> None:
    """Put the effect into the Segment Editor."""
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    effect = effects.qSlicerSegmentEditorScriptedEffect(None)
    effect.setPythonSource(path.as_posix())
    effect.self().register()


def runInAppTests(moduleFile: Path) -> None:
    """Run the tests of Testing/slicer that need the application; raises if one fails."""
    for folder in (moduleFile.parent / "Testing", moduleFile.parents[1] / "Testing" / "slicer"):
        path = folder / "FastSAM3DSlicerInAppTest.py"
        if path.is_file():
            break
    else:
        raise FileNotFoundError("The in-app tests are part of the source, not of the installed extension.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromModule(module))
    if not result.wasSuccessful():
        raise RuntimeError(f"{len(result.failures) + len(result.errors)} in-app tests failed; see the log.")
