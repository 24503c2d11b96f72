"""Attribution methods with their parameters, made from the methods' own descriptions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

_LARGEST = 1e6


#: Families that are unfolded at first; of the others those with a ticked method are.
_UNFOLDED = ("perturbation", "class activation", "gradient")


class MethodsForm:
    """A tick for each method, family by family, and its parameters below it while it is ticked.

    Attributes:
        widget: Holds them all.
        changed: Called when a user has changed anything.
    """

    def __init__(
        self,
        methods: Sequence[Mapping[str, Any]],
        layers: Sequence[str],
        changed: Callable[[], None],
    ) -> None:
        """Builds it.

        Args:
            methods: As ``Engine.methods`` describes them.
            layers: Names of the classifier's layers, for methods that look at one.
            changed: Called after each change.
        """
        self.widget = qt.QWidget()
        self.changed = changed
        self._layers = list(layers)
        self._ticks: dict[str, Any] = {}
        self._fields: dict[str, dict[str, Any]] = {}
        self._described = {str(method["name"]): method for method in methods}
        self._families: dict[str, _Family] = {}
        column = qt.QVBoxLayout(self.widget)
        column.setContentsMargins(0, 0, 0, 0)
        for method in methods:
            name = str(method["family"])
            if name not in self._families:
                self._families[name] = _Family(name, unfolded=name in _UNFOLDED)
                column.addWidget(self._families[name].widget)
            self._add(self._families[name].column, method)

    def values(self) -> dict[str, dict[str, Any]]:
        """The ticked methods with those of their parameters that are not the default."""
        chosen: dict[str, dict[str, Any]] = {}
        for name, tick in self._ticks.items():
            if not tick.checked:
                continue
            chosen[name] = {}
            for parameter in self._described[name]["parameters"]:
                value = self._fields[name][parameter["name"]].value()
                if value != parameter["default"]:
                    chosen[name][parameter["name"]] = value
        return chosen

    def set_values(self, chosen: Mapping[str, Mapping[str, Any]]) -> None:
        """Ticks these methods, sets their parameters, and all others to their defaults."""
        for name, tick in self._ticks.items():
            given = chosen.get(name, {})
            for parameter in self._described[name]["parameters"]:
                field = self._fields[name][parameter["name"]]
                field.set(given.get(parameter["name"], parameter["default"]))
            tick.checked = name in chosen
            if name in chosen:
                self._families[self._described[name]["family"]].unfold(True)

    def asked(self) -> set[str]:
        """What the ticked methods can use beside the image: segmentation, backgrounds."""
        ticked = [name for name, tick in self._ticks.items() if tick.checked]
        return {what for name in ticked for what in self._described[name]["requires"]}

    def family(self, name: str) -> _Family:
        """A family's fold."""
        return self._families[name]

    def tick(self, name: str) -> Any:
        """The check box of a method."""
        return self._ticks[name]

    def field(self, method: str, parameter: str) -> Any:
        """The widget of a parameter."""
        return self._fields[method][parameter].widget

    def _add(self, column: Any, method: Mapping[str, Any]) -> None:
        name = str(method["name"])
        tick = qt.QCheckBox(method["title"])
        tick.toolTip = "; from ".join(filter(None, (method["source"], method["package"])))
        column.addWidget(tick)
        self._ticks[name] = tick
        self._fields[name] = {}
        frame = qt.QFrame()
        form = qt.QFormLayout(frame)
        form.setContentsMargins(24, 0, 0, 4)
        for parameter in method["parameters"]:
            field = _field(parameter, self._layers, self._on_change)
            form.addRow(_title(parameter), field.widget)
            self._fields[name][parameter["name"]] = field
        column.addWidget(frame)
        frame.visible = False

        def show(on: bool) -> None:
            frame.visible = on and bool(method["parameters"])
            self._on_change()

        tick.connect("toggled(bool)", show)

    def _on_change(self, _value: Any = None) -> None:
        self.changed()


class _Family:
    """A family's title with an arrow, and its methods below while it is unfolded."""

    def __init__(self, name: str, *, unfolded: bool) -> None:
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self.button = qt.QToolButton()
        self.button.text = name[:1].upper() + name[1:]
        self.button.checkable = True
        self.button.autoRaise = True
        self.button.setToolButtonStyle(qt.Qt.ToolButtonTextBesideIcon)
        layout.addWidget(self.button)
        self._content = qt.QWidget()
        self.column = qt.QVBoxLayout(self._content)
        self.column.setContentsMargins(16, 0, 0, 0)
        layout.addWidget(self._content)
        self.button.connect("toggled(bool)", self._show)
        self.button.checked = unfolded
        self._show(unfolded)

    def unfold(self, on: bool) -> None:
        """Shows or hides the family's methods."""
        self.button.checked = on

    def _show(self, on: bool) -> None:
        self.button.setArrowType(qt.Qt.DownArrow if on else qt.Qt.RightArrow)
        self._content.visible = on


class _Field:
    """A widget for one parameter: what it reads and how it is written."""

    def __init__(
        self,
        widget: Any,
        signal: str,
        read: Callable[[], Any],
        write: Callable[[Any], None],
        changed: Callable[..., None],
    ) -> None:
        self.widget = widget
        self.value = read
        self.set = write
        widget.connect(signal, changed)


def _field(
    parameter: Mapping[str, Any], layers: Sequence[str], changed: Callable[..., None]
) -> _Field:
    default = parameter["default"]
    if parameter["choices"]:
        field = _choice(parameter["choices"], changed)
    elif isinstance(default, bool):
        field = _yes_or_no(changed)
    elif isinstance(default, (int, float)):
        field = _number(parameter, changed)
    elif isinstance(default, str):
        field = _text(changed)
    else:
        field = _texts(changed)
    field.set(default)
    tip = parameter["description"]
    if parameter["name"] == "layers" and layers:
        tip += "\n" + _("Layers of this classifier: {names}").format(names=", ".join(layers))
    field.widget.toolTip = tip
    return field


def _choice(choices: Sequence[str], changed: Callable[..., None]) -> _Field:
    widget = qt.QComboBox()
    for choice in choices:
        widget.addItem(choice)

    def write(value: str) -> None:
        widget.currentIndex = max(0, list(choices).index(value) if value in choices else 0)

    return _Field(
        widget, "currentIndexChanged(int)", lambda: choices[widget.currentIndex], write, changed
    )


def _yes_or_no(changed: Callable[..., None]) -> _Field:
    widget = qt.QCheckBox()

    def write(value: bool) -> None:
        widget.checked = bool(value)

    return _Field(widget, "toggled(bool)", lambda: widget.checked, write, changed)


def _number(parameter: Mapping[str, Any], changed: Callable[..., None]) -> _Field:
    whole = isinstance(parameter["default"], int)
    widget = qt.QSpinBox() if whole else qt.QDoubleSpinBox()
    low, high = parameter["minimum"], parameter["maximum"]
    convert = int if whole else float
    widget.minimum = convert(-_LARGEST if low is None else low)
    widget.maximum = convert(_LARGEST if high is None else high)
    if not whole:
        # Millimetres in tenths; shares need more, and very small numbers as many as they have.
        default = abs(parameter["default"])
        digits = math.ceil(-math.log10(default)) if default else 0
        widget.decimals = max(1 if parameter["unit"] == "mm" else 3, digits)
        widget.singleStep = 1.0 if parameter["unit"] == "mm" else 0.05
    if parameter["unit"]:
        widget.suffix = f" {parameter['unit']}"
    if parameter["automatic"]:
        widget.specialValueText = _("automatic: {meaning}").format(meaning=parameter["automatic"])

    def write(value: float) -> None:
        widget.value = convert(value)

    signal = "valueChanged(int)" if whole else "valueChanged(double)"
    return _Field(widget, signal, lambda: convert(widget.value), write, changed)


def _text(changed: Callable[..., None]) -> _Field:
    widget = qt.QLineEdit()

    def write(value: str) -> None:
        widget.text = value

    return _Field(widget, "textChanged(QString)", lambda: widget.text.strip(), write, changed)


def _texts(changed: Callable[..., None]) -> _Field:
    widget = qt.QLineEdit()

    def read() -> list[str]:
        return [text.strip() for text in widget.text.split(",") if text.strip()]

    def write(value: Sequence[str]) -> None:
        widget.text = ", ".join(value)

    return _Field(widget, "textChanged(QString)", read, write, changed)


def _title(parameter: Mapping[str, Any]) -> str:
    """``window_mm`` is "Window:"; its unit stands in the field."""
    name = str(parameter["name"])
    if parameter["unit"] and name.endswith(f"_{parameter['unit']}"):
        name = name[: -len(parameter["unit"]) - 1]
    return name.replace("_", " ").capitalize() + ":"
