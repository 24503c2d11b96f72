"""Building the objects that a bundle's configuration describes, and nothing else of it."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import yaml
from monai.bundle import ConfigParser

from SaliencyExplain.classifiers.targets import resolve_target, without_downloads
from SaliencyExplain.errors import ClassifierError, ErrorCode

_REFERENCE = re.compile(r"^\$?@([\w]+)((?:(?:::|#)\w+)*)$")
_MOVED_TO_DEVICE = re.compile(r"^\$@(\w+)\.to\(\s*@\w+\s*\)$")
_DTYPE = re.compile(r"^\$(?:torch|np|numpy)\.(float16|float32|float64|int32|int64|uint8|bool)$")
_BUILD_KEYS = {"_target_", "_disabled_", "_requires_", "_desc_", "_mode_"}


def parse_text(text: bytes, name: str) -> dict[str, Any]:
    """Reads JSON or YAML; no tag of YAML builds an object.

    Raises:
        ClassifierError: The text cannot be parsed, or is no dictionary.
    """
    try:
        content = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION, f"{name} cannot be parsed: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(content, dict):
        raise ClassifierError(ErrorCode.MODEL_CONFIGURATION, f"{name} does not hold a dictionary.")
    return content


class Configuration:
    """A bundle's ``inference`` configuration.

    Without trust only what is asked for is built, together with what it refers to, and each
    of these parts is checked first: allowed targets, plain references and literals. With
    trust MONAI's own parser sees the whole configuration, with its Python expressions.

    Args:
        content: The parsed file.
        trust: Whether the user vouches for the code in it.
        bundle_root: The bundle's folder, for trusted configurations that ask for it.
    """

    def __init__(self, content: dict[str, Any], *, trust: bool, bundle_root: str = "") -> None:
        self.content = dict(content)
        self.trust = trust
        if bundle_root:
            self.content["bundle_root"] = bundle_root

    def build(self, key: str) -> Any:
        """The object that a top-level key describes.

        Raises:
            ClassifierError: Something in it is not allowed without trust, or cannot be built.
        """
        parser = ConfigParser(self.content if self.trust else self._checked_closure(key))
        try:
            with warnings.catch_warnings():
                # MONAI announces new defaults to whoever writes a configuration.
                warnings.simplefilter("ignore", FutureWarning)
                return parser.get_parsed_content(key)
        except ClassifierError:
            raise
        except Exception as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            lines = str(cause).splitlines() or [type(cause).__name__]
            raise ClassifierError(
                ErrorCode.MODEL_CONFIGURATION, f"The bundle's '{key}' cannot be built: {lines[0]}"
            ) from error

    def _checked_closure(self, key: str) -> dict[str, Any]:
        closure: dict[str, Any] = {}
        waiting = [key]
        while waiting:
            current = waiting.pop()
            if current in closure:
                continue
            if current not in self.content:
                raise ClassifierError(
                    ErrorCode.MODEL_CONFIGURATION,
                    f"The bundle's configuration refers to '{current}', which is not there.",
                )
            references: set[str] = set()
            closure[current] = self._checked(self.content[current], references, current)
            waiting.extend(references)
        return closure

    def _checked(self, node: Any, references: set[str], where: str) -> Any:
        if isinstance(node, Mapping):
            if "_target_" in node:
                return self._checked_component(node, references, where)
            return {
                str(name): self._checked(value, references, f"{where}::{name}")
                for name, value in node.items()
            }
        if isinstance(node, list):
            return [
                self._checked(value, references, f"{where}::{place}")
                for place, value in enumerate(node)
            ]
        if isinstance(node, str):
            return self._checked_text(node, references, where)
        return node

    def _checked_component(
        self, node: Mapping[str, Any], references: set[str], where: str
    ) -> dict[str, Any]:
        if node.get("_mode_", "default") != "default":
            raise ClassifierError(
                ErrorCode.MODEL_UNTRUSTED, f"'_mode_' at {where} is refused without --trust."
            )
        component = resolve_target(node["_target_"])
        arguments = {name: value for name, value in node.items() if name not in _BUILD_KEYS}
        arguments = without_downloads(component, arguments)
        checked = {
            str(name): self._checked(value, references, f"{where}::{name}")
            for name, value in arguments.items()
        }
        kept = {name: node[name] for name in ("_disabled_",) if name in node}
        return {"_target_": f"{component.__module__}.{component.__qualname__}", **kept, **checked}

    def _checked_text(self, text: str, references: set[str], where: str) -> Any:
        moved = _MOVED_TO_DEVICE.match(text)
        if moved:
            text = f"@{moved.group(1)}"
        reference = _REFERENCE.match(text)
        if reference:
            references.add(reference.group(1))
            return text.removeprefix("$")
        dtype = _DTYPE.match(text)
        if dtype:
            return _dtype(text, dtype.group(1))
        if text.startswith("$"):
            try:
                return ast.literal_eval(text[1:].strip())
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                raise ClassifierError(
                    ErrorCode.MODEL_UNTRUSTED,
                    f"The bundle's configuration has Python code at {where} ({text[:60]}): "
                    "it is run only with --trust.",
                ) from None
        if text.startswith("%") or text.startswith("@"):
            raise ClassifierError(
                ErrorCode.MODEL_UNTRUSTED,
                f"The bundle's configuration has a reference at {where} ({text[:60]}) "
                "that is followed only with --trust.",
            )
        return text


def _dtype(text: str, name: str) -> Any:
    return getattr(torch, name) if text.startswith("$torch") else np.dtype(name)
