"""The module's panel in the harness: one Qt application per process, a fresh scene per test."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import PySide6

from Testing.core.fakes import FakeSession
from Testing.slicer import qt_harness

if sys.version_info < (3, 12) and PySide6.__version_info__ >= (6, 11):
    # It drops a reference to None at every call that returns nothing; before Python 3.12 that ends the process
    # ("deallocating None") after some thousand calls. 6.10.3 does not.
    pytest.skip("PySide6 6.11 and later needs Python 3.12", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def harness() -> qt_harness.Harness:
    return qt_harness.install()


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """VTK and Qt print and swallow exceptions raised in callbacks: no test may leave one behind."""
    yield
    assert "Traceback" not in capfd.readouterr().err


class Installer:
    """Everything is installed; remembers what was asked."""

    def __init__(self) -> None:
        self.answer, self.asked, self.resuming = True, 0, False
        self.opened: list[tuple[str, ...]] = []
        self.sessions: list[FakeSession] = []
        self.open: Callable[[], FakeSession] = FakeSession

    def ensure(self, again: bool = False) -> bool:
        self.asked += 1
        return self.answer

    def models(self) -> dict[str, tuple[str, str]]:
        return {
            "default": ("The bundled one.", "Apache-2.0"),
            "fastsam3d": ("Published.", '<a href="x">Apache-2.0</a>'),
        }

    def openSession(self, *engine: str) -> FakeSession:
        self.opened.append(engine)
        self.sessions.append(self.open())
        return self.sessions[-1]

    def proveDevice(self, device: str) -> str:
        return f"{device}: proved"

    def removeDownloads(self) -> str:
        return "1 model removed, 600 MB freed."

    def importWeights(self, path: str) -> str:
        return "fastsam3d"


@pytest.fixture
def panel(harness: qt_harness.Harness, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module opened on a scan, with a predictable session."""
    from FastSAM3DSlicerLib import Widget

    installer = Installer()
    original = Widget.Panel
    monkeypatch.setattr(Widget, "Panel", lambda form, parameters, _installer: original(form, parameters, installer))
    harness.app.newScene()
    harness.settings.clear()
    _, module, widget = harness.loadModule(ROOT / "FastSAM3DSlicer" / "FastSAM3DSlicer.py")
    voxels = np.random.default_rng(0).integers(0, 99, (30, 50, 60)).astype(np.int16)
    scan = harness.headless.addVolume(voxels)
    widget.enter()
    made = SimpleNamespace(
        harness=harness,
        module=module,
        widget=widget,
        panel=widget.panel,
        ui=widget.panel.ui,
        controller=widget.panel.controller,
        logic=widget.panel.controller.logic,
        installer=installer,
        scan=scan,
        scene=harness.scene,
        parameters=lambda: widget.panel._parameters,
    )

    def settle(seconds: float = 10.0) -> None:
        """Let the timers and the worker finish."""
        end = time.monotonic() + seconds
        harness.process()
        while made.controller.runner.busy:
            assert time.monotonic() < end, "the worker did not finish"
            harness.process()
            time.sleep(0.002)
        harness.process()

    made.settle = settle
    settle()
    yield made
    harness.unload(widget)


@pytest.fixture
def ready(panel: Any) -> Any:
    """The scan chosen, the point tool in hand."""
    from PySide6.QtCore import Qt
    from PySide6.QtTest import QTest

    panel.parameters().volume = panel.scan
    QTest.mouseClick(panel.ui.pointButton, Qt.LeftButton)
    panel.settle()
    return panel
