"""What the module registers after startup, and how it runs its in-app tests."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from FastSAM3DSlicerLib import Registration
from Testing.slicer.conftest import ROOT


def test_sample_scans_are_offered_with_checksums_and_pictures(monkeypatch):
    offered = []
    module = types.ModuleType("SampleData")
    module.SampleDataLogic = type(
        "SampleDataLogic", (), {"registerCustomSampleDataSource": staticmethod(lambda **source: offered.append(source))}
    )
    monkeypatch.setitem(sys.modules, "SampleData", module)
    Registration.registerSampleData(str(ROOT / "FastSAM3DSlicer" / "Resources" / "Icons"))
    assert len(offered) == 2
    for source in offered:
        assert source["category"] == "FastSAM3D"
        assert Path(source["thumbnailFileName"]).is_file()
        assert source["uris"].startswith("https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/")
        assert source["checksums"] == f"SHA256:{source['uris'].rsplit('/', 1)[1]}"
        assert len(source["checksums"].removeprefix("SHA256:")) == 64


def test_startup_registers_samples_and_the_effect_file_that_exists(harness, monkeypatch):
    registered = []

    class Effect:
        def __init__(self, parent):
            assert parent is None

        def setPythonSource(self, path):
            self.path = path

        def self(self):
            return types.SimpleNamespace(register=lambda: registered.append(self.path))

    effects = types.ModuleType("qSlicerSegmentationsEditorEffectsPythonQt")
    effects.qSlicerSegmentEditorScriptedEffect = Effect
    monkeypatch.setitem(sys.modules, effects.__name__, effects)
    monkeypatch.setattr(Registration, "registerSampleData", lambda icons: registered.append(Path(icons).name))
    harness.app.startup.clear()
    _, _, widget = harness.loadModule(ROOT / "FastSAM3DSlicer" / "FastSAM3DSlicer.py")
    assert registered == []  # nothing before Slicer is up
    for function in harness.app.startup:
        function()
    assert registered[0] == "Icons"
    path = Path(registered[1])
    assert path.is_file()
    assert f"class {path.stem}(" in path.read_text(encoding="utf-8")  # Slicer looks the class up by the file's name
    harness.unload(widget)


def test_reload_and_test_finds_the_in_app_tests_and_fails_loudly(tmp_path, capfd):
    module = tmp_path / "FastSAM3DSlicer" / "FastSAM3DSlicer.py"
    tests = tmp_path / "Testing" / "slicer"
    tests.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="part of the source"):
        Registration.runInAppTests(module)
    path = tests / "FastSAM3DSlicerInAppTest.py"
    path.write_text("import unittest\nclass T(unittest.TestCase):\n    def test_x(self): self.assertTrue(True)\n")
    Registration.runInAppTests(module)
    path.write_text("import unittest\nclass T(unittest.TestCase):\n    def test_x(self): self.assertTrue(False)\n")
    with pytest.raises(RuntimeError, match="1 in-app tests failed"):
        Registration.runInAppTests(module)
    assert "False is not true" in capfd.readouterr().err


def test_the_in_app_tests_can_be_loaded(harness):
    import importlib.util
    import unittest

    path = ROOT / "Testing" / "slicer" / "FastSAM3DSlicerInAppTest.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert unittest.defaultTestLoader.loadTestsFromModule(module).countTestCases() >= 10


def test_the_balls_of_the_in_app_tests_follow_the_protocol_as_far_as_they_are_used():
    import numpy as np

    from FastSAM3DCore import Volume
    from Testing.slicer.FastSAM3DSlicerInAppTest import BallSession

    session = BallSession()
    session.set_image(Volume(np.arange(8000, dtype=np.int16).reshape(20, 20, 20)))
    update = session.add_point((10, 10, 10))
    assert update.mask.sum() == session.mask().sum() > 500
    assert session.undo().mask.sum() == 0
