"""`slicer.app`, `slicer.modules` and the rest that only the application has."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import slicer
import slicer.util
from PySide6 import QtCore, QtUiTools, QtWidgets

from Testing.mrml.scene import HeadlessScene

from . import parameters, pythonqt, scripted, widgets


class SliceView:
    """A slice widget of the layout: an interactor and a slice node."""

    def __init__(self, scene: Any, name: str):
        import vtk

        self.node = scene.AddNewNodeByClass("vtkMRMLSliceNode")
        self.node.SetLayoutName(name)
        self._interactor = vtk.vtkRenderWindowInteractor()

    def sliceView(self) -> SliceView:
        return self

    def interactor(self) -> Any:
        return self._interactor

    def mrmlSliceNode(self) -> Any:
        return self.node


class LayoutManager(QtCore.QObject):
    """The application's slice views; one manager for good, its views change with the layout."""

    layoutChanged = QtCore.Signal(int)  # noqa: N815

    def __init__(self, scene: Any):
        super().__init__()
        self._scene = scene
        self.reset()

    def reset(self) -> None:
        """The layout that Slicer starts with."""
        self._views = {name: SliceView(self._scene, name) for name in ("Red", "Green", "Yellow")}

    def addSliceViews(self, *names: str) -> None:
        """The user picks a layout with more slice views."""
        self._views |= {name: SliceView(self._scene, name) for name in names}
        self.layoutChanged.emit(0)

    def sliceViewNames(self) -> list[str]:
        return list(self._views)

    def sliceWidget(self, name: str) -> SliceView:
        return self._views[name]


class Application:
    """`slicer.app`."""

    def __init__(self, scene: Any, settings: QtCore.QSettings):
        self._scene, self._settings = scene, settings
        self._layout = LayoutManager(scene)
        self.startup: list[Any] = []

    def userSettings(self) -> QtCore.QSettings:
        return self._settings

    def layoutManager(self) -> LayoutManager:
        return self._layout

    def testingEnabled(self) -> bool:
        return True

    def connect(self, signal: str, function: Any) -> None:
        if signal == "startupCompleted()":
            self.startup.append(function)

    def newScene(self) -> None:
        """What File > Close does: empties the scene; the layout's nodes come back."""
        self._scene.Clear(0)
        self._layout.reset()
        addSingletons(self._scene)


def addSingletons(scene: Any) -> None:
    for node in (slicer.vtkMRMLInteractionNode(), slicer.vtkMRMLSelectionNode(), slicer.vtkMRMLCrosshairNode()):
        if scene.GetFirstNodeByClass(node.GetClassName()) is None:
            scene.AddNode(node)


class Harness:
    """One application per process; `newScene` between tests."""

    def __init__(self) -> None:
        self.qtApplication = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["harness"])
        self.headless = HeadlessScene()
        self.scene = self.headless.scene
        self.settingsFile = Path(tempfile.mkdtemp()) / "settings.ini"
        self.settings = QtCore.QSettings(str(self.settingsFile), QtCore.QSettings.IniFormat)
        self.app = Application(self.scene, self.settings)
        addSingletons(self.scene)

    def process(self) -> None:
        """Let Qt deliver what is due."""
        self.qtApplication.processEvents()

    def loadModule(self, path: Path) -> tuple[Any, Any, Any]:
        """Import a module file as Slicer's factory does; returns (python module, module object, widget)."""
        name = path.stem
        spec = importlib.util.spec_from_file_location(name, path)
        python = importlib.util.module_from_spec(spec)
        sys.modules[name] = python
        spec.loader.exec_module(python)
        parent = types.SimpleNamespace(path=str(path))
        module = getattr(python, name)(parent)
        setattr(slicer.modules, name.lower(), types.SimpleNamespace(path=str(path)))
        host = scripted.host()
        widget = getattr(python, f"{name}Widget")(host)
        widget.setup()
        return python, module, widget

    def unload(self, widget: Any) -> None:
        """What Slicer does when it closes, or reloads the module."""
        widget.cleanup()
        widget.parent.setMRMLScene(None)
        widget.parent.deleteLater()
        self.process()


def install() -> Harness:
    """Put the stand-ins where Slicer's modules are imported from; call before importing the module."""
    qt = pythonqt.flatModule()
    harness = Harness()

    class Loader(QtUiTools.QUiLoader):
        def __init__(self, *arguments: Any):
            super().__init__(*arguments)
            for cls in (*widgets.CTK, *widgets.QMRML):
                self.registerCustomWidget(cls)

    qt.QUiLoader = Loader
    ctk = types.ModuleType("ctk")
    for cls in widgets.CTK:
        setattr(ctk, cls.__name__, cls)
    for cls in widgets.QMRML:
        setattr(slicer, cls.__name__, cls)
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr, i18n.translate = (lambda text: text), (lambda _context, text: text)
    sys.modules |= {
        "qt": qt,
        "ctk": ctk,
        "slicer.i18n": i18n,
        "slicer.ScriptedLoadableModule": scripted.module(),
        "slicer.parameterNodeWrapper": parameters.module(),
        "SegmentEditorEffects": scripted.effectsModule(),
    }
    slicer.i18n, slicer.ScriptedLoadableModule = i18n, sys.modules["slicer.ScriptedLoadableModule"]
    slicer.parameterNodeWrapper = sys.modules["slicer.parameterNodeWrapper"]
    slicer.app, slicer.mrmlScene, slicer.modules = harness.app, harness.scene, types.SimpleNamespace()
    slicer.util.mainWindow = lambda: None
    return harness
