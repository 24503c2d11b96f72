"""Copying a user's Python code into a bundle, with all that it imports beside it."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError
from SaliencyExplain.models.scripts import PACKAGE, is_installed

#: How many folders above a file its imports are looked for, as from the root of a repository.
_FARTHEST = 4
#: Most that is copied; a network's code is far smaller.
_MOST_FILES = 2_000
_MOST_BYTES = 50 * 1024**2
_INIT = "__init__.py"


def copy_code(code: str, bundle: Path, *, trust: bool) -> str:
    """Copies a file of Python code into a bundle, and every file beside it that it imports.

    Of a package all Python files are copied. Modules that are installed, or belong to Python,
    are not.

    Args:
        code: ``file.py:Class`` or ``file.py:factory``, or another object of the file.
        bundle: The bundle's folder.
        trust: Whether the code may be run; nothing is run here.

    Returns:
        The dotted name of the object in the bundle.

    Raises:
        ClassifierError: Without trust.
        InputError: The name has another form, a file cannot be read or is no Python, has the name
            of an installed package, or far more is imported than a network needs.
    """
    file_name, _, name = code.rpartition(":")
    path = Path(file_name)
    if not trust:
        raise ClassifierError(
            ErrorCode.MODEL_UNTRUSTED, f"{path.name} is Python code: it is run only with --trust."
        )
    if not path.stem.isidentifier() or not name.isidentifier():
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"'{code}' is not of the form file.py:Class or file.py:factory.",
        )
    path = path.absolute()
    root, parts = _root(path)
    files = _Code([root, *list(root.parents)[:_FARTHEST]])
    files.add(path, Path(*parts[:-1], path.name))
    if len(parts) > 1:
        files.add_package(root / parts[0], Path(parts[0]))
    files.follow()
    folder = bundle / PACKAGE
    folder.mkdir(exist_ok=True)
    for inside, outside in sorted(files.files.items()):
        # A package of the user's own that has the bundle's name takes its place.
        target = bundle / inside if inside.parts[0] == PACKAGE else folder / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(outside, target)
        except OSError as error:
            raise InputError(
                ErrorCode.FILE_UNREADABLE, f"{outside} cannot be read: {error.strerror}."
            ) from error
    # Without them a package is searched for in all of Python's folders.
    for file in list(folder.rglob("*.py")):
        for package in file.relative_to(bundle).parents[:-1]:
            (bundle / package / _INIT).touch()
    inner = parts if parts[0] == PACKAGE else [PACKAGE, *parts]
    return ".".join([*inner, name])


def parsed_python(path: Path) -> ast.Module:
    """The syntax tree of a Python file, which is not run.

    Raises:
        InputError: The file cannot be read, or is not valid Python.
    """
    try:
        return ast.parse(path.read_bytes(), path.name)
    except OSError as error:
        raise InputError(
            ErrorCode.FILE_UNREADABLE, f"{path} cannot be read: {error.strerror}."
        ) from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{path} is not valid Python{f' (line {line})' if line else ''}.",
        ) from error


def _root(path: Path) -> tuple[Path, list[str]]:
    """The folder above a file's package, and the names that lead from there to the file.

    In a folder without ``__init__.py``, relative imports say how far up the package begins.
    """
    levels = max((level for level, _, _ in _imports(path)), default=0)
    root, parts = path.parent, [path.stem]
    while (root / _INIT).is_file() or len(parts) < levels:
        parts.insert(0, root.name)
        root = root.parent
        if not parts[0].isidentifier():
            raise InputError(
                ErrorCode.VALUE_FORM,
                f"{path.name} is in the folder '{parts[0]}', whose name is not valid in Python: "
                "rename it.",
            )
    return root, parts


@dataclass
class _Code:
    """The files that a user's code consists of.

    Attributes:
        folders: Where imports are looked for, in this order.
        files: Each file by its place in the bundle's package.
        packages: Packages that are copied whole, by their place.
        waiting: Files whose imports are not followed yet.
        size: Bytes of all files.
    """

    folders: list[Path]
    files: dict[Path, Path] = field(default_factory=dict)
    packages: set[Path] = field(default_factory=set)
    waiting: list[Path] = field(default_factory=list)
    size: int = 0

    def add(self, path: Path, inside: Path) -> None:
        """Adds one file, whose own imports are followed later."""
        if inside in self.files:
            return
        try:
            self.size += path.stat().st_size
        except OSError as error:
            raise InputError(
                ErrorCode.FILE_UNREADABLE, f"{path} cannot be read: {error.strerror}."
            ) from error
        self.files[inside] = path
        self.waiting.append(inside)
        if len(self.files) > _MOST_FILES or self.size > _MOST_BYTES:
            raise InputError(
                ErrorCode.MODEL_REFUSED,
                f"The code imports more than {_MOST_FILES} files or {_MOST_BYTES} bytes "
                f"beside it, from {self.folders[0]} on: put it into a folder of its own.",
            )

    def add_package(self, folder: Path, inside: Path) -> None:
        """Adds all Python files of a package."""
        self.packages.add(inside)
        for path in sorted(folder.rglob("*.py")):
            below = path.relative_to(folder)
            if not any(part.startswith((".", "__pycache__")) for part in below.parts):
                self.add(path, inside / below)

    def follow(self) -> None:
        """Adds what the files import, until nothing is new."""
        while self.waiting:
            inside = self.waiting.pop()
            for level, module, names in _imports(self.files[inside]):
                if not level:
                    self._absolute(module, names)
                elif level <= len(inside.parents):
                    outside = self.files[inside].parents[level - 1]
                    self._module(outside, inside.parents[level - 1], module, names)

    def _absolute(self, module: list[str], names: list[str]) -> None:
        folder = next((one for one in self.folders if _has(one, module[0])), None)
        if folder is None:
            return
        if is_installed(module[0]):
            # Above the file's own folder the installed one is imported, as it is there.
            if folder == self.folders[0] and Path(module[0]) not in self.packages:
                raise InputError(
                    ErrorCode.NAME_DUPLICATE,
                    f"The module {module[0]} in {folder} has the name of an installed package or "
                    "of a module of Python, and a bundle would import that one instead: rename "
                    "it.",
                )
            return
        self._module(folder, Path(), module, names)

    def _module(self, folder: Path, inside: Path, module: list[str], names: list[str]) -> None:
        """Adds a module, the packages that it is in, and those of the names that are modules."""
        for part in module:
            if (folder / part / _INIT).is_file():
                self.add_package(folder / part, inside / part)
            elif (folder / f"{part}.py").is_file():
                self.add(folder / f"{part}.py", inside / f"{part}.py")
                return
            folder, inside = folder / part, inside / part
        for name in names:
            if (folder / name / _INIT).is_file():
                self.add_package(folder / name, inside / name)
            elif (folder / f"{name}.py").is_file():
                self.add(folder / f"{name}.py", inside / f"{name}.py")


def _has(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or any((folder / name).glob("*.py"))


def _imports(path: Path) -> Iterator[tuple[int, list[str], list[str]]]:
    """What a file imports: dots before the module, its parts, and the names out of it.

    Raises:
        InputError: The file cannot be read, or is not valid Python.
    """
    for node in ast.walk(parsed_python(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name.split("."), []
        elif isinstance(node, ast.ImportFrom):
            module = node.module.split(".") if node.module else []
            yield node.level, module, [alias.name for alias in node.names]
