"""The public names: each method once, found lazily, typed."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import SaliencyExplain as se
from SaliencyExplain.attribution.registry import methods
from SaliencyExplain.specification.spec_fields import SPEC_FIELDS, default_of


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = "[m for m in ('torch', 'numpy', 'monai', 'nibabel', 'scipy') if m in sys.modules]"
    program = f"import sys, SaliencyExplain as se; print({heavy}, se.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["[]", se.__version__]


def test_the_stub_names_what_is_found_and_nothing_else() -> None:
    tree = ast.parse(Path(se.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    stub = {
        name.asname: f"{node.module}.{name.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    found = {name: f"{se.__name__}.{module}.{name}" for name, module in se.PUBLIC_MODULES.items()}
    found |= {one.__name__: f"{one.__module__}.{one.__name__}" for one in methods().values()}
    assert stub == found
    assert set(found) <= set(dir(se))


def test_each_method_is_found_by_its_class_with_its_parameters() -> None:
    for method in methods().values():
        public = getattr(se, method.__name__)
        assert public is method
        parameters = {field.name: field.default for field in dataclasses.fields(public)}
        made = public(**parameters)
        assert dataclasses.asdict(made) == parameters


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    for name in ("gradcam", "GradCam3", "_hidden"):
        with pytest.raises(AttributeError):
            getattr(se, name)


@pytest.mark.parametrize("function", [se.explain, se.study, se.probe, se.evaluate])
def test_keyword_arguments_that_are_fields_of_a_specification_have_its_defaults(function) -> None:
    parameters = inspect.signature(function).parameters
    fields = parameters.keys() & set(SPEC_FIELDS) - {"methods", "segmentation", "backgrounds"}
    defaults = {name: parameters[name].default for name in fields}
    wanted = {name: default_of(name) for name in fields}
    if function is se.evaluate:
        # Nothing is left out of an evaluation that is asked for by itself.
        wanted["passes"] = None
    assert fields
    assert defaults == {name: str(v) if name == "target" else v for name, v in wanted.items()}
