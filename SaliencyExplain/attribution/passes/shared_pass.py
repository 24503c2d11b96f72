"""One forward and one backward pass for all the methods that can share them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from contextlib import suppress
from typing import ClassVar, Protocol

import torch

from SaliencyExplain.attribution.graph.layer_outputs import named_layers, require_open
from SaliencyExplain.attribution.graph.network_structure import last_layers_by_grid
from SaliencyExplain.attribution.network.frozen_network import plain
from SaliencyExplain.attribution.network.region_scores import RegionMean
from SaliencyExplain.attribution.passes.batches import is_out_of_memory, memory_error
from SaliencyExplain.attribution.passes.feature_pass import FeaturePass
from SaliencyExplain.attribution.passes.pass_spec import Parts, PassResult, PassSpec
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.errors import DeviceMemoryError, ErrorCode, InputError


def wanted_layers(
    task: Task,
    layers: tuple[str, ...],
    method: str,
    *,
    default: str = "last",
    gradients: bool = True,
) -> PassSpec:
    """The named layers, else those of the default.

    Args:
        task: The network.
        layers: Names of layers; none: the default.
        method: Name of the method, for errors.
        default: ``last``, ``stages`` or ``every``, see :class:`PassSpec`.
        gradients: Whether their gradients are wanted as well.

    Raises:
        InputError: A layer does not exist, or the network hides its layers.
    """
    if layers:
        named_layers(task.network, layers, method)
        return PassSpec(layers, gradients=gradients)
    require_open(task.network, method)
    if isinstance(task.network.network, RegionMean) and default != "every":
        return PassSpec(_layers_of_region(task, default, method), gradients=gradients)
    return PassSpec(
        last=default == "last",
        stages=default == "stages",
        every=default == "every",
        gradients=gradients,
    )


def _layers_of_region(task: Task, default: str, method: str) -> tuple[str, ...]:
    """The coarsest feature maps for ``last``, those of each size for ``stages``.

    What every path to a region's score goes through is the region itself, which a map of it would
    show whatever the network looks at.
    """
    layers = last_layers_by_grid(task.network, plain(task.input))
    if not layers:
        raise InputError(
            ErrorCode.LAYER_UNSUITABLE,
            f"{method} needs a convolution or an activation function with feature maps, and none "
            "was found in this network. Use occlusion, gradient or smoothgrad.",
        )
    if default == "last":
        task.note(
            f"The map is of layer '{layers[0]}', the coarsest feature maps; what reaches the "
            "region on other paths (skip connections) is not in it. Other layers can be named."
        )
        return layers[:1]
    return layers


def layers_of(result: PassResult, wanted: PassSpec, task: Task) -> dict[str, Parts]:
    """The layers that a method needs from a pass; notes on them are added to the task."""
    for name in wanted.layers or ("",) * wanted.last:
        if name in result.notes:
            task.note(result.notes[name])
    if wanted.layers:
        return {name: result.layers[name] for name in wanted.layers}
    if wanted.every:
        return {name: result.layers[name] for name in result.every}
    if wanted.stages:
        return result.stages
    if result.record:
        task.record({"feature_maps_of": result.record})
    return {result.name: result.target}


class SharesPass(Protocol):
    """A method, as far as the pass that it may share is concerned."""

    #: Whether it computes in the task's precision; False: always in float32.
    lower_precision: ClassVar[bool]

    def shares(self, task: Task) -> PassSpec | None:
        """What it needs from a pass; None: nothing."""
        ...


class SharedPass:
    """The pass that the methods of one explanation share; runs when the first needs it.

    Args:
        wanted: What all of them want.
        precision: As ``Task.precision``.
    """

    def __init__(self, wanted: PassSpec, precision: str) -> None:
        self._wanted, self._precision = wanted, precision
        self._passed: tuple[Task, PassResult] | None = None

    @classmethod
    def of(cls, methods: Iterable[SharesPass], task: Task) -> SharedPass:
        """That of these methods on a task."""
        wanted = PassSpec()
        for method in methods:
            # A method that always computes in float32 then runs a separate pass.
            if method.lower_precision or task.precision == "float32":
                # A method reports a missing layer itself when it is computed.
                with suppress(InputError):
                    wanted |= method.shares(task) or PassSpec()
        return cls(wanted, task.precision)

    def passed(self, task: Task, wanted: PassSpec) -> PassResult:
        """What a method needs from the task's image, and possibly more.

        Raises:
            InputError: As :func:`run`.
            DeviceMemoryError: The memory is too small for what this method needs.
        """
        if wanted not in self._wanted or task.precision != self._precision:
            return run(task, wanted)
        if self._passed is None or not _alike(task, self._passed[0]):
            self._passed = None
            try:
                self._passed = task, run(task, self._wanted)
            except (DeviceMemoryError, InputError):
                if wanted == self._wanted:
                    raise
                # The shared pass does not fit the memory or fails: each method now runs, and
                # fails, separately.
                self._wanted = PassSpec()
                return run(task, wanted)
        return self._passed[1]


def passed(task: Task, wanted: PassSpec, *, exact: bool = False) -> PassResult:
    """What a method needs, from the shared pass or from a separate one.

    Args:
        task: The image.
        wanted: What the method wants.
        exact: Whether float32 is needed whatever the task's precision.
    """
    if exact:
        task = dataclasses.replace(task, precision="float32")
    shared = task.shared or SharedPass(wanted, task.precision)
    return shared.passed(task, wanted)


def _alike(task: Task, other: Task) -> bool:
    """Whether two tasks have the same pass: methods also compute on other images."""
    settings = ("network", "target")
    return (
        all(getattr(task, name) is getattr(other, name) for name in settings)
        and task.input.device == other.input.device
        and torch.equal(plain(task.input), plain(other.input))
    )


def run(task: Task, wanted: PassSpec) -> PassResult:
    """One forward pass of the task's image, and one backward pass if gradients are wanted.

    Raises:
        InputError: A layer gives no feature map or did not run, or the network lets no
            gradient through.
        DeviceMemoryError: The memory does not suffice.
    """
    try:
        return FeaturePass(task, wanted).run()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise memory_error(task, reason)
