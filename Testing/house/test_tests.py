"""Rules for the tests themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from Testing.conftest import PROJECT

TESTS = sorted((PROJECT / "Testing").rglob("test_*.py"))


def imported_modules(path: Path) -> Iterator[str]:
    """Full names of the modules a file imports, whether at its top or in a function."""
    package = path.relative_to(PROJECT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def test_no_module_imports_a_test() -> None:
    """What several tests use stands in a module of its own, so that each test can be moved."""
    tests = {".".join(path.relative_to(PROJECT).with_suffix("").parts) for path in TESTS}
    for path in sorted((PROJECT / "Testing").rglob("*.py")):
        assert not tests & set(imported_modules(path)), path
        # Also in programs that a test runs in another process.
        text = path.read_text(encoding="utf-8")
        assert not [name for name in tests if f"from {name} import" in text], path


#: Reading one of these in an assertion makes the result depend on how busy the machine is.
CLOCKS = {"time", "monotonic", "perf_counter", "process_time"}


def test_no_assertion_is_about_seconds() -> None:
    """Count calls or events instead, set the clock that the code reads, or wait as waiting.py."""
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assert):
                read = {
                    call.func.attr
                    for call in ast.walk(node.test)
                    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
                }
                assert not read & CLOCKS, f"{path}:{node.lineno}"
