"""A flat `qt` module as PythonQt offers it: every Qt property is an attribute, setters stay."""

from __future__ import annotations

import os
import types
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets


def flatModule() -> types.ModuleType:
    """The `qt` module."""
    qt = types.ModuleType("qt")
    for module in (QtCore, QtGui, QtWidgets):
        for name in dir(module):
            if not name.startswith("_"):
                setattr(qt, name, getattr(module, name))
    for cls in qtClasses(QtCore.QObject):
        exposeProperties(cls)
    QtCore.QObject.name = QtCore.QObject.objectName
    qt.QUiLoader = QtUiTools.QUiLoader
    return qt


def qtClasses(root: type) -> list[type]:
    """All PySide6 classes below a class, itself included."""
    found, queue = [], [root]
    while queue:
        cls = queue.pop()
        if cls in found or not hasattr(cls, "staticMetaObject"):
            continue
        found.append(cls)
        queue += [c for c in cls.__subclasses__() if c.__module__.startswith("PySide6")]
    return found


def exposeProperties(cls: type) -> None:
    """`widget.checked` instead of `widget.isChecked()`, as in PythonQt."""
    meta = cls.staticMetaObject
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        name = meta.property(index).name()
        if (cls.__name__, name) == ("QTimer", "singleShot"):
            continue  # also a static function, which must stay callable

        def read(self: Any, name: str = name) -> Any:
            return QtCore.QObject.property(self, name)

        def write(self: Any, value: Any, name: str = name) -> None:
            if not QtCore.QObject.setProperty(self, name, value):
                raise TypeError(f"{value!r} is no value for the property {name}.")

        setattr(cls, name, property(read, write))
    if hasattr(cls, "currentData") and issubclass(cls, QtWidgets.QComboBox):
        cls.currentData = property(lambda self: self.itemData(QtCore.QObject.property(self, "currentIndex")))
