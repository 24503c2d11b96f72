"""What a map explains: as a text, as JSON, and where it is looked up."""

from __future__ import annotations

import dataclasses

import pytest

from SaliencyExplain.attribution.network.score_combination import ScoreCombination
from SaliencyExplain.demo.study import classifier_folder
from SaliencyExplain.engine.wire.serialisation import made, parse_json, to_json
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.specification.target import (
    CLASS,
    DIFFERENCE,
    LABEL,
    LOGIT,
    OUTPUT,
    POINT,
    PREDICTED,
    REGION,
    Target,
)

TEXTS = {
    "predicted": Target(PREDICTED),
    "label": Target(LABEL),
    "glioma": Target(CLASS, "glioma"),
    "2": Target(CLASS, "2"),
    "class:predicted": Target(CLASS, "predicted"),
    "a:b": Target(CLASS, "a:b"),
    "class:region:x": Target(CLASS, "region:x"),
    "difference:glioma|none": Target(DIFFERENCE, "glioma", "none"),
    "output:age": Target(OUTPUT, "age"),
    "region:tumour": Target(REGION, "tumour"),
    "point:1.0,-2.5,30.0": Target(POINT, point_ras=(1.0, -2.5, 30.0)),
    "logit:glioma": Target(CLASS, "glioma", unit=LOGIT),
    "logit:difference:a|b": Target(DIFFERENCE, "a", "b", unit=LOGIT),
}


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return load_classifier(classifier_folder("phantom-2d-honest"))


@pytest.mark.parametrize(("text", "target"), TEXTS.items())
def test_a_target_is_one_text_and_json_and_back(text: str, target: Target) -> None:
    assert Target.parse(text) == target
    assert str(target) == text
    assert made(Target, parse_json(to_json(target))) == target


def test_a_points_place_may_have_units() -> None:
    assert Target.parse("point:1cm,-2mm,3").point_ras == (10.0, -2.0, 3.0)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", ErrorCode.VALUE_FORM),
        ("class:", ErrorCode.VALUE_FORM),
        ("difference:a", ErrorCode.VALUE_FORM),
        ("difference:a|", ErrorCode.VALUE_FORM),
        ("point:1,2", ErrorCode.VALUE_RANGE),
        ("point:1,2,x", ErrorCode.VALUE_FORM),
        ("point:1,2,nan", ErrorCode.VALUE_RANGE),
        ("point:1,2,inf", ErrorCode.VALUE_RANGE),
        ("point:1,2,1e9", ErrorCode.VALUE_RANGE),
        ("x" * 10**6, ErrorCode.VALUE_RANGE),
    ],
)
def test_a_text_that_names_no_target_is_refused(text: str, code: ErrorCode) -> None:
    with pytest.raises(InputError) as error:
        Target.parse(text)
    assert error.value.code is code
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b'{"kind": "volume"}', ErrorCode.NAME_UNKNOWN),
        (b'{"kind": "class", "name": "a", "unit": "volt"}', ErrorCode.NAME_UNKNOWN),
        (b'{"kind": "predicted", "name": "a"}', ErrorCode.VALUE_FORM),
        (b'{"kind": "point", "point_ras": [1, 2, "3"]}', ErrorCode.ENGINE_REQUEST),
        (b'{"kind": 3}', ErrorCode.ENGINE_REQUEST),
    ],
)
def test_a_document_that_is_no_target_is_refused(document: bytes, code: ErrorCode) -> None:
    with pytest.raises(InputError) as error:
        made(Target, parse_json(document))
    assert error.value.code is code


@pytest.mark.parametrize(
    "text",
    [
        "output:0",
        "region:1",
        "point:0.0,0.0,0.0",
    ],
)
def test_a_kind_that_a_classifier_does_not_have_is_refused_by_name(
    classifier: Classifier, text: str
) -> None:
    with pytest.raises(InputError) as error:
        classifier.class_index(text, [0.1] * len(classifier.classes))
    assert error.value.code is ErrorCode.TARGET_KIND
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("glioma-like", None),
        ("predicted", None),
        ("logit:glioma-like", ScoreCombination(1, None, "logit")),
        ("probability:predicted", ScoreCombination(2, None, "probability")),
        ("difference:glioma-like|none", ScoreCombination(1, 0, "automatic")),
        ("logit:difference:Glioma-like|0", ScoreCombination(1, 0, "logit")),
        ("difference:predicted|none", ScoreCombination(2, 0, "automatic")),
    ],
)
def test_what_a_target_is_of_the_scores(
    classifier: Classifier, text: str, expected: ScoreCombination | None
) -> None:
    assert classifier.classes[:2] == ("none", "glioma-like")
    probabilities = [0.1, 0.2, 0.4, *[0.0] * (len(classifier.classes) - 3)]
    assert classifier.combination(text, probabilities) == expected


def test_a_class_is_not_subtracted_from_itself(classifier: Classifier) -> None:
    with pytest.raises(InputError) as error:
        classifier.combination("difference:none|none", [0.5, 0.5])
    assert error.value.code is ErrorCode.VALUE_FORM


def test_the_own_label_is_for_the_cases_of_a_study(classifier: Classifier) -> None:
    with pytest.raises(InputError) as error:
        classifier.class_index(Target(LABEL), [0.1] * len(classifier.classes))
    assert error.value.code is ErrorCode.OPTION_CONFLICT


def test_a_text_that_is_a_classs_name_means_that_class(classifier: Classifier) -> None:
    for name in ("region:x", "predicted", "label", "logit:a", "Output:3"):
        named = replaced(classifier, (name, *classifier.classes[1:]))
        assert named.class_index(name, [0.0, *[1.0] * (len(named.classes) - 1)]) == 0
        assert named.class_index(Target(CLASS, name), [0.0]) == 0


def replaced(classifier: Classifier, classes: tuple[str, ...]) -> Classifier:
    return dataclasses.replace(classifier, classes=classes)
