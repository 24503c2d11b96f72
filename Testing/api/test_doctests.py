"""Every public name has a docstring with an example, and the examples run."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import SaliencyExplain as se

#: Names whose objects are results: their methods have the examples.
RESULTS = ("Comparison", "ExplainedMap", "Result")
#: Types and errors that are named for annotations and except clauses.
TYPES = ("Attribution", "Classifier", "Explanation", "Probe", "SaliencyExplainError", "Target")
FUNCTIONS = sorted(name for name in se.PUBLIC_MODULES if name not in (*RESULTS, *TYPES))


def _examples(name: str) -> Iterator[doctest.DocTest]:
    public = getattr(se, name)
    members = [public]
    if name in RESULTS:
        members += [
            member
            for key, member in vars(public).items()
            if inspect.isfunction(member) and not key.startswith("_")
        ]
    for member in members:
        assert member.__doc__, f"{member} has no docstring"
        yield from doctest.DocTestFinder(recurse=False).find(member, name, globs={})


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FUNCTIONS, *RESULTS])
def test_the_examples_run(
    name: str, result: se.Result, phantom: object, cases: Path, tmp_path: Path
) -> None:
    given = {
        "se": se,
        "result": result,
        "phantom": phantom,
        "cases": cases,
        "folder": tmp_path,
        "image_file": min(cases.parent.glob("*_image*")),
        "mask_file": min(cases.parent.glob("*_mask*")),
    }
    found = [one for one in _examples(name) if one.examples]
    assert found, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for one in found:
        one.globs = dict(given)
        report: list[str] = []
        runner.run(one, out=report.append)
        assert runner.failures == 0, "".join(report)


@pytest.mark.slow
def test_the_packages_own_example_runs() -> None:
    assert doctest.testmod(se).failed == 0
