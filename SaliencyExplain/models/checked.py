"""Building what an untrusted bundle's configuration describes, without evaluating it.

MONAI's own parser runs Python out of a configuration. Here the parsed tree is walked instead:
each node is data, a reference to another node, a literal, or a component from the list of
:mod:`SaliencyExplain.models.allowed`, which is called with arguments that were built in
the same way. Anything else is refused.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.targets import (
    PRETRAINED,
    resolve_target,
    shown,
    without_downloads,
)

_REFERENCE = re.compile(r"\$?@(\w+(?:(?:::|#)\w+)*)", re.ASCII)
_MOVED_TO_DEVICE = re.compile(r"\$@(\w+)\.to\(\s*@\w+\s*\)", re.ASCII)
_DTYPE = re.compile(r"\$(?:torch|np|numpy)\.(float16|float32|float64|int32|int64|uint8|bool)")
# MONAI's names of what is in a batch, as its enumeration has them.
_COMMON_KEY = re.compile(r"\$monai\.utils\.(?:enums\.)?CommonKeys\.([A-Z]+)", re.ASCII)
_COMMON_KEYS = {
    "IMAGE": "image", "LABEL": "label", "PRED": "pred", "LOSS": "loss", "METADATA": "metadata",
}  # fmt: skip
_BUILD_KEYS = frozenset({"_target_", "_disabled_", "_requires_", "_desc_", "_mode_"})
#: MONAI's parser interprets strings that begin with one of these.
_MARKS = ("$", "@", "%")
_DEEPEST = 64
_MOST_NODES = 100_000
_LONGEST_LITERAL = 20_000
_LARGEST_INTEGER = 2**63 - 1
_DISABLED = object()


def check_size(content: Any, name: str) -> None:
    """Refuses a parsed file that is too deep or too large to be walked.

    YAML's anchors let a short text stand for an endless tree.

    Args:
        content: Dictionaries, lists and values.
        name: The file's name, for messages.

    Raises:
        ClassifierError: It is deeper than 64 levels or holds more than 100,000 values.
    """
    waiting = [(content, 0)]
    nodes = 0
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        if isinstance(node, Mapping):
            inner: Any = node.values()
        elif isinstance(node, (list, tuple, set)):
            inner = node
        else:
            continue
        if depth >= _DEEPEST or nodes + len(waiting) + len(node) > _MOST_NODES:
            raise ClassifierError(
                ErrorCode.MODEL_REFUSED,
                f"{name} is refused: it is nested deeper than {_DEEPEST} levels, or holds more "
                f"than {_MOST_NODES} values.",
            )
        waiting.extend((value, depth + 1) for value in inner)


def followed(content: Mapping[str, Any], value: Any) -> Any:
    """What a text refers to in a configuration, as it is written there; other values themselves.

    Args:
        content: The parsed file.
        value: Such as ``@transforms`` or ``$@transforms``.

    Raises:
        ClassifierError: It does not exist, or the references lead in a circle.
    """
    for _ in range(_DEEPEST):
        reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if reference is None:
            return value
        value = _raw(content, tuple(re.split("::|#", reference.group(1))))
    raise ClassifierError(
        ErrorCode.MODEL_CONFIGURATION,
        f"The bundle's configuration refers to itself at {shown(value)}.",
    )


class CheckedBuilder:
    """Builds objects out of a configuration; see the module.

    A node that is referred to twice is built once, as in MONAI's parser.

    Args:
        content: The parsed file.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content
        self._built: dict[tuple[str, ...], Any] = {}
        self._open: set[tuple[str, ...]] = set()

    def build(self, key: str) -> Any:
        """The object that a top-level key describes; None where it is disabled.

        Raises:
            ClassifierError: A part of it is refused, or refers to a key that does not exist.
        """
        built = self._at((key,))
        check_size(built, f"The bundle's '{key}'")
        return None if built is _DISABLED else built

    def _at(self, path: tuple[str, ...]) -> Any:
        if path in self._built:
            return self._built[path]
        where = "::".join(path)
        if path in self._open:
            raise ClassifierError(
                ErrorCode.MODEL_CONFIGURATION,
                f"The bundle's configuration refers to itself at {where[:200]}.",
            )
        if len(self._open) >= _DEEPEST:
            raise ClassifierError(
                ErrorCode.MODEL_REFUSED,
                f"The bundle's configuration is refused: at {where[:200]} it is nested deeper "
                f"than {_DEEPEST} levels.",
            )
        self._open.add(path)
        try:
            built = self._node(_raw(self._content, path), path)
        finally:
            self._open.discard(path)
        self._built[path] = built
        return built

    def _node(self, node: Any, path: tuple[str, ...]) -> Any:
        if isinstance(node, Mapping):
            if "_target_" in node:
                return self._component(node, path)
            return self._children(node, path)
        if isinstance(node, list):
            built = [self._at((*path, str(place))) for place in range(len(node))]
            return [value for value in built if value is not _DISABLED]
        if isinstance(node, str):
            return self._text(node, path)
        return _data(node, path)

    def _children(self, node: Mapping[Any, Any], path: tuple[str, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name in node:
            if not isinstance(name, str) or name in _BUILD_KEYS:
                raise ClassifierError(
                    ErrorCode.MODEL_REFUSED,
                    f"The key {shown(name)} at {_named(path)} is refused: it is not a valid name.",
                )
            value = self._at((*path, name))
            if value is not _DISABLED:
                result[name] = value
        return result

    def _component(self, node: Mapping[Any, Any], path: tuple[str, ...]) -> Any:
        where = _named(path)
        if node.get("_mode_", "default") != "default":
            raise ClassifierError(
                ErrorCode.MODEL_UNTRUSTED, f"'_mode_' at {where} is refused without --trust."
            )
        if self._is_disabled(node.get("_disabled_", False), path):
            return _DISABLED
        component = resolve_target(node["_target_"])
        # Weights that a network would fetch are left out before anything is built for them.
        unused = _BUILD_KEYS | PRETRAINED
        given = {name: value for name, value in node.items() if name not in unused}
        arguments = without_downloads(component, self._children(given, path))
        for value in arguments.values():
            check_size(value, f"The bundle's '{path[0]}'")
        return component(**arguments)

    def _is_disabled(self, value: Any, path: tuple[str, ...]) -> bool:
        if isinstance(value, str):
            value = self._literal(value, path) if value.startswith("$") else value.strip().lower()
        if value in (True, "true"):
            return True
        if value in (False, "false", None, ""):
            return False
        raise ClassifierError(
            ErrorCode.MODEL_UNTRUSTED,
            f"'_disabled_' at {_named(path)} is neither true nor false: other values are "
            "evaluated only with --trust.",
        )

    def _text(self, text: str, path: tuple[str, ...]) -> Any:
        moved = _MOVED_TO_DEVICE.fullmatch(text)
        if moved:
            return self._at((moved.group(1),))
        reference = _REFERENCE.fullmatch(text)
        if reference:
            return self._at(tuple(re.split("::|#", reference.group(1))))
        common = _COMMON_KEY.fullmatch(text)
        if common and common.group(1) in _COMMON_KEYS:
            return _COMMON_KEYS[common.group(1)]
        dtype = _DTYPE.fullmatch(text)
        if dtype:
            return (
                getattr(torch, dtype.group(1))
                if text.startswith("$torch")
                else np.dtype(dtype.group(1))
            )
        if text.startswith("$"):
            return self._literal(text, path)
        return _data(text, path)

    def _literal(self, text: str, path: tuple[str, ...]) -> Any:
        try:
            if len(text) > _LONGEST_LITERAL:
                raise ValueError
            value = ast.literal_eval(text[1:].strip())
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise ClassifierError(
                ErrorCode.MODEL_UNTRUSTED,
                f"The bundle's configuration has Python code at {_named(path)} ({shown(text)}): "
                "it is run only with --trust.",
            ) from None
        check_size(value, _named(path))
        return _data(value, path)


def _raw(content: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """What stands at a place of a configuration."""
    node: Any = content
    for step in path:
        if isinstance(node, Mapping) and step in node:
            node = node[step]
        elif isinstance(node, list) and step.isdecimal() and int(step) < len(node):
            node = node[int(step)]
        else:
            raise ClassifierError(
                ErrorCode.MODEL_CONFIGURATION,
                f"The bundle's configuration refers to {shown('::'.join(path))}, which does "
                "not exist in it. Correct the reference.",
            )
    return node


def _data(value: Any, path: tuple[str, ...]) -> Any:
    """The value if it is plain data and nothing in it would be evaluated by MONAI."""
    if isinstance(value, (list, tuple)):
        return type(value)(_data(one, path) for one in value)
    if isinstance(value, dict):
        if _BUILD_KEYS & {name for name in value if isinstance(name, str)}:
            raise ClassifierError(
                ErrorCode.MODEL_UNTRUSTED,
                f"The bundle's configuration has a literal at {_named(path)} that describes a "
                "component: it is followed only with --trust.",
            )
        return {_data(name, path): _data(one, path) for name, one in value.items()}
    if isinstance(value, str):
        if value.startswith(_MARKS):
            raise ClassifierError(
                ErrorCode.MODEL_UNTRUSTED,
                f"The bundle's configuration has an expression or reference at {_named(path)} "
                f"({shown(value)}) that is followed only with --trust.",
            )
        return value
    plain = value is None or isinstance(value, (bool, float))
    if not plain and not (isinstance(value, int) and abs(value) <= _LARGEST_INTEGER):
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"The value at {_named(path)} is refused: it is a {type(value).__name__}. Use a text, "
            "a list, a dictionary or a number of at most 64 bits.",
        )
    return value


def _named(path: tuple[str, ...]) -> str:
    """A place in the configuration, shortened to one line for a message."""
    return shown("::".join(path))[1:-1]
