"""Installs small packages with plugins for one test."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from SaliencyExplain import plugins
from SaliencyExplain.attribution import registry
from SaliencyExplain.images import file_suffixes, reader_registry

CACHES = (
    *(plugins.plugins, plugins._own_entry_points, registry._registered),
    *(file_suffixes.plugin_suffixes, reader_registry._loaded),
)
#: Installs a package: its name, the plugins as ``{group: {name: target}}``, its modules' texts.
Install = Callable[[str, Mapping[str, Mapping[str, str]], Mapping[str, str]], None]


@contextlib.contextmanager
def found_in(folder: Path) -> Iterator[None]:
    """Has the plugins of the packages in a folder found."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    forget()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        forget()
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and folder in Path(file).parents:
                del sys.modules[name]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """A folder of installed packages whose plugins are found, until the test ends."""
    folder = tmp_path / "site"
    folder.mkdir()
    with found_in(folder):
        yield folder


def forget() -> None:
    """Has the plugins looked for again."""
    importlib.invalidate_caches()
    for cache in CACHES:
        cache.cache_clear()


@pytest.fixture
def install(site: Path) -> Install:
    """Writes a package and its metadata as pip does."""

    def write(
        name: str, entry_points: Mapping[str, Mapping[str, str]], modules: Mapping[str, str]
    ) -> None:
        for module, text in modules.items():
            (site / f"{module}.py").write_text(text, encoding="utf-8")
        information = site / f"{name.replace('-', '_')}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8"
        )
        (information / "entry_points.txt").write_text(as_ini(entry_points), encoding="utf-8")
        forget()

    return write


def as_ini(entry_points: Mapping[str, Mapping[str, str]]) -> str:
    """Entry points as ``entry_points.txt`` has them."""
    return "".join(
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in named.items())
        for group, named in entry_points.items()
    )
