"""Shell completion: names of methods and of the shipped classifiers, without torch."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import SaliencyExplain
from SaliencyExplain.demo.shipped import DEMO, shipped_classifiers
from SaliencyExplain.plugins import METHODS, plugins

#: The shell and the mode of completion; set by the functions that ``--install-completion``
#: installs.
ASKED = "_SALIENCY_EXPLAIN_COMPLETE"


def method_names() -> list[str]:
    """The names of all methods, read from their modules' text; plugins are named as methods are.

    The registry has them too, but importing the methods takes seconds at each press of the key.
    """
    found = []
    folder = Path(SaliencyExplain.__file__).parent / "attribution" / "methods"
    for file in sorted(folder.glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                found += [str(name) for name in map(_name_of_method, node.body) if name]
    return [*found, *(name for name in plugins(METHODS) if name not in found)]


def _name_of_method(statement: ast.stmt) -> object:
    """The text of ``name: ClassVar[str] = "…"``; None for any other statement."""
    if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.value, ast.Constant):
        return None
    named = isinstance(statement.target, ast.Name) and statement.target.id == "name"
    return statement.value.value if named else None


def complete_methods(incomplete: str) -> Iterator[str]:
    """Completions of a word for ``--method``; behind a comma the next name of the list."""
    before, comma, _ = incomplete.rpartition(",")
    given = before.split(",")
    for name in method_names():
        if name not in given:
            yield f"{before}{comma}{name}"


def complete_classifiers(incomplete: str) -> Iterator[str]:
    """The shipped classifiers; where none fits, the shell completes paths."""
    yield from (f"{DEMO}{name}" for name in shipped_classifiers())


@contextlib.contextmanager
def colons_for_bash() -> Iterator[None]:
    """Lets ``demo:`` be completed in bash, which takes the colon for the end of a word.

    The pieces of a word with a colon are put together before they are looked at, and of each
    answer only what stands behind the last colon is printed, as bash inserts it there.
    """
    if os.environ.get(ASKED) != "complete_bash":
        yield
        return
    text = os.environ.get("COMP_WORDS", "")
    between = "\n" if "\n" in text else " "
    words = text.split(between)
    at = int(os.environ.get("COMP_CWORD", "0"))
    words, at, behind = _joined(words, at)
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = between.join(words), str(at)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    finally:
        for line in said.getvalue().splitlines():
            sys.stdout.write(f"{line[behind:]}\n")


def _joined(words: list[str], at: int) -> tuple[list[str], int, int]:
    """Words with their colons, the number of the current one, and its length up to the colon."""
    joined: list[str] = []
    current = 0
    for number, word in enumerate(words):
        if joined and number > 1 and (word == ":" or joined[-1].endswith(":")):
            joined[-1] += word
        else:
            joined.append(word)
        if number == at:
            current = len(joined) - 1
    if at >= len(words):
        current = len(joined)
    word = joined[current] if current < len(joined) else ""
    return joined, current, word.rfind(":") + 1
