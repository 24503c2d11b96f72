"""A preprocessing that a user gives as a file: MONAI's transforms in JSON, YAML or Python."""

from __future__ import annotations

import ast
from collections.abc import Collection
from pathlib import Path
from typing import Any

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name
from SaliencyExplain.models.bundle import LARGEST_CONFIG_BYTES
from SaliencyExplain.models.configuration import parse_text
from SaliencyExplain.models.network_code import copy_code, parsed_python

#: What the transforms for inference are usually called, the likeliest first.
NAMES = (
    *("preprocessing", "inference_transforms", "test_transforms", "val_transforms"),
    *("test_transform", "val_transform", "eval_transforms", "transforms", "transform"),
)
_SUFFIXES = (".json", ".yaml", ".yml")


def transforms_of(given: Path, bundle: Path, *, trust: bool) -> dict[str, Any]:
    """The ``preprocessing`` of a bundle's configuration out of a user's file.

    Transforms that read a file or bring the channels first may stand in it: they are left out when
    the bundle is loaded, and random ones are refused there.

    Args:
        given: A JSON or YAML file with a ``Compose`` in the syntax of MONAI bundles, alone or
            under one of :data:`NAMES`; or, with trust, ``file.py`` or ``file.py:NAME``, where NAME
            is a ``Compose``, or a function without arguments that returns one.
        bundle: The bundle's folder, into which Python code is copied.
        trust: Whether code of the user's own may be run.

    Raises:
        InputError: The file cannot be read, or there are no transforms or several in it.
        ClassifierError: It cannot be parsed, or is Python code without trust.
    """
    path, _, name = str(given).partition(".py:")
    if name or given.suffix == ".py":
        file = Path(f"{path}.py") if name else given
        return _of_python(file, name, bundle, trust=trust)
    if given.suffix.lower() not in _SUFFIXES:
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{given} is not a file of transforms: give .json or .yaml, or .py with --trust.",
        )
    content = parse_text(_read(given), given.name)
    way_out = f"Put the transforms for inference under '{NAMES[0]}'."
    found = content if "_target_" in content else content[_usual_name(content, given, way_out)]
    if isinstance(found, list):
        found = {"_target_": "Compose", "transforms": found}
    if not isinstance(found, dict) or "_target_" not in found:
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{given}: the transforms are neither a list nor a Compose with its _target_.",
        )
    return found


def _usual_name(known: Collection[str], path: Path, way_out: str) -> str:
    """The one usual name of transforms that a file has."""
    names = [name for name in NAMES if name in known]
    if len(names) != 1:
        raise InputError(
            ErrorCode.NAME_UNKNOWN if not names else ErrorCode.NAME_DUPLICATE,
            f"{path} has {'none' if not names else 'several'} of the usual names of transforms"
            f"{': ' + ', '.join(names) if names else ''}. {way_out}",
        )
    return names[0]


def _of_python(path: Path, name: str, bundle: Path, *, trust: bool) -> dict[str, Any]:
    defined = _defined(path)
    name = name or _usual_name(defined, path, f"Name it: {path.name}:NAME.")
    if name not in defined:
        raise unknown_name(f"object of {path.name}", name, list(defined))
    target = copy_code(f"{path}:{name}", bundle, trust=trust)
    # A function is called, and a Compose, which can be called as well, is not.
    return {"_target_": target} if defined[name] else {"_target_": target, "_mode_": "callable"}


def _defined(path: Path) -> dict[str, bool]:
    """The names that a Python file defines, and whether each is a function or class."""
    found: dict[str, bool] = {}
    for node in parsed_python(path).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = True
        elif isinstance(node, ast.Assign):
            found |= {one.id: False for one in node.targets if isinstance(one, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = False
    return found


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_CONFIG_BYTES + 1)
    except OSError as error:
        raise InputError(
            ErrorCode.FILE_UNREADABLE, f"{path} cannot be read: {error.strerror}."
        ) from error
    if len(content) > LARGEST_CONFIG_BYTES:
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{path} has more than {LARGEST_CONFIG_BYTES} bytes: it is not a file of transforms.",
        )
    return content
