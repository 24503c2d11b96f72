"""What the module needs of ``slicer`` beyond slicer-core: base classes and the application."""

from __future__ import annotations

import os
import sys
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
import vtk

from . import pythonqt


class _Environment(dict[str, str]):
    def value(self, name: str) -> str:
        return self[name]


class _Application:
    """As slicer.app."""

    def __init__(self, home: Path) -> None:
        self.slicerUserSettingsFilePath = str(home / "Slicer.ini")
        self.started: list[Any] = []

    def connect(self, signature: str, function: Any) -> None:
        assert signature == "startupCompleted()"
        self.started.append(function)

    def startupEnvironment(self) -> _Environment:
        return _Environment(os.environ)

    def processEvents(self) -> None:
        pythonqt.application().processEvents()


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent = parent
        self.layout = parent.layout()

    def resourcePath(self, name: str) -> str:
        folder = Path(sys.modules[type(self).__module__].__file__).parent
        return str(folder / "Resources" / name)

    def setup(self) -> None:
        pass


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        scene = slicer.mrmlScene
        node = scene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = scene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(self.moduleName)
            node.SetAttribute("ModuleName", self.moduleName)
            node.SetName(self.moduleName)
            node = scene.AddNode(node)
        node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest:
    pass


class _Wrapper:
    """A parameter node with typed attributes, kept as Slicer's own wrapper keeps them."""

    def __init__(self, node: Any) -> None:
        self.__dict__.update(parameterNode=node, _connected={}, _writing=False)
        for name in self._types:
            if not node.HasParameter(name) and not node.HasParameter(f"{name}.len"):
                setattr(self, name, self._defaults.get(name, _EMPTY.get(self._types[name])))

    def __getattr__(self, name: str) -> Any:
        kind, node = self._types[name], self.parameterNode
        if typing.get_origin(kind) is list:
            count = int(node.GetParameter(f"{name}.len") or 0)
            return [node.GetNodeReference(f"{name}.{index}") for index in range(count)]
        if kind in (str, int, float, bool):
            text = node.GetParameter(name)
            return text == "True" if kind is bool else kind(text)
        return node.GetNodeReference(name)

    def __setattr__(self, name: str, value: Any) -> None:
        kind, node = self._types[name], self.parameterNode
        modified = node.StartModify()
        if typing.get_origin(kind) is list:
            value = value or []
            for index, item in enumerate(value):
                node.SetNodeReferenceID(f"{name}.{index}", item.GetID() if item else None)
            node.SetParameter(f"{name}.len", str(len(value)))
        elif kind in (str, int, float, bool):
            if not isinstance(value, (int, float) if kind is float else kind):
                raise TypeError(f"{name} is {kind.__name__}, not {value!r}")
            node.SetParameter(name, str(value))
        else:
            node.SetParameter(name, "")
            node.SetNodeReferenceID(name, value.GetID() if value is not None else None)
        node.EndModify(modified)

    def AddObserver(self, event: int, function: Any, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, function, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def connectGui(self, ui: Any) -> int:
        bound = []
        for widget in vars(ui).values():
            name = widget.property("SlicerParameterName")
            if name:
                _limit(widget, self._ranges.get(name))
                bound.append((name, *_connector(widget, self._types[name])))
        state = {"live": True, "busy": False}

        def show(*_: Any) -> None:
            if state["busy"]:
                return
            state["busy"] = True
            try:
                for name, _read, write, _signal in bound:
                    write(getattr(self, name))
            finally:
                state["busy"] = False

        show()
        for name, read, _write, signal in bound:

            def changed(*_: Any, name: str = name, read: Any = read) -> None:
                if state["live"] and not state["busy"]:
                    setattr(self, name, read())

            signal.connect(changed)
        tag = self.AddObserver(vtk.vtkCommand.ModifiedEvent, show)
        self._connected[tag] = state
        return tag

    def disconnectGui(self, tag: int | None) -> None:
        if tag in self._connected:
            self._connected.pop(tag)["live"] = False
            self.RemoveObserver(tag)


_EMPTY: dict[Any, Any] = {str: "", int: 0, float: 0.0, bool: False}


def _connector(widget: Any, kind: type) -> tuple[Any, Any, Any]:
    """How a widget's value is read and written, and what tells that it changed."""
    class_name = type(widget).__name__
    allowed = {
        "QCheckBox": (bool, "checked", "stateChanged"),
        "QSpinBox": (int, "value", "valueChanged"),
        "QDoubleSpinBox": (float, "value", "valueChanged"),
        "ctkSliderWidget": (float, "value", "valueChanged"),
        "QLineEdit": (str, "text", "textChanged"),
    }
    if class_name == "qMRMLNodeComboBox":
        return widget.currentNode, widget.setCurrentNode, widget.currentNodeChanged
    wanted, name, signal = allowed[class_name]
    assert kind is wanted, f"{class_name} cannot show {kind}"
    return (
        lambda: getattr(widget, name),
        lambda value: setattr(widget, name, value),
        getattr(widget, signal),
    )


def parameterNodeWrapper(kind: type) -> type:
    types_ = typing.get_type_hints(kind)
    defaults = {name: vars(kind)[name] for name in types_ if name in vars(kind)}
    ranges = {
        name: note
        for name, hint in typing.get_type_hints(kind, include_extras=True).items()
        for note in getattr(hint, "__metadata__", ())
        if isinstance(note, WithinRange)
    }
    content = {"_types": types_, "_defaults": defaults, "_ranges": ranges}
    return type(kind.__name__, (_Wrapper,), content)


@dataclass(frozen=True)
class WithinRange:
    """As slicer.parameterNodeWrapper.WithinRange."""

    minimum: float
    maximum: float


def _limit(widget: Any, within: WithinRange | None) -> None:
    """Slicer's connector sets a number's limits, also where the parameter names none."""
    class_name = type(widget).__name__
    if class_name not in ("QSpinBox", "QDoubleSpinBox", "ctkSliderWidget"):
        return
    if within is None:
        if class_name == "ctkSliderWidget":
            raise RuntimeError("Cannot have a connection to ctkSliderWidget where it is unbounded.")
        within = WithinRange(-1e9, 1e9)
    widget.minimum, widget.maximum = within.minimum, within.maximum


def _module(name: str, **content: Any) -> None:
    module = types.ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module
    setattr(slicer, name.rpartition(".")[2], module)


def install(home: Path, scene: Any) -> None:
    """Completes ``slicer`` and adds ``qt`` and ``ctk`` to what can be imported."""
    application = pythonqt.application()
    pythonqt.QtCore.QSettings.setDefaultFormat(pythonqt.QtCore.QSettings.IniFormat)
    pythonqt.QtCore.QSettings.setPath(
        pythonqt.QtCore.QSettings.IniFormat, pythonqt.QtCore.QSettings.UserScope, str(home)
    )
    application.setOrganizationName("SaliencyExplainTests")
    sys.modules["qt"] = pythonqt.make_qt()
    sys.modules["ctk"] = pythonqt.make_ctk()
    for name, kind in pythonqt.mrml_widgets().items():
        setattr(slicer, name, kind)
    slicer.app = _Application(home)
    slicer.mrmlScene = scene
    _module("slicer.i18n", tr=lambda text: text, translate=lambda _context, text: text)
    _module(
        "slicer.parameterNodeWrapper",
        parameterNodeWrapper=parameterNodeWrapper,
        WithinRange=WithinRange,
    )
    _module(
        "slicer.ScriptedLoadableModule",
        ScriptedLoadableModule=ScriptedLoadableModule,
        ScriptedLoadableModuleWidget=ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic=ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest=ScriptedLoadableModuleTest,
    )
