"""Every parameter has an end, and every method can be stopped whatever its parameters are."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from typing import Any

import pytest
import torch
from torch import nn

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.registry import find_method, methods
from SaliencyExplain.errors import Cancelled, ErrorCode, InputError
from Testing.builders import make_task
from Testing.quick_methods import names

#: Seconds after which a method that goes on in spite of a cancel is ended, as hung. No result is
#: about this time.
ends = pytest.mark.timeout(300)

NUMBERS = [
    (name, field)
    for name, kind in methods().items()
    for field in dataclasses.fields(kind)
    if isinstance(field.default, (int, float)) and not isinstance(field.default, bool)
]


class Cancelling:
    """Progress that cancels at its 20th call, and counts how often it was told of any."""

    LAST = 20

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, done: float, total: float) -> None:
        assert 0 <= done <= total * (1 + 1e-6)
        self.calls += 1
        if self.calls >= self.LAST:
            raise Cancelled("The test cancels.")


def task_of(spatial_dims: int, **settings: Any) -> Task:
    """A small convolutional classifier and an image of noise, with backgrounds."""
    torch.manual_seed(0)
    conv = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
    pool = nn.AdaptiveAvgPool3d if spatial_dims == 3 else nn.AdaptiveAvgPool2d
    edge = 16 if spatial_dims == 3 else 48
    network = nn.Sequential(
        conv(1, 4, 3, padding=1), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(4, 2)
    )
    return make_task(
        network.requires_grad_(False),
        torch.rand((1, 1, *[edge] * spatial_dims)),
        backgrounds=torch.rand((3, 1, *[edge] * spatial_dims)),
        **settings,
    )


@pytest.mark.parametrize(("name", "field"), NUMBERS)
def test_every_number_has_a_least_and_a_greatest_value(name, field) -> None:
    low, high = field.metadata["minimum"], field.metadata["maximum"]
    assert math.isfinite(low)
    assert math.isfinite(high)
    assert low <= field.default <= high
    beyond = [2 * high + 1, low - abs(low) - 1]
    if isinstance(field.default, int):
        beyond = [int(value) for value in beyond]
    for given in (*beyond, 10**400, -(10**5000), math.nan, math.inf, -math.inf):
        with pytest.raises(InputError) as error:
            find_method(name)(**{field.name: given})
        assert error.value.code in (ErrorCode.VALUE_RANGE, ErrorCode.VALUE_FORM)
        assert f"{name}.{field.name}" in str(error.value)
        assert len(str(error.value)) < 300


@pytest.mark.parametrize("value", ["x", None, True, 1.5, [], (1,), torch.ones(1)])
def test_a_value_of_another_type_is_refused_by_name(value) -> None:
    with pytest.raises(InputError) as error:
        find_method("lime")(samples=value)
    assert error.value.code is ErrorCode.VALUE_FORM
    assert "lime.samples" in str(error.value)


def test_a_list_without_an_end_is_refused() -> None:
    with pytest.raises(InputError) as error:
        find_method("gradcam")(layers=("a",) * 100_000)
    assert error.value.code is ErrorCode.VALUE_RANGE
    assert "gradcam.layers" in str(error.value)


def extremes(kind: type[Method]) -> list[dict[str, Any]]:
    """Parameters that ask for most: all counts at their greatest, and each length at its ends."""
    fields = dataclasses.fields(kind)
    counts = {
        field.name: field.metadata["maximum"] for field in fields if type(field.default) is int
    }
    found = [counts]
    for field in fields:
        if field.metadata["unit"] == "mm":
            found += [counts | {field.name: value} for value in (1e-9, 1.0, 3.0, 1e6)]
    return found


@pytest.mark.slow
@ends
@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", names())
def test_every_method_ends_when_it_is_cancelled(name, spatial_dims) -> None:
    kind = methods()[name]
    for parameters in extremes(kind):
        progress = Cancelling()
        task = task_of(spatial_dims, progress=progress)
        with contextlib.suppress(Cancelled, InputError):
            method = kind(**parameters)
            method.forward_passes(task)
            method.attribute(task)
        assert progress.calls <= Cancelling.LAST, "it went on after the cancel"


@ends
@pytest.mark.parametrize("name", names(family="surrogate"))
def test_a_budget_holds_for_the_samples_and_their_intervals(name) -> None:
    method = find_method(name)(**extremes(find_method(name))[0])
    told: list[float] = []
    over = time.perf_counter()
    task = task_of(2, deadline=over, publish=lambda maps, share: told.append(share))
    found = method.attribute(task)[""]
    assert found.isfinite().all()
    assert told[-1] < 1
