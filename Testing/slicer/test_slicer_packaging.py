"""The extension as it would be built and installed: lists, metadata, index entry, installed tree."""

from __future__ import annotations

import ast
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from Testing.slicer import packaging_lists
from Testing.slicer.packaging_lists import ROOT

CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")


def metadata(name):
    return re.search(rf'set\(EXTENSION_{name} "([^"]*)"\)', CMAKE)[1]


def test_every_shipped_file_is_listed_and_every_listed_file_exists():
    assert packaging_lists.differences() == [], "run: python -m Testing.slicer.packaging_lists --write"


def test_a_new_file_that_nobody_listed_is_found():
    stray = ROOT / "FastSAM3DSlicer" / "FastSAM3DSlicerLib" / "StrayForTest.py"
    stray.write_text("")
    try:
        assert any("StrayForTest.py is not listed" in line for line in packaging_lists.differences())
    finally:
        stray.unlink()


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return packaging_lists.assemble(tmp_path_factory.mktemp("installed"))


def run(code, path):
    """Python code with only the installed tree on the path, from elsewhere."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(path)!r})\n{code}"]
    environment = {"PATH": "", "QT_QPA_PLATFORM": "offscreen", "HOME": str(path)}
    return subprocess.run(command, capture_output=True, text=True, cwd=path, env=environment, check=False)


def test_the_installed_tree_runs_the_logic(installed):
    result = run(
        """
import numpy as np, slicer, FastSAM3DCore, FastSAM3DSlicerLib
assert FastSAM3DCore.__file__.startswith(sys.path[0]), FastSAM3DCore.__file__
assert FastSAM3DSlicerLib.__file__.startswith(sys.path[0])
assert "torch" not in sys.modules and "qt" not in sys.modules
from FastSAM3DCore import MaskUpdate, VoxelBox
from FastSAM3DSlicerLib import SegmentationLogic
from FastSAM3DSlicerLib.PromptSync import PromptSync
import vtk
from vtk.util.numpy_support import numpy_to_vtk
class Session:
    prompts = ()
    def set_image(self, volume): self.shape = volume.shape_ijk
    def set_threshold(self, p): return MaskUpdate(VoxelBox.empty(), np.zeros((0, 0, 0), np.uint8))
    def add_point(self, p, positive):
        c = [round(v) for v in p]
        box = VoxelBox([v - 2 for v in c], [v + 3 for v in c])
        return MaskUpdate(box, np.ones((5, 5, 5), np.uint8), prompt_id=1)
scene = slicer.vtkMRMLScene()
logics = slicer.vtkSlicerSegmentationsModuleLogic(); logics.SetMRMLScene(scene)
volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "V")
image = vtk.vtkImageData(); image.SetDimensions(20, 20, 20)
image.GetPointData().SetScalars(numpy_to_vtk(np.arange(8000, dtype=np.int16), 1))
volume.SetAndObserveImageData(image)
logic = SegmentationLogic(scene, Session())
logic.setVolume(volume)
logic.addSegment(scene.AddNewNodeByClass("vtkMRMLSegmentationNode"), "S")
sync = PromptSync(logic)
sync.pointsNode(True).AddControlPointWorld(10, 10, 10)
print("voxels", int(logic.active.image().ownContent().sum()))
""",
        installed,
    )
    assert "voxels 125" in result.stdout, result.stderr


def test_the_installed_engine_finds_its_resources(installed):
    result = run(
        """
from FastSAM3DCore.resources import resource_path
from FastSAM3DCore.weights.manifest import load_manifest
print(resource_path("models.json"), sorted(load_manifest()))
""",
        installed,
    )
    assert str(installed / "Resources" / "models.json") in result.stdout, result.stderr
    assert "default" in result.stdout


def test_a_source_checkout_finds_the_engine_beside_the_module():
    code = "import FastSAM3DSlicerLib, FastSAM3DCore; print(FastSAM3DCore.__file__)"
    result = run(code, ROOT / "FastSAM3DSlicer")
    assert str(ROOT / "FastSAM3DCore") in result.stdout, result.stderr


def test_ctest_finds_the_in_app_test(tmp_path):
    """`slicer_add_python_unittest` imports a script by its name, from its folder as it is written in the list."""
    source = ROOT / "Testing"
    (script,) = re.findall(r"SCRIPT (\S+)\)", (source / "CMakeLists.txt").read_text(encoding="utf-8"))
    path = Path(script.replace("${CMAKE_CURRENT_SOURCE_DIR}", str(source)))
    code = f"""
import sys, unittest
sys.path.insert(0, {str(path.parent)!r})
print("tests", unittest.defaultTestLoader.loadTestsFromName({path.stem!r}).countTestCases())
"""
    result = run(code, tmp_path)
    assert re.search(r"tests \d{1,2}\n", result.stdout), result.stderr
    assert "_FailedTest" not in result.stdout
    assert int(result.stdout.split()[-1]) >= 10


def test_only_the_module_itself_lies_where_slicer_takes_files_for_modules(installed):
    assert [path.name for path in installed.glob("*.py")] == ["FastSAM3DSlicer.py"]


def test_the_module_file_is_short_and_loads_nothing_heavy():
    source = (ROOT / "FastSAM3DSlicer" / "FastSAM3DSlicer.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 120
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.parse(source).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {name.split(".")[0] for name in imported} <= {"__future__", "pathlib", "slicer"}


def test_the_index_entry_has_the_fields_that_the_schema_allows_and_agrees_with_cmake():
    path = ROOT / "Resources" / "ExtensionsIndex" / "FastSAM3DSlicer.json"
    raw = path.read_bytes()
    entry = json.loads(raw)
    assert b"\r" not in raw
    assert {"$schema", "category", "scm_url"} <= set(entry)
    assert set(entry) <= {
        "$schema",
        "category",
        "scm_url",
        "scm_revision",
        "scm_type",
        "build_dependencies",
        "build_subdirectory",
        "enabled",
        "tier",
    }
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.1.json#")
    assert entry["category"] == "Segmentation"
    assert 1 <= entry["tier"] <= 5
    assert entry["build_dependencies"] == [metadata("DEPENDS")] == ["PyTorch"]
    assert entry["scm_url"] == f"{metadata('HOMEPAGE')}.git"
    assert re.fullmatch(r"https://[^/]+/[^/]+/Slicer[^/]*\.git", entry["scm_url"])
    assert path.stem == re.search(r"project\((\w+)\)", CMAKE)[1]
    assert not path.stem.startswith("Slicer")


def test_icon_and_screenshot_urls_point_into_the_repository():
    for name in ("ICONURL", "SCREENSHOTURLS"):
        for url in metadata(name).split():
            prefix = f"https://raw.githubusercontent.com/{metadata('HOMEPAGE').split('github.com/')[1]}/main/"
            assert url.startswith(prefix)
            assert (ROOT / url.removeprefix(prefix)).is_file(), url


def size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n", path
    return struct.unpack(">II", data[16:24])


def test_icons_have_the_sizes_slicer_expects():
    icons = ROOT / "FastSAM3DSlicer" / "Resources" / "Icons"
    assert (
        size(icons / "FastSAM3DSlicer.png") == size(ROOT / "Resources" / "Icons" / "FastSAM3DSlicer.png") == (128, 128)
    )
    for name in ("MR-head", "CT-chest"):
        assert size(icons / f"{name}.png") == (260, 280)


def test_every_widget_that_the_panel_uses_is_in_the_form():
    form = (ROOT / "FastSAM3DSlicer" / "Resources" / "UI" / "FastSAM3DSlicer.ui").read_text(encoding="utf-8")
    names = set(re.findall(r'<widget class="\w+" name="(\w+)">', form))
    lib = ROOT / "FastSAM3DSlicer" / "FastSAM3DSlicerLib"
    used = set()
    for file in ("Widget.py", "PanelState.py", "EnginePanel.py"):
        used |= set(re.findall(r"\bui\.(\w+)", (lib / file).read_text(encoding="utf-8")))
    assert used <= names
    parameters = set(re.findall(r'SlicerParameterName" stdset="0">\s*<string notr="true">(\w+)', form))
    fields = re.findall(r"^    (\w+): ", (lib / "ParameterNode.py").read_text(encoding="utf-8"), re.M)
    assert parameters
    assert parameters <= set(fields)


def test_words_that_the_user_sees_can_be_translated():
    """String literals given to setText, say and the like in the panel go through `_()`."""
    source = (ROOT / "FastSAM3DSlicer" / "FastSAM3DSlicerLib" / "Widget.py").read_text(encoding="utf-8")
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") in {"setText", "say", "FastSAM3DError"}:
            for argument in call.args:
                spoken = isinstance(argument, ast.Constant) and isinstance(argument.value, str) and argument.value
                assert not spoken, ast.unparse(call)


def test_the_index_of_files_names_no_folder_twice(tmp_path):
    modules = packaging_lists.assemble(tmp_path)
    assert (modules / "FastSAM3DCore" / "modeling" / "__init__.py").is_file()
    assert (modules / "FastSAM3DSlicerLib" / "__init__.py").is_file()
    assert not (modules / "FastSAM3DWeb").exists()
    assert Path(modules / "Resources" / "UI" / "FastSAM3DSlicer.ui").is_file()


def test_the_tutorial_shows_pictures_that_exist_and_keys_that_are_right():
    from FastSAM3DSlicerLib.Shortcuts import DEFAULTS

    path = ROOT / "FastSAM3DSlicer" / "TUTORIAL.md"
    text = path.read_text(encoding="utf-8")
    pictures = re.findall(r"\]\(([^)]+\.png)\)", text)
    assert len(pictures) >= 6
    for picture in pictures:
        assert size((path.parent / picture).resolve())[0] >= 400
    keys = {action: key for action, (key, _) in DEFAULTS.items()}
    saying = {
        "point": "(key A)",
        "sign": "(key T",
        "box": "box (B)",
        "next": "**Next segment** (E)",
        "accept": "next* (K)",
    }
    for action, said in saying.items():
        assert keys[action] in said
        assert said in text
