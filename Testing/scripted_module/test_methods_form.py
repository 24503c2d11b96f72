"""The methods' form is made from their descriptions and says back what was chosen."""

from __future__ import annotations

from typing import Any

import pytest
from SlicerSaliencyExplainLib.MethodsForm import MethodsForm

from SaliencyExplain.attribution.method_selection import describe_methods
from SaliencyExplain.attribution.registry import methods


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
    assert window.specialValueText == "automatic: about an eighth of the image's longest side"
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
    from SaliencyExplain.attribution.method_selection import chosen_methods
    from SaliencyExplain.specification.spec import MethodChoice

    for name in methods():
        form.tick(name).checked = True
    choices = tuple(MethodChoice(name, given) for name, given in form.values().items())
    assert [method.name for method in chosen_methods(choices)] == list(form.values())


def test_families_are_folded_but_for_the_usual_ones_and_those_with_a_choice(
    form: MethodsForm,
) -> None:
    assert form.family("perturbation").button.checked
    path = form.family("path")
    assert not path.button.checked
    tick = form.tick("integrated-gradients")
    assert tick.parentWidget().isHidden()
    path.unfold(True)
    assert not tick.parentWidget().isHidden()
    form.set_values({"lrp": {}})
    assert not form.tick("lrp").parentWidget().isHidden()


def test_a_very_small_number_is_not_rounded_away(form: MethodsForm) -> None:
    form.tick("lrp").checked = True
    assert form.field("lrp", "epsilon").value > 0
    assert form.values() == {"lrp": {}}


def test_says_what_the_ticked_methods_ask_for(form: MethodsForm) -> None:
    assert form.asked() == set()
    form.tick("shapley").checked = True
    assert form.asked() == {"segmentation"}
    form.tick("expected-gradients").checked = True
    assert form.asked() == {"segmentation", "backgrounds"}


def test_parameters_are_seen_while_their_method_is_ticked(form: MethodsForm) -> None:
    frame = form.field("occlusion", "window_mm").parentWidget()
    assert frame.isHidden()
    form.tick("occlusion").checked = True
    assert not frame.isHidden()
    assert form.changes
    form.tick("occlusion").checked = False
    assert frame.isHidden()
