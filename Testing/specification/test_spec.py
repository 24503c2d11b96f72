"""A specification: JSON and back, its limits, and what no computation can be meant by."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from SaliencyExplain.engine.wire.serialisation import made, parse_json, to_json
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.specification.parameters import NOTHING
from SaliencyExplain.specification.spec import ExplainSpec, Limits, MethodChoice, References
from SaliencyExplain.specification.spec_fields import spec_of
from SaliencyExplain.specification.target import CLASS, Target
from Testing.expected_errors import error_with

WHOLE = ExplainSpec(
    (MethodChoice("occlusion", {"window_mm": 8.0}), MethodChoice("gradcam")),
    Target(CLASS, "glioma"),
    2**63 - 1,
    Limits(4e9, "bfloat16", 8, 20.0, None),
    References("tumour.nrrd", ("a", "b"), ("a note",), ("one.nii", "two")),
)
NUMBERS = (math.nan, math.inf, -math.inf, -1.0, -(10**400), 10**400, 10**5000, "1", True)
ABSURD = [
    *((Limits, {"memory": number}) for number in (*NUMBERS, 0.0)),
    *((Limits, {"seconds": number}) for number in NUMBERS),
    *((Limits, {"passes": number}) for number in (*NUMBERS, 0.0)),
    *((Limits, {"batch_size": number}) for number in (0, -1, 10**400, 2.5, "1", True)),
    *((Limits, {"precision": word}) for word in ("bf16", "", None, 16)),
    *((ExplainSpec, {"seed": number}) for number in (-1, 2**63, 10**400, 1.5, "1", True, None)),
    (ExplainSpec, {"methods": (MethodChoice("lime"),) * 10_000}),
    (ExplainSpec, {"target": "glioma"}),
    (ExplainSpec, {"limits": None}),
    (References, {"backgrounds": ("v",) * 100_000}),
    (References, {"segmentation": 3}),
]


@pytest.mark.parametrize("spec", [ExplainSpec(), WHOLE])
def test_a_specification_is_json_and_back(spec: ExplainSpec) -> None:
    assert made(ExplainSpec, parse_json(to_json(spec))) == spec


@pytest.mark.parametrize(("kind", "fields"), ABSURD)
def test_a_value_that_no_computation_can_have_is_refused_by_its_name(kind, fields) -> None:
    with pytest.raises(InputError) as error:
        kind(**fields)
    assert error.value.code in (
        ErrorCode.VALUE_RANGE,
        ErrorCode.VALUE_FORM,
        ErrorCode.NAME_UNKNOWN,
    )
    assert next(iter(fields)) in str(error.value)
    assert len(str(error.value)) < 300


def test_values_at_the_ends_of_their_ranges_pass() -> None:
    least = Limits(1.0, "float32", 1, 0.0, 1)
    spec = ExplainSpec(seed=0, limits=least)
    assert dataclasses.astuple(spec.limits) == (1.0, "float32", 1, 0.0, 1)
    assert (spec.seed, WHOLE.seed) == (0, 2**63 - 1)


@pytest.mark.parametrize("kind", [ExplainSpec, Limits, References])
def test_each_field_is_described(kind: type) -> None:
    for field in dataclasses.fields(kind):
        assert field.metadata["description"].endswith(".")
        if field.default is None:
            assert field.metadata[NOTHING]
        if isinstance(field.default, (int, float)):
            assert field.metadata["minimum"] is not None
            assert field.metadata["maximum"] is not None


def test_the_smaller_limit_of_memory_holds() -> None:
    assert Limits().within(None) is None
    assert Limits(5.0).within(None) == Limits().within(5.0) == 5.0
    assert Limits(5.0).within(3.0) == Limits(3.0).within(5.0) == 3.0
    assert Limits().memory_bytes == math.inf


def test_a_specification_is_made_of_flat_values_whose_limits_may_have_units() -> None:
    spec = spec_of(
        [MethodChoice("gradcam")], target=1, seed=7, memory="2 GB", seconds="1.5 min", passes=None,
        segmentation=Path("a,b.nrrd"), backgrounds=[Path("healthy")],
    )  # fmt: skip
    assert spec == ExplainSpec(
        (MethodChoice("gradcam"),), Target.parse("1"), 7,
        Limits(memory=2 * 1024**3, seconds=90.0, passes=None),
        References(segmentation="a,b.nrrd", backgrounds=("healthy",)),
    )  # fmt: skip
    assert spec_of() == ExplainSpec()


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("memory", "much", ErrorCode.VALUE_FORM),
        ("memory", 0, ErrorCode.VALUE_RANGE),
        ("precision", "float8", ErrorCode.NAME_UNKNOWN),
        ("batch_size", 1.5, ErrorCode.VALUE_FORM),
        ("seconds", float("nan"), ErrorCode.VALUE_RANGE),
        ("seed", -1, ErrorCode.VALUE_RANGE),
    ],
)
def test_a_flat_value_that_does_not_fit_is_refused_by_its_name(
    name: str, value: object, code: ErrorCode
) -> None:
    with error_with(code, name):
        spec_of(**{name: value})
