"""The methods' form is made from their descriptions and says back what was chosen."""

from __future__ import annotations

from typing import Any

import pytest
from SlicerSaliencyExplainLib.MethodsForm import MethodsForm

from SaliencyExplain.attribution.registry import methods
from SaliencyExplain.attribution.selection import describe_methods


@pytest.fixture
def form() -> MethodsForm:
    changes: list[int] = []
    form = MethodsForm(describe_methods(), ["first", "last"], lambda: changes.append(1))
    form.changes = changes
    return form


def test_has_each_method_and_none_ticked(form: MethodsForm) -> None:
    for name, kind in methods().items():
        assert form.tick(name).text == kind.title
    assert form.values() == {}


def test_says_only_what_is_not_the_default(form: MethodsForm) -> None:
    form.tick("occlusion").checked = True
    assert form.values() == {"occlusion": {}}
    form.field("occlusion", "window_mm").value = 25.0
    form.field("occlusion", "fill").currentIndex = 1
    assert form.values() == {"occlusion": {"window_mm": 25.0, "fill": "minimum"}}
    form.field("occlusion", "window_mm").value = 0.0
    assert form.values() == {"occlusion": {"fill": "minimum"}}


def test_a_parameter_has_its_unit_its_range_and_what_automatic_means(form: MethodsForm) -> None:
    window = form.field("occlusion", "window_mm")
    assert window.suffix == " mm"
    assert window.minimum == 0.0
    assert window.specialValueText == "automatic: an eighth of the image's longest side"
    samples = form.field("smoothgrad", "samples")
    assert (samples.minimum, samples.value) == (1, 25)
    assert "first, last" in form.field("gradcam", "layers").toolTip


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"gradcam": {"layers": ["last"]}, "smoothgrad": {"samples": 5, "squared": False}},
        {"occlusion": {"window_mm": 12.5, "output": "score"}, "random": {"correlation_mm": 3.0}},
    ],
)
def test_shows_what_was_chosen_before(form: MethodsForm, chosen: dict[str, Any]) -> None:
    form.tick("gradient").checked = True
    form.set_values(chosen)
    assert form.values() == chosen


def test_what_it_says_is_what_the_engine_takes(form: MethodsForm) -> None:
    from SaliencyExplain.engine.answers import chosen_methods
    from SaliencyExplain.engine.interface import MethodChoice

    for name in methods():
        form.tick(name).checked = True
    choices = tuple(MethodChoice(name, given) for name, given in form.values().items())
    assert [method.name for method in chosen_methods(choices)] == list(form.values())


def test_parameters_are_seen_while_their_method_is_ticked(form: MethodsForm) -> None:
    frame = form.field("occlusion", "window_mm").parentWidget()
    assert frame.isHidden()
    form.tick("occlusion").checked = True
    assert not frame.isHidden()
    assert form.changes
    form.tick("occlusion").checked = False
    assert frame.isHidden()
