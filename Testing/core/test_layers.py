"""The layer rule: a lower layer never imports a higher one, and only three files of the Slicer layer see the app."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "FastSAM3DCore"
LIB = ROOT / "FastSAM3DSlicer" / "FastSAM3DSlicerLib"
WEB = ROOT / "FastSAM3DSlicer" / "FastSAM3DWeb"

APPLICATION_FILES = {"Widget.py", "ParameterNode.py", "InstallLogic.py"}
QT = {"qt", "ctk", "PythonQt", "PySide6"}
# What the MRML layer may import beside the standard library.
MRML_LAYER = {"numpy", "vtk", "slicer", "FastSAM3DCore"}
# Attributes of `slicer` that only the application has.
APPLICATION_ATTRIBUTES = {"app", "modules", "mrmlScene"}
STANDARD_LIBRARY = set(sys.stdlib_module_names)
# Slicer's own modules that are looked up inside a function, after startup, by the file that registers with them.
REGISTRATION = {"SampleData", "qSlicerSegmentationsEditorEffectsPythonQt"}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Top-level names of everything a file imports, with the line; relative imports are left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0], node.lineno


def found(folder: Path, forbidden: set[str], skip: set[str] = frozenset()) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sorted(folder.rglob("*.py"))
        if path.name not in skip
        for name, line in imports(path)
        if name in forbidden
    ]


def test_the_engine_imports_nothing_of_slicer_vtk_or_qt():
    assert (
        found(CORE, {"slicer", "vtk", "vtkmodules", "trame", "trame_slicer", "FastSAM3DSlicerLib", "FastSAM3DWeb"} | QT)
        == []
    )


def test_the_mrml_layer_imports_numpy_vtk_slicer_and_the_engine_only():
    allowed = MRML_LAYER | STANDARD_LIBRARY
    strangers = [
        f"{path.name}:{line} imports {name}"
        for path in sorted(LIB.glob("*.py"))
        if path.name not in APPLICATION_FILES
        for name, line in imports(path)
        if name not in allowed and not (path.name == "Registration.py" and name in REGISTRATION)
    ]
    assert strangers == []


def test_the_mrml_layer_takes_of_the_engine_only_values_errors_and_the_protocol():
    allowed = {f"FastSAM3DCore.{name}" for name in ("types", "errors", "prompts", "protocol")}
    for path in sorted(LIB.glob("*.py")):
        if path.name in APPLICATION_FILES:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("FastSAM3DCore"):
                assert node.module in allowed, f"{path.name}:{node.lineno} {node.module}"


def test_the_mrml_layer_never_touches_the_global_scene_or_the_application():
    for path in sorted(LIB.glob("*.py")):
        if path.name in APPLICATION_FILES:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            touches = (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "slicer"
                and node.attr in APPLICATION_ATTRIBUTES
            )
            assert not touches, f"{path.name}:{node.lineno} slicer.{node.attr}"


def test_nothing_above_the_engine_is_imported_by_something_below_it():
    above = {"FastSAM3DWeb", "FastSAM3DSlicer", "SegmentEditorFastSAM3DLib"}
    assert found(LIB, above) == []
    assert found(WEB, QT | {"FastSAM3DSlicer"}) == []


def test_no_file_of_the_slicer_layer_imports_torch():
    assert found(LIB, {"torch"}) == []


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        ("import qt", True),
        ("from vtk.util import x", True),
        ("def f():\n    import slicer.util", True),
        ("import os", False),
    ],
)
def test_the_check_itself_sees_imports_wherever_they_are(tmp_path, source, caught):
    (tmp_path / "x.py").write_text(source)
    names = {name for name, _ in imports(tmp_path / "x.py")}
    assert bool(names & (QT | {"slicer", "vtk"})) == caught
