"""The file lists of the CMakeLists: what the extension ships, and how it lies once installed.

python -m Testing.slicer.packaging_lists            says what is missing or gone
python -m Testing.slicer.packaging_lists --write    brings the lists up to date
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The browser app runs outside Slicer; build by-products and Slicer's own translations are not ours to list.
LEFT_OUT = {"__pycache__", "FastSAM3DWeb", "CMakeLists.txt", "TUTORIAL.md"}
# Files of Resources/ that are for the repository and the Extensions Index, not for the installed extension.
REPOSITORY_ONLY = {"Icons", "Screenshots", "ExtensionsIndex", "training"}


def shipped(folder: Path) -> list[str]:
    """Files below a folder that an installation needs, as paths relative to it."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in files if not LEFT_OUT & set(path.parts) and path.suffix != ".pyc")


def wanted() -> dict[tuple[Path, str], list[str]]:
    """What every list must hold: {(CMakeLists, variable): files}."""
    core, module = shipped(ROOT / "FastSAM3DCore"), shipped(ROOT / "FastSAM3DSlicer")
    resources = [
        f"Resources/{file}" for file in shipped(ROOT / "Resources") if file.split("/")[0] not in REPOSITORY_ONLY
    ]
    lists: dict[tuple[Path, str], list[str]] = {(ROOT / "CMakeLists.txt", "FASTSAM3D_RESOURCES"): resources}
    for folder, files in ((ROOT / "FastSAM3DCore", core), (ROOT / "FastSAM3DSlicer", module)):
        path = folder / "CMakeLists.txt"
        lists[(path, "MODULE_PYTHON_SCRIPTS")] = [file for file in files if file.endswith(".py")]
        lists[(path, "MODULE_PYTHON_RESOURCES")] = [file for file in files if not file.endswith(".py")]
    return lists


def pattern(variable: str) -> re.Pattern[str]:
    return re.compile(rf"(set\({variable}\n)((?:  [^\n()]+\n)*)(  \))")


def listed(path: Path, variable: str) -> list[str]:
    """The entries of one list."""
    match = pattern(variable).search(path.read_text(encoding="utf-8"))
    if match is None:
        raise ValueError(f"{path} has no list {variable}.")
    return [line.strip() for line in match[2].splitlines()]


def write() -> None:
    """Bring all lists up to date."""
    for (path, variable), files in wanted().items():
        entries = "".join(f"  {file}\n" for file in files)
        text = pattern(variable).sub(lambda m, entries=entries: m[1] + entries + m[3], path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")


def differences() -> list[str]:
    """One line per file that is shipped but not listed, or listed but not there."""
    lines = []
    for (path, variable), files in wanted().items():
        have, where = listed(path, variable), f"{path.relative_to(ROOT)} {variable}"
        lines += [f"{where}: {file} is not listed" for file in files if file not in have]
        lines += [f"{where}: {file} does not exist" for file in have if file not in files]
    return lines


def assemble(target: Path) -> Path:
    """An installed tree made from the lists alone; returns Slicer's folder of scripted modules in it."""
    modules = target / "lib" / "Slicer-5.10" / "qt-scripted-modules"
    for (path, variable), _ in wanted().items():
        # slicerMacroBuildScriptedModule: WITH_SUBDIR keeps the folder's name, without it files lie at the top.
        below = modules / "FastSAM3DCore" if path.parent.name == "FastSAM3DCore" else modules
        for file in listed(path, variable):
            (below / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path.parent / file, below / file)
    return modules


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        write()
    lines = differences()
    print("\n".join(lines) or "All shipped files are listed.")
    sys.exit(1 if lines else 0)


if __name__ == "__main__":
    main()
