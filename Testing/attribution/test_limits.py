"""Every parameter has an end, and every method can be stopped whatever its parameters are."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import pytest
import torch
from torch import nn

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.registry import find_method, methods
from SaliencyExplain.errors import Cancelled, ErrorCode, InputError

#: Seconds after which somebody cancels, and those within which the method ends. A machine that
#: is busy with other tests takes some for a single step that cannot be stopped.
CANCELLED_AFTER, ENDS_WITHIN = 0.2, 20.0

NUMBERS = [
    (name, field)
    for name, kind in methods().items()
    for field in dataclasses.fields(kind)
    if isinstance(field.default, (int, float)) and not isinstance(field.default, bool)
]


def task_of(spatial_dims: int, network: nn.Module | None = None) -> Task:
    """A small convolutional classifier and an image of noise and a blob, with backgrounds."""
    torch.manual_seed(0)
    conv = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
    pool = nn.AdaptiveAvgPool3d if spatial_dims == 3 else nn.AdaptiveAvgPool2d
    edge = 16 if spatial_dims == 3 else 48
    network = network or nn.Sequential(
        conv(1, 4, 3, padding=1), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(4, 2)
    )
    begun = time.perf_counter()

    def progress(done: float, total: float) -> None:
        assert 0 <= done <= total * (1 + 1e-6)
        if time.perf_counter() - begun > CANCELLED_AFTER:
            raise Cancelled("The test cancels.")

    return Task(
        ScoreNetwork(network).eval().requires_grad_(False),
        torch.rand((1, 1, *[edge] * spatial_dims)),
        1,
        (1.0,) * spatial_dims,
        progress=progress,
        backgrounds=torch.rand((3, 1, *[edge] * spatial_dims)),
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


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", list(methods()))
def test_every_method_ends_when_it_is_cancelled(name, spatial_dims) -> None:
    kind = methods()[name]
    for parameters in extremes(kind):
        task = task_of(spatial_dims)
        begun = time.perf_counter()
        try:
            method = kind(**parameters)
            method.forward_passes(task)
            method.attribute(task)
        except (Cancelled, InputError):
            pass
        assert time.perf_counter() - begun < ENDS_WITHIN, parameters


@pytest.mark.parametrize("name", ["lime", "kernel-shap", "shapley"])
def test_a_budget_holds_for_the_samples_and_their_intervals(name) -> None:
    method = find_method(name)(**extremes(find_method(name))[0])
    begun = time.perf_counter()
    told: list[float] = []
    task = dataclasses.replace(
        task_of(2),
        progress=lambda done, total: None,
        deadline=begun + 0.2,
        publish=lambda maps, share: told.append(share),
    )
    found = method.attribute(task)[""]
    assert found.isfinite().all()
    assert told[-1] < 1
    assert time.perf_counter() - begun < ENDS_WITHIN
