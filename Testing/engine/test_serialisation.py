"""Dataclasses of the interface as JSON and back."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from SaliencyExplain.engine import interface
from SaliencyExplain.engine.interface import About, ClassifierInfo, JobStatus
from SaliencyExplain.engine.wire.request_base import KINDS
from SaliencyExplain.engine.wire.requests import ExplainRequest, ProbeRequest
from SaliencyExplain.engine.wire.results import CompareResult
from SaliencyExplain.engine.wire.serialisation import made, parse_json, to_json
from SaliencyExplain.errors import InputError
from SaliencyExplain.probe_result import Removal
from SaliencyExplain.results.attribution_map import Attribution
from SaliencyExplain.results.class_prediction import Prediction
from SaliencyExplain.specification.parameters import NOTHING, example_of
from SaliencyExplain.specification.spec import MethodChoice, RegionOfInterest
from SaliencyExplain.specification.target import Target
from SaliencyExplain.voxel_volume import Volume


def from_json(kind: type, content: bytes) -> object:
    """As the server and the client read what they are sent."""
    return made(kind, parse_json(content), volumes=VOLUMES.__getitem__)


#: The volumes that the engine holds, by their hash.
VOLUMES = {
    volume.hash: volume
    for volume in (
        Volume(np.arange(6, dtype=np.float32).reshape(2, 3), np.eye(4)),
        Volume(np.zeros((2, 2, 2), np.float32), np.diag([2.0, 2.0, 3.0, 1.0])),
    )
}
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
REGIONS = (
    RegionOfInterest(),
    RegionOfInterest("segmentation", roi_margin_mm=2.5),
    RegionOfInterest("point:1,2,3", roi_size_mm=40.0),
)
TARGETS = ("predicted", "label", "a", "class:label", "difference:a|b", "logit:point:1,2,3")
ALL = [
    *KINDS.values(),
    *(request.result_type for request in KINDS.values()),
    About,
    ClassifierInfo,
    JobStatus,
]


def instances(kind: typing.Any) -> st.SearchStrategy[typing.Any]:
    if kind is Target:
        return st.sampled_from(TARGETS).map(Target.parse)
    if kind is RegionOfInterest:
        return st.sampled_from(REGIONS)
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    if kind is Attribution:
        rest = {
            field.name: valid(field, hints[field.name])
            for field in fields
            if field.name not in ("values", "affine")
        }
        return st.sampled_from(list(VOLUMES.values())).flatmap(
            lambda one: st.builds(kind, st.just(one.values), st.just(one.affine), **rest)
        )
    return st.builds(kind, **{field.name: valid(field, hints[field.name]) for field in fields})


def valid(field: dataclasses.Field[typing.Any], hint: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Values of a field; where it is described, within its range and choices."""
    if field.metadata.get("choices"):
        return st.sampled_from(field.metadata["choices"])
    if field.metadata.get("minimum") is None:
        return of(hint)
    low, high = field.metadata["minimum"], field.metadata["maximum"]
    if type(example_of(field)) is int:
        numbers: st.SearchStrategy[typing.Any] = st.integers(low, high)
    else:
        numbers = st.floats(low, high)
    return st.none() | numbers if NOTHING in field.metadata else numbers


def of(hint: typing.Any) -> st.SearchStrategy[typing.Any]:
    if hint is typing.Any:
        return PLAIN
    if dataclasses.is_dataclass(hint):
        return instances(hint)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        if inner[-1] is Ellipsis:
            return st.lists(of(inner[0]), max_size=3).map(tuple)
        return st.tuples(*map(of, inner))
    if origin is list:
        return st.lists(of(inner[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(st.text(), of(inner[1]), max_size=3)
    if origin is not None:
        return st.one_of(*map(of, inner))
    return {
        float: st.floats(allow_nan=False, allow_infinity=False, width=32),
        int: st.integers(-(2**63), 2**63 - 1),
        str: st.text(),
        bool: st.booleans(),
        type(None): st.none(),
        Path: st.text().map(Path),
    }[hint]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_dataclass_comes_back_the_same(kind: type):
    @given(instances(kind))
    @settings(max_examples=30, deadline=None)
    def check(value: object) -> None:
        assert from_json(kind, to_json(value)) == value

    check()


def test_no_dataclass_of_the_interface_was_left_out():
    mentioned = " ".join(str(typing.get_type_hints(kind)) for kind in ALL) + str(ALL)
    for name, kind in vars(interface).items():
        if dataclasses.is_dataclass(kind) and kind.__module__ == interface.__name__:
            assert name in mentioned


def test_undefined_figures_are_null_on_the_way():
    result = Prediction(("a",), (math.nan,), (), math.inf)
    text = to_json(result)
    assert json.loads(text)["probabilities"] == [None]
    back = from_json(Prediction, text)
    assert math.isnan(back.probabilities[0])
    assert math.isnan(back.seconds)
    rows = CompareResult(("auroc",), ({"auroc": None, "n": 3},), (), ())
    assert from_json(CompareResult, to_json(rows)) == rows
    ball = Removal("a", None, 3, (0.5,))
    assert from_json(Removal, to_json(ball)) == ball


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"9" * 10_000, "not valid JSON"),
        (b'{"classifier": NaN}', "NaN"),
        (b'{"classifier": "\\ud800"}', "not valid JSON"),
        (
            b'{"classifier": "c", "volume": "v", "spec": {"seed": 18446744073709551616}}',
            "64 bits",
        ),
        (b'{"any": [{"thing": -9223372036854775809}]}', "64 bits"),
        (b"[]", "mapping"),
        (b'{"classifier": "c", "volume": "v"}', "'spec'"),
        (b'{"classifier": 3, "volume": "v", "spec": {}}', "text"),
        (b'{"classifier": "c", "volume": "v", "spec": {"methods": {}}}', "list"),
        (b'{"classifier": "c", "volume": "v", "spec": {"methods": ["occlusion"]}}', "mapping"),
        (
            b'{"classifier": "c", "volume": "v", "spec": {"methods": [], "seed": 1.5}}',
            "whole number",
        ),
        (
            b'{"classifier": "c", "volume": "v", "spec": {"methods": [], "seed": true}}',
            "whole number",
        ),
        (
            b'{"classifier": "c", "volume": "v", "spec": {"methods": [], "seeds": 1}}',
            "Did you mean 'seed'",
        ),
        (b'{"classifier":"c","volume":"v","spec":{"limits":{"seconds":1e999}}}', "a number"),
    ],
)
def test_requests_of_another_form_are_refused_in_one_line(content: bytes, told: str):
    with pytest.raises(InputError, match=told) as raised:
        from_json(ExplainRequest, content)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_point_has_three_numbers():
    with pytest.raises(InputError, match="list of 3"):
        from_json(ProbeRequest, b'{"classifier": "c", "volume": "v", "point_ras": [1, 2]}')


def test_parameters_keep_their_values():
    choice = MethodChoice("occlusion", {"window_mm": 8.0, "layers": ["a", "b"], "fill": "mean"})
    assert from_json(MethodChoice, to_json(choice)) == choice
    assert parse_json(b'{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
