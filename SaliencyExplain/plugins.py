"""The plugins that installed packages bring: finding them, and loading one by its name.

A plugin is an entry point (https://packaging.python.org/specifications/entry-points/) of one of
the groups below. Finding plugins reads text only; the module of a plugin is imported when the
plugin is first used. docs/PLUGINS.md says how one is written.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from SaliencyExplain.errors import ErrorCode, InputError

_log = logging.getLogger(__name__)

IMAGE_READERS = "saliency_explain.image_readers"
METHODS = "saliency_explain.methods"
STUDY_LAYOUTS = "saliency_explain.study_layouts"

#: What a plugin of each group is called in messages.
_KINDS = {IMAGE_READERS: "image reader", METHODS: "method", STUDY_LAYOUTS: "study layout"}
#: The name of this project's own distribution.
_OWN = "saliency-explain"


@dataclass(frozen=True)
class Plugin:
    """An entry point of an installed package.

    Attributes:
        group: One of the groups of this module.
        name: The entry point's name: a method's name, a file suffix, or a layout's name.
        target: ``module:object``.
        package: Name and version of the package that brings it; of this project's own the name.
        rivals: Other packages with a plugin of the same group and name; where there is one,
            none of them is used.
    """

    group: str
    name: str
    target: str
    package: str
    rivals: tuple[str, ...] = field(default=(), compare=False)

    def load(self) -> Any:
        """Imports the plugin's module, where that has not been done, and returns the object.

        Raises:
            InputError: It cannot be imported, or another package has a plugin of this name.
        """
        if self.rivals:
            raise self.refused(f"{', '.join(self.rivals)} has one of the same name")
        try:
            return importlib.metadata.EntryPoint(self.name, self.target, self.group).load()
        # A module may raise anything when it is imported, and even end the program.
        except (Exception, SystemExit) as error:
            text = next(iter(str(error).splitlines()), "")
            raise self.refused(f"{self.target}: {type(error).__name__}: {text}") from error

    def refused(self, reason: str) -> InputError:
        """The error of a plugin that cannot be used.

        Args:
            reason: What is wrong with it, without a full stop.
        """
        return InputError(
            ErrorCode.PLUGIN,
            f"The {_KINDS[self.group]} '{self.name}' of the package {self.package} cannot be used "
            f"({reason}). Update or uninstall the package.",
        )


@cache
def plugins(group: str) -> Mapping[str, Plugin]:
    """The plugins of a group by their names, in the order of their names; nothing is imported."""
    found: dict[str, list[Plugin]] = defaultdict(list)
    own = _own_entry_points()
    for name, target in (own or {}).get(group, {}).items():
        found[name].append(Plugin(group, name, target, _OWN))
    for plugin in _from_metadata(group, own is None):
        found[plugin.name].append(plugin)
    return {
        name: Plugin(group, name, first.target, first.package, tuple(one.package for one in rest))
        for name, (first, *rest) in sorted(found.items())
    }


def plugin_packages() -> dict[str, str]:
    """Names and versions of the packages that bring a plugin, without this project's own."""
    packages = {
        package
        for group in _KINDS
        for plugin in plugins(group).values()
        for package in (plugin.package, *plugin.rivals)
        if package != _OWN
    }
    return {name: version for name, _, version in (one.rpartition(" ") for one in sorted(packages))}


def _from_metadata(group: str, with_own: bool) -> Iterator[Plugin]:
    """Plugins of installed packages.

    Args:
        group: Of these plugins.
        with_own: Whether those of this project are among them.
    """
    try:
        entry_points = importlib.metadata.entry_points(group=group)
    except Exception as error:  # noqa: BLE001 - the metadata of any package may be damaged
        _log.warning(
            "Plugins are not used: the metadata of installed packages cannot be read (%s: %s).",
            type(error).__name__,
            error,
        )
        return
    for one in entry_points:
        name = one.dist.name if one.dist is not None else "unknown"
        version = one.dist.version if one.dist is not None else "unknown"
        if re.sub(r"[-_.]+", "-", name).lower() != _OWN:
            yield Plugin(group, one.name, one.value, f"{name} {version}")
        elif with_own:
            yield Plugin(group, one.name, one.value, _OWN)


@cache
def _own_entry_points() -> dict[str, dict[str, str]] | None:
    """This project's own entry points as its ``pyproject.toml`` has them; None: there is no file.

    In a checkout the file lies beside the package, and in the Slicer extension inside it. A
    checkout may run without being installed, or beside an installation of another version, whose
    metadata would be of that version. In an environment that a wheel was installed into there
    is no such file, and the metadata are right.
    """
    package = Path(__file__).resolve().parent
    for file in (package.parent / "pyproject.toml", package / "pyproject.toml"):
        project = _toml(file).get("project", {}) if file.is_file() else {}
        if project.get("name") == _OWN:
            own: dict[str, dict[str, str]] = project.get("entry-points", {})
            return own
    return None


def _toml(file: Path) -> dict[str, Any]:
    # Python 3.10 has no tomllib; without tomli the metadata are read in place of the file.
    for name in ("tomllib", "tomli"):
        try:
            parsed: dict[str, Any] = importlib.import_module(name).loads(
                file.read_text(encoding="utf-8")
            )
        except ModuleNotFoundError:
            continue
        except (OSError, ValueError):
            break
        return parsed
    return {}
