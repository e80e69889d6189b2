"""A small `slicer.parameterNodeWrapper`: typed fields kept in a scripted module node, bound to widgets."""

from __future__ import annotations

import json
import types
import typing
from dataclasses import dataclass
from typing import Any

import vtk

PROPERTY = "SlicerParameterName"


@dataclass(frozen=True)
class WithinRange:
    """Refuses numbers outside."""

    minimum: float
    maximum: float

    def check(self, name: str, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{name} must be between {self.minimum} and {self.maximum}, got {value}.")


def isNode(kind: Any) -> bool:
    return isinstance(kind, type) and kind.__name__.startswith("vtkMRML")


def parameterNodeWrapper(cls: type) -> type:
    """Class decorator: fields with defaults become properties over a vtkMRMLScriptedModuleNode."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for name, hint in hints.items():
        kind = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
        checks = getattr(hint, "__metadata__", ())
        default = getattr(cls, name, None)
        setattr(cls, name, nodeField(name) if isNode(kind) else valueField(name, kind, default, checks))

    def start(self: Any, node: Any) -> None:
        self.parameterNode = node
        self._bindings = {}

    cls.__init__, cls.connectGui, cls.disconnectGui, cls.hints = start, connectGui, disconnectGui, hints
    return cls


def nodeField(name: str) -> property:
    def read(self: Any) -> Any:
        return self.parameterNode.GetNodeReference(name)

    def write(self: Any, node: Any) -> None:
        self.parameterNode.SetNodeReferenceID(name, node.GetID() if node is not None else None)

    return property(read, write)


def valueField(name: str, kind: type, default: Any, checks: tuple[Any, ...]) -> property:
    def read(self: Any) -> Any:
        text = self.parameterNode.GetParameter(name)
        return kind(json.loads(text)) if text else default

    def write(self: Any, value: Any) -> None:
        if not isinstance(value, kind | int if kind is float else kind):
            raise TypeError(f"{name} takes {kind.__name__}, got {value!r}.")
        for check in checks:
            check.check(name, value)
        self.parameterNode.SetParameter(name, json.dumps(value))

    return property(read, write)


def connectGui(self: Any, ui: Any) -> int:
    """Bind every widget that has the dynamic property; returns what `disconnectGui` takes."""
    bound = [(w, w.property(PROPERTY)) for w in vars(ui).values() if hasattr(w, "property") and w.property(PROPERTY)]
    state = {"live": True}

    def show(*_: Any) -> None:
        if state["live"]:
            for widget, name in bound:
                put(widget, getattr(self, name))

    for widget, name in bound:
        changed(widget).connect(
            lambda *_, widget=widget, name=name: setattr(self, name, get(widget)) if state["live"] else None
        )
    tag = self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, show)
    self._bindings[tag] = state
    show()
    return tag


def disconnectGui(self: Any, tag: int) -> None:
    self._bindings.pop(tag)["live"] = False
    self.parameterNode.RemoveObserver(tag)


def changed(widget: Any) -> Any:
    for signal in ("currentNodeChanged", "valueChanged", "toggled", "textChanged"):
        if hasattr(widget, signal):
            return getattr(widget, signal)
    raise TypeError(f"{type(widget).__name__} cannot be bound to a parameter.")


def get(widget: Any) -> Any:
    if hasattr(widget, "currentNodeChanged"):
        return widget.currentNode()
    if hasattr(widget, "valueChanged"):
        return widget.value
    return widget.checked if hasattr(widget, "toggled") else widget.text


def put(widget: Any, value: Any) -> None:
    if hasattr(widget, "currentNodeChanged"):
        widget.setCurrentNode(value)
    elif hasattr(widget, "valueChanged"):
        widget.setValue(value)
    elif hasattr(widget, "toggled"):
        widget.setChecked(value)
    elif widget.text != value:
        widget.setText(value)


def module() -> types.ModuleType:
    """The module `slicer.parameterNodeWrapper`."""
    made = types.ModuleType("slicer.parameterNodeWrapper")
    made.parameterNodeWrapper, made.WithinRange = parameterNodeWrapper, WithinRange
    return made
