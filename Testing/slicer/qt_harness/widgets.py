"""ctk and qMRML widgets, small but real: they follow the scene and emit the signals the panel listens to."""

# The classes and signals have the names that Slicer gives them.
# ruff: noqa: N801, N815

from __future__ import annotations

from typing import Any

import slicer
import slicer.util
from PySide6 import QtCore, QtWidgets


class ctkCollapsibleButton(QtWidgets.QWidget):
    """Title and contents; collapsing is only remembered."""

    def __init__(self, parent: Any = None):
        super().__init__(parent)
        self._text, self._collapsed = "", False

    text = QtCore.Property(str, lambda self: self._text, lambda self, value: setattr(self, "_text", value))
    collapsed = QtCore.Property(
        bool, lambda self: self._collapsed, lambda self, value: setattr(self, "_collapsed", value)
    )


class ctkSliderWidget(QtWidgets.QWidget):
    """A number in a range."""

    valueChanged = QtCore.Signal(float)

    def __init__(self, parent: Any = None):
        super().__init__(parent)
        self._value, self._range = 0.0, {"minimum": 0.0, "maximum": 99.0, "singleStep": 1.0}
        self._decimals = 2

    def setValue(self, value: float) -> None:
        value = min(max(float(value), self._range["minimum"]), self._range["maximum"])
        if value != self._value:
            self._value = value
            self.valueChanged.emit(value)

    value = QtCore.Property(float, lambda self: self._value, setValue)
    decimals = QtCore.Property(int, lambda self: self._decimals, lambda self, value: setattr(self, "_decimals", value))


def limit(name: str) -> Any:
    return QtCore.Property(
        float, lambda self: self._range[name], lambda self, value: self._range.__setitem__(name, value)
    )


for each in ("minimum", "maximum", "singleStep"):
    setattr(ctkSliderWidget, each, limit(each))


class ctkDoubleSpinBox(QtWidgets.QDoubleSpinBox):
    """Like Qt's."""


class qMRMLWidget(QtWidgets.QWidget):
    """Holds the scene and passes it on to its children, as the form's signal connections do in Slicer."""

    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, parent: Any = None):
        super().__init__(parent)
        self._scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        for child in self.findChildren(QtWidgets.QWidget):
            if child is not self and hasattr(child, "setMRMLScene"):
                child.setMRMLScene(scene)
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        return self._scene


class qMRMLNodeComboBox(QtWidgets.QComboBox):
    """Lists the scene's nodes of its types; follows nodes added, removed and renamed."""

    currentNodeChanged = QtCore.Signal(object)

    def __init__(self, parent: Any = None):
        super().__init__(parent)
        self._scene: Any = None
        self._last: str | None = None
        self._tags: list[int] = []
        self._types: list[str] = []
        self._hidden: list[str] = []
        self._flags = dict.fromkeys(("noneEnabled", "addEnabled", "removeEnabled", "renameEnabled"), False)
        self.currentIndexChanged.connect(lambda *_: self._announce())

    nodeTypes = QtCore.Property(
        "QStringList", lambda self: self._types, lambda self, v: setattr(self, "_types", list(v))
    )
    hideChildNodeTypes = QtCore.Property(
        "QStringList", lambda self: self._hidden, lambda self, v: setattr(self, "_hidden", list(v))
    )

    def setMRMLScene(self, scene: Any) -> None:
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._scene, self._tags = scene, []
        if scene is not None:
            events = (slicer.vtkMRMLScene.NodeAddedEvent, slicer.vtkMRMLScene.NodeRemovedEvent)
            self._tags = [scene.AddObserver(event, lambda *_: self._fill()) for event in events]
            self._fill()

    def currentNode(self) -> Any:
        nodeId = self.itemData(QtCore.QObject.property(self, "currentIndex"))
        return self._scene.GetNodeByID(nodeId) if self._scene is not None and nodeId else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentIndex(self.findData(node.GetID() if node is not None else ""))

    def _fill(self) -> None:
        current = self.itemData(QtCore.QObject.property(self, "currentIndex"))
        self.blockSignals(True)
        self.clear()
        if self._flags["noneEnabled"]:
            self.addItem("None", "")
        for className in self._types:
            for node in slicer.util.getNodesByClass(className, self._scene):
                if not node.GetHideFromEditors():
                    self.addItem(node.GetName(), node.GetID())
        index = self.findData(current) if current else -1
        self.setCurrentIndex(index if index >= 0 else 0)
        self.blockSignals(False)
        self._announce()

    def _announce(self) -> None:
        node = self.currentNode()
        nodeId = node.GetID() if node is not None else None
        if nodeId != self._last:
            self._last = nodeId
            self.currentNodeChanged.emit(node)


def flag(name: str) -> Any:
    return QtCore.Property(
        bool, lambda self: self._flags[name], lambda self, value: self._flags.__setitem__(name, value)
    )


for each in ("noneEnabled", "addEnabled", "removeEnabled", "renameEnabled"):
    setattr(qMRMLNodeComboBox, each, flag(each))


class qMRMLSegmentsTableView(qMRMLWidget):
    """The segments of a segmentation, of which some are selected."""

    selectionChanged = QtCore.Signal(object, object)

    def __init__(self, parent: Any = None):
        super().__init__(parent)
        self._node: Any = None
        self._selected: list[str] = []

    def setSegmentationNode(self, node: Any) -> None:
        self._node = node

    def segmentationNode(self) -> Any:
        return self._node

    def selectedSegmentIDs(self) -> list[str]:
        return list(self._selected)

    def setSelectedSegmentIDs(self, ids: list[str]) -> None:
        if list(ids) != self._selected:
            self._selected = list(ids)
            self.selectionChanged.emit(None, None)


CTK = (ctkCollapsibleButton, ctkSliderWidget, ctkDoubleSpinBox)
QMRML = (qMRMLWidget, qMRMLNodeComboBox, qMRMLSegmentsTableView)
