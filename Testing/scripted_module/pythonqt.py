"""A thin PythonQt over PySide6, so that the panel runs without desktop Slicer.

PythonQt makes Qt properties attributes and connects signals by their signatures in text. Widgets
of Slicer and CTK are stood in for by plain Qt widgets with the same properties, signals and
slots. What is not a property, signal, slot or method of a widget cannot be set on it: PythonQt
refuses that too. It proves names, wiring and enabling, not PythonQt's overloads.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import types
from functools import cache
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import shiboken6
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

#: Virtual methods that C++ asks for: as attributes they would hide what it looks for.
_KEPT_METHODS = frozenset({"sizeHint", "minimumSizeHint", "metaObject"})
_SIGNATURE = re.compile(r"^(\w+)\((.*)\)$")


def _property(name: str) -> property:
    def read(self: Any) -> Any:
        return self.property(name)

    def write(self: Any, value: Any) -> None:
        if not self.setProperty(name, value):
            raise ValueError(f"{type(self).__name__}.{name} cannot be set to {value!r}")

    return property(read, write)


class _Adapted:
    """What PythonQt adds to a QObject."""

    def __getattribute__(self, name: str) -> Any:
        # PySide answers for "connect" before Python's own way of looking is asked.
        return super().__getattribute__("_connect" if name == "connect" else name)

    def _connect(self, signature: str, function: Any) -> None:
        """Connects a signal that is named as Qt's SIGNAL macro names it."""
        name, arguments = _SIGNATURE.match(signature).groups()
        signal = getattr(self, name)
        known = {
            bytes(self.metaObject().method(index).methodSignature()).decode()
            for index in range(self.metaObject().methodCount())
        }
        # Python's signals carry nodes as objects.
        if signature.replace("vtkMRMLNode*", "PyObject").replace(" ", "") not in known:
            raise ValueError(f"{type(self).__name__} has no signal {signature}")
        if arguments:
            with contextlib.suppress(KeyError, IndexError):
                signal = signal[_types(arguments)]
        signal.connect(function)

    @property
    def name(self) -> str:
        """PythonQt's other word for objectName."""
        return self.objectName

    def className(self) -> str:
        """Of the metaobject."""
        return type(self).__name__

    def __setattr__(self, name: str, value: Any) -> None:
        # PySide's loader makes children attributes of the outermost widget.
        known = name.startswith("_") or hasattr(type(self), name)
        if not known and not isinstance(value, QtCore.QObject):
            raise AttributeError(f"{type(self).__name__} has no property {name}")
        super().__setattr__(name, value)


def _types(arguments: str) -> Any:
    kinds = {"int": int, "bool": bool, "double": float, "QString": str}
    found = tuple(kinds.get(argument.strip(), object) for argument in arguments.split(","))
    return found[0] if len(found) == 1 else found


@cache
def adapt(kind: type) -> type:
    """The class with its properties as attributes."""
    meta = kind.staticMetaObject
    names = [meta.property(index).name() for index in range(meta.propertyCount())]
    # Properties that a stand-in declares are attributes already.
    attributes = {
        name: _property(name)
        for name in names
        if name not in _KEPT_METHODS
        # Virtual there, and there alone.
        and not (name == "text" and issubclass(kind, QtWidgets.QProgressBar))
        and not (name == "spacing" and issubclass(kind, QtWidgets.QLayout))
        and not isinstance(getattr(kind, name, None), QtCore.Property)
    }
    return type(kind.__name__, (_Adapted, kind), attributes)


class _SceneWidget(QtWidgets.QWidget):
    mrmlSceneChanged = QtCore.Signal("vtkMRMLScene*")

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        for selector in self.findChildren(_NodeComboBox):
            # In the .ui file the signal is connected to each of them.
            selector.setMRMLScene(scene)


class _NodeComboBox(QtWidgets.QWidget):
    """As qMRMLNodeComboBox: the scene's nodes of some classes, and none."""

    currentNodeChanged = QtCore.Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._types: list[str] = []
        self._none = False
        self._flags: dict[str, Any] = {}
        self._attributes: list[tuple[str, str]] = []
        self._scene: Any = None
        self._tags: list[int] = []
        self._nodes: list[Any] = []
        self._current: Any = None
        self._combo = QtWidgets.QComboBox(self)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._combo)
        self._combo.currentIndexChanged.connect(self._on_index)

    def addAttribute(self, _class: str, name: str, value: str) -> None:
        self._attributes.append((name, value))
        self._fill()

    @QtCore.Slot("vtkMRMLScene*")
    def setMRMLScene(self, scene: Any) -> None:
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._scene = scene
        self._tags = []
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent):
                self._tags.append(scene.AddObserver(event, lambda *_: self._fill()))
        self._fill()

    def mrmlScene(self) -> Any:
        return self._scene

    def currentNode(self) -> Any:
        return self._current

    def setCurrentNode(self, node: Any) -> None:
        if node is not None and not any(node is known for known in self._nodes):
            node = None
        if node is None and not self._none and self._nodes:
            node = self._nodes[0]
        if node is not self._current:
            self._current = node
            self._show()
            self.currentNodeChanged.emit(node)

    def _fill(self) -> None:
        # The scene's observers outlive a selector that Qt has deleted.
        if self._scene is None or not shiboken6.isValid(self._combo):
            return
        every = [self._scene.GetNthNode(i) for i in range(self._scene.GetNumberOfNodes())]
        self._nodes = [
            node
            for node in every
            if node.GetClassName() in self._types
            and not node.GetHideFromEditors()
            and all(node.GetAttribute(name) == value for name, value in self._attributes)
        ]
        gone = self._current is not None and not any(self._current is n for n in self._nodes)
        if gone or (self._current is None and not self._none and self._nodes):
            self._current = object()
            self.setCurrentNode(None)
        self._show()

    def _show(self) -> None:
        self._combo.blockSignals(True)
        self._combo.clear()
        self._shown = ([None] if self._none else []) + self._nodes
        for node in self._shown:
            self._combo.addItem("None" if node is None else node.GetName())
        for index, node in enumerate(self._shown):
            if node is self._current:
                self._combo.setCurrentIndex(index)
        self._combo.blockSignals(False)

    def _on_index(self, index: int) -> None:
        self.setCurrentNode(self._shown[index])

    def _get_types(self) -> list[str]:
        return self._types

    def _set_types(self, value: list[str]) -> None:
        self._types = list(value)
        self._fill()

    def _get_none(self) -> bool:
        return self._none

    def _set_none(self, value: bool) -> None:
        self._none = value
        self._fill()

    nodeTypes = QtCore.Property("QStringList", _get_types, _set_types)
    noneEnabled = QtCore.Property(bool, _get_none, _set_none)


def _flag(name: str, default: Any = False) -> Any:
    def read(self: Any) -> Any:
        return self._flags.get(name, default)

    def write(self: Any, value: Any) -> None:
        self._flags[name] = value

    return QtCore.Property(type(default), read, write)


class _FlaggedNodeComboBox(_NodeComboBox):
    showChildNodeTypes = _flag("showChildNodeTypes")
    addEnabled = _flag("addEnabled", True)
    removeEnabled = _flag("removeEnabled", True)
    renameEnabled = _flag("renameEnabled")


class _CollapsibleButton(QtWidgets.QGroupBox):
    """As ctkCollapsibleButton: contents below a title that hides them."""

    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._collapsed = False
        self._hidden: list[Any] = []

    def _get_text(self) -> str:
        return self.property("title")

    def _set_text(self, value: str) -> None:
        self.setProperty("title", value)

    def _get_collapsed(self) -> bool:
        return self._collapsed

    def _set_collapsed(self, value: bool) -> None:
        if value != self._collapsed:
            self._collapsed = value
            self.setMaximumHeight(24 if value else 16777215)
            self.contentsCollapsed.emit(value)

    text = QtCore.Property(str, _get_text, _set_text)
    collapsed = QtCore.Property(bool, _get_collapsed, _set_collapsed)


class _PathLineEdit(QtWidgets.QWidget):
    """As ctkPathLineEdit."""

    currentPathChanged = QtCore.Signal(str)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._flags: dict[str, Any] = {}
        self._edit = QtWidgets.QLineEdit(self)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._edit)
        row.addWidget(QtWidgets.QPushButton("…", self))
        self._edit.textChanged.connect(self.currentPathChanged)

    def _get(self) -> str:
        return self._edit.text()

    def _set(self, value: str) -> None:
        self._edit.setText(value)

    currentPath = QtCore.Property(str, _get, _set)
    settingKey = _flag("settingKey", "")


class _SliderWidget(QtWidgets.QWidget):
    """As ctkSliderWidget."""

    valueChanged = QtCore.Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._box = QtWidgets.QDoubleSpinBox(self)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Horizontal, self)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider)
        row.addWidget(self._box)
        self._box.valueChanged.connect(self._on_value)

    def _on_value(self, value: float) -> None:
        span = self._box.maximum() - self._box.minimum() or 1.0
        self._slider.setValue(round(99 * (value - self._box.minimum()) / span))
        self.valueChanged.emit(value)


def _of_box(name: str, kind: type) -> Any:
    def read(self: Any) -> Any:
        return self._box.property(name)

    def write(self: Any, value: Any) -> None:
        self._box.setProperty(name, value)

    return QtCore.Property(kind, read, write)


class _FullSliderWidget(_SliderWidget):
    value = _of_box("value", float)
    minimum = _of_box("minimum", float)
    maximum = _of_box("maximum", float)
    singleStep = _of_box("singleStep", float)
    decimals = _of_box("decimals", int)


_STANDINS = {
    "qMRMLWidget": _SceneWidget,
    "qMRMLNodeComboBox": _FlaggedNodeComboBox,
    "ctkCollapsibleButton": _CollapsibleButton,
    "ctkCollapsibleGroupBox": _CollapsibleButton,
    "ctkPathLineEdit": _PathLineEdit,
    "ctkSliderWidget": _FullSliderWidget,
}


def _standin(name: str) -> type:
    kind = adapt(_STANDINS[name])
    kind.__name__ = name
    return kind


class _Loader(QtUiTools.QUiLoader):
    """Loads .ui files into adapted widgets."""

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        kind = _standin(class_name) if class_name in _STANDINS else qt_class(class_name)
        widget = kind(parent)
        widget.setObjectName(name)
        return widget


def qt_class(name: str) -> Any:
    """A class of Qt: adapted where it is a QObject, else as it is."""
    for module in (QtWidgets, QtCore, QtGui):
        if hasattr(module, name):
            found = getattr(module, name)
            if isinstance(found, type) and issubclass(found, QtCore.QObject):
                return adapt(found)
            return found
    raise AttributeError(f"qt has no {name}")


class _FileDialog:
    """Answers what a test says instead of asking."""

    answer = ""

    @classmethod
    def getSaveFileName(cls, *_arguments: Any) -> str:
        return cls.answer


def make_qt() -> types.ModuleType:
    """The module ``qt``."""
    module = types.ModuleType("qt")
    module.__getattr__ = qt_class
    module.QUiLoader = _Loader
    module.QFileDialog = _FileDialog
    module.Qt = QtCore.Qt
    return module


def make_ctk() -> types.ModuleType:
    """The module ``ctk``."""
    module = types.ModuleType("ctk")
    for name in _STANDINS:
        if name.startswith("ctk"):
            setattr(module, name, _standin(name))
    return module


def mrml_widgets() -> dict[str, type]:
    """The widgets that Slicer has in the module ``slicer``."""
    return {name: _standin(name) for name in _STANDINS if name.startswith("qMRML")}


def application() -> Any:
    """The one QApplication of the process."""
    return QtWidgets.QApplication.instance() or QtWidgets.QApplication(sys.argv[:1])
