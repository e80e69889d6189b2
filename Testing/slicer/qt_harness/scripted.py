"""The base classes of scripted modules."""

from __future__ import annotations

import os
import types
import unittest
from typing import Any

import slicer
import slicer.util
import vtk
from PySide6 import QtWidgets


class ScriptedLoadableModule:
    def __init__(self, parent: Any):
        self.parent = parent
        self.moduleName = type(self).__name__

    def resourcePath(self, name: str) -> str:
        return os.path.join(os.path.dirname(self.parent.path), "Resources", name)

    def getDefaultModuleDocumentationLink(self, *_: Any) -> str:
        return ""


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None):
        self.parent = parent
        self.layout = parent.layout()
        self.moduleName = type(self).__name__.removesuffix("Widget")

    def setup(self) -> None:
        self.developerMode = False

    def resourcePath(self, name: str) -> str:
        return os.path.join(os.path.dirname(getattr(slicer.modules, self.moduleName.lower()).path), "Resources", name)

    def cleanup(self) -> None:
        return None


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None):
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        """The scene's one scripted module node of this module."""
        scene = slicer.mrmlScene
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLScriptedModuleNode")):
            node = scene.GetNthNodeByClass(n, "vtkMRMLScriptedModuleNode")
            if node.GetAttribute("ModuleName") == self.moduleName:
                return node
        node = slicer.vtkMRMLScriptedModuleNode()
        node.SetSingletonTag(self.moduleName)
        node.SetModuleName(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        return scene.AddNode(node)


class ScriptedLoadableModuleTest(unittest.TestCase):
    def delayDisplay(self, message: str, *_: Any) -> None:
        return None


def module() -> types.ModuleType:
    """The module `slicer.ScriptedLoadableModule`."""
    made = types.ModuleType("slicer.ScriptedLoadableModule")
    for cls in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    ):
        setattr(made, cls.__name__, cls)
    return made


def host() -> Any:
    """The widget that Slicer gives a module to fill."""
    widget = slicer.qMRMLWidget()
    widget.setLayout(QtWidgets.QVBoxLayout())
    widget.setMRMLScene(slicer.mrmlScene)
    return widget


class ScriptedEffect:
    """The C++ half of a Segment Editor effect: options frame, parameter set node, undo states, mouse mode.

    Attributes:
        effect: the Python half, once the editor has made it the active effect.
    """

    def __init__(self, editorNode: Any):
        self.effect: Any = None
        self.name = self.title = ""
        self.perSegment = self.requireSegments = False
        self.frame = QtWidgets.QWidget()
        QtWidgets.QVBoxLayout(self.frame)
        self.undoStates = 0
        self._editorNode = editorNode

    def addOptionsWidget(self, widget: Any) -> None:
        self.frame.layout().addWidget(widget)

    def parameterSetNode(self) -> Any:
        return self._editorNode

    def saveStateForUndo(self) -> None:
        self.undoStates += 1

    def selectEffect(self, effect: Any) -> None:
        """The user presses the effect's button in the editor; None for the arrow."""
        if self.effect is not None:
            self.effect.deactivate()
        self.effect = effect
        if effect is not None:
            effect.activate()

    def observeMouseMode(self, interactionNode: Any) -> int:
        """As qMRMLSegmentEditorWidget does; returns the observer's tag."""
        return interactionNode.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onMouseMode)

    def _onMouseMode(self, interactionNode: Any, _: str) -> None:
        if self.effect is None:
            return
        own = getattr(self.effect, "interactionNodeModified", None)
        if own is not None:
            own(interactionNode)
        elif interactionNode.GetCurrentInteractionMode() != interactionNode.ViewTransform:
            self.selectEffect(None)  # what the C++ class does when the Python half says nothing


class AbstractScriptedSegmentEditorEffect:
    def __init__(self, scriptedEffect: ScriptedEffect):
        self.scriptedEffect = scriptedEffect


def effectsModule() -> types.ModuleType:
    """The module `SegmentEditorEffects`."""
    made = types.ModuleType("SegmentEditorEffects")
    made.AbstractScriptedSegmentEditorEffect = AbstractScriptedSegmentEditorEffect
    return made
