"""What methods cost on a prepared case, in forward passes and seconds."""

from __future__ import annotations

from collections.abc import Sequence

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.cost_estimate import Estimate
from SaliencyExplain.explanation.prepared_case import PreparedCase
from SaliencyExplain.method_failures import MethodFailures


def estimate(case: PreparedCase, methods: Sequence[Method]) -> Estimate:
    """What :func:`~SaliencyExplain.explanation.explain.explain` costs with the same arguments.

    Methods that cannot take the image cost nothing.

    Raises:
        InputError: No method can take the image.
    """
    task = case.task()
    return total_cost(method_costs(task, methods, case.prediction.seconds, MethodFailures()))


def cost_of(method: Method, task: Task, pass_seconds: float) -> Estimate:
    """What a method costs.

    Args:
        method: With its parameters.
        task: The image.
        pass_seconds: Time of a forward pass of the image.

    Raises:
        InputError: The method cannot take the image.
    """
    seconds = method.forward_passes(task) * pass_seconds + method.seconds_beside(task)
    return Estimate(seconds / pass_seconds, seconds)


def method_costs(
    task: Task, methods: Sequence[Method], pass_seconds: float, failures: MethodFailures
) -> list[tuple[Method, Estimate]]:
    """What each method costs that can take the image.

    Args:
        task: The image.
        methods: The methods.
        pass_seconds: Time of a forward pass of the image.
        failures: Told why the other methods cannot take it.

    Raises:
        InputError: None of them can.
    """
    costs: list[tuple[Method, Estimate]] = []
    for method in methods:
        with failures.of(method.name):
            costs.append((method, cost_of(method, task, pass_seconds)))
    if not costs:
        failures.raise_first()
    return costs


def total_cost(costs: Sequence[tuple[Method, Estimate]]) -> Estimate:
    """What all methods cost together, and which of them no limit of seconds stops."""
    return Estimate(
        sum(cost.forward_passes for _, cost in costs),
        sum(cost.seconds for _, cost in costs),
        tuple((method.name, cost.seconds) for method, cost in costs if not method.parts),
    )
