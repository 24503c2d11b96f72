"""docs/METHODS.md is complete and true to the registry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from SaliencyExplain.attribution.method import FAMILIES
from SaliencyExplain.attribution.registry import methods

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "METHODS.md").read_text(encoding="utf-8")
HEADING = re.compile(r"^### `(?P<name>[^`]+)`: (?P<title>.+)$", re.MULTILINE)
#: What each method is told of.
LINES = ("Asks", "Use", "Cannot tell", "Forward passes", "Source")
#: Whose cost at the defaults depends on nothing but their parameters.
FIXED = {
    "layer-sweep": 2.5,
    "respondcam": 2,
    "gradient": 2,
    "guided-smoothgrad": 50,
    "smoothgrad": 50,
    "guided-ig": 402,
    "integrated-gradients": 102,
    "smoothgrad-ig": 411,
    "smoothgrad-ig-squared": 400,
    "deeplift": 8,
    "xrai": 204,
    "xrai-fast": 204,
    "centre": 0,
    "random": 0,
}


def sections():
    """What the page says of each method, by its name, in the page's order."""
    pieces = re.split(r"^(?=### |## )", PAGE, flags=re.MULTILINE)
    return {found["name"]: piece for piece in pieces if (found := HEADING.match(piece))}


def test_all_methods_are_there_family_by_family():
    headings = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    told = [f"{family.capitalize()}: {does}" for family, does in FAMILIES.items()]
    assert headings[: len(told)] == told
    assert [found["name"] for found in HEADING.finditer(PAGE)] == list(methods())


@pytest.mark.parametrize("name", list(methods()))
def test_title_source_and_traits_are_those_of_the_method(name):
    section, method = sections()[name], methods()[name]
    assert section.startswith(f"### `{name}`: {method.title}\n")
    assert section.rstrip().split("**Source:** ")[1] == method.source
    for line in LINES:
        assert re.search(rf"^- \*\*{line}:\*\* \S", section, re.MULTILINE), line
    traits = section.splitlines()[2]
    assert traits.startswith("*signed" if method.signed else "*unsigned")
    assert ("--background" in traits) == ("backgrounds" in method.requires)
    assert ("`-s`" in traits) == ("segmentation" in method.requires)
    assert ("--seconds" in traits) == bool(method.parts)


@pytest.mark.parametrize("name", list(FIXED))
def test_the_cost_is_the_one_that_the_method_states(task, convolutional, name):
    job = task(convolutional(2), torch.randn(1, 1, 24, 20))
    said = re.search(r"\*\*Forward passes:\*\* (.+)", sections()[name]).group(1)
    assert methods()[name]().forward_passes(job) == FIXED[name]
    assert str(FIXED[name]) in re.findall(r"\d+(?:\.\d+)?", said)
