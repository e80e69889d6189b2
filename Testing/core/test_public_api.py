"""The package's surface: names, lazy import, errors, and what the wheel carries."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import FastSAM3DCore
from FastSAM3DCore import errors

ROOT = Path(__file__).parents[2]


def test_exported_names_are_sorted_few_and_importable():
    assert FastSAM3DCore.__all__ == sorted(FastSAM3DCore._EXPORTS)
    assert len(FastSAM3DCore.__all__) <= 15
    for name in FastSAM3DCore.__all__:
        assert getattr(FastSAM3DCore, name).__name__ == name


def test_importing_the_package_loads_no_heavy_library_and_starts_no_thread():
    code = (
        "import sys, threading, FastSAM3DCore\n"
        "heavy = {'torch', 'numpy', 'SimpleITK', 'requests', 'typer', 'rich', 'vtk', 'slicer'} & set(sys.modules)\n"
        "print(sorted(heavy), threading.active_count())"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[] 1"


@pytest.mark.parametrize(("chosen", "found"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_torchs_threads_wait_without_spinning_unless_the_user_chose_otherwise(chosen, found):
    code = (
        "import os, sys, FastSAM3DCore\n"
        "assert 'torch' not in sys.modules\n"
        "import FastSAM3DCore.cli, FastSAM3DCore.engine, torch\n"
        "print(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {} if chosen is None else {"OMP_WAIT_POLICY": chosen}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == found


def test_a_missing_name_is_an_attribute_error():
    assert not hasattr(FastSAM3DCore, "no_such_name")


def test_every_error_is_listed_documented_and_has_an_http_status():
    classes = {c.__name__: c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)}
    assert sorted(classes) == errors.__all__
    for name, cls in classes.items():
        assert issubclass(cls, errors.FastSAM3DError)
        assert 400 <= cls.http_status < 600
        assert name in errors.__doc__
        assert cls.__doc__


def test_the_wheel_lists_every_package_of_the_tree():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = settings["package-dir"]
    listed = set(settings["packages"])
    expected = {"FastSAM3DCore._resources"}
    for package in ("FastSAM3DCore", "FastSAM3DSlicerLib", "FastSAM3DWeb"):
        root = ROOT / folders[package]
        for init in root.rglob("__init__.py"):
            relative = init.parent.relative_to(root).parts
            expected.add(".".join((package, *relative)))
    assert listed == expected
    for package in listed:
        if package in folders:
            assert (ROOT / folders[package]).is_dir()
