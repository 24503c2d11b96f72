"""One forward and one backward pass for all the methods that can share them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from SaliencyExplain.attribution.graph.feature_map_grid import FeatureMap
from SaliencyExplain.attribution.graph.layer_outputs import named_layers, require_open
from SaliencyExplain.attribution.graph.tensor_layout import Placement
from SaliencyExplain.attribution.method import Method, Task
from SaliencyExplain.attribution.network.frozen_network import plain
from SaliencyExplain.attribution.passes.batches import is_out_of_memory, memory_error
from SaliencyExplain.errors import DeviceMemoryError, InputError


@dataclass(frozen=True)
class Wanted:
    """What methods want of a pass.

    Attributes:
        layers: Names of layers whose features are wanted.
        last: Those of the tensors that class activation methods look at by default: the last
            ones with a grid that all paths to the scores go through.
        stages: Those of the last such tensor of each grid on the way.
        every: Those of all convolutions and activation functions with a grid.
        gradients: The gradients of all these as well.
        voxels: The gradient of the image.
        ends: What goes into the last linear layer.
    """

    layers: tuple[str, ...] = ()
    last: bool = False
    stages: bool = False
    every: bool = False
    gradients: bool = False
    voxels: bool = False
    ends: bool = False

    def __or__(self, other: Wanted) -> Wanted:
        return Wanted(
            tuple(dict.fromkeys((*self.layers, *other.layers))),
            *(self.last or other.last, self.stages or other.stages, self.every or other.every),
            *(self.gradients or other.gradients, self.voxels or other.voxels),
            self.ends or other.ends,
        )

    def __contains__(self, other: Wanted) -> bool:
        return self | other == self

    @property
    def features(self) -> bool:
        """Whether the features of any layer are wanted."""
        return bool(self.layers) or self.last or self.stages or self.every


@dataclass(frozen=True)
class Part:
    """Feature maps on one grid.

    Attributes:
        features: ``(c, *s)``, float32 and without a graph.
        gradient: The same of the target's score; None: not wanted.
        placement: Where the cells lie in the image.
        size: Voxels of the image per axis.
    """

    features: Tensor
    gradient: Tensor | None
    placement: Placement
    size: tuple[int, ...]

    @property
    def slope(self) -> Tensor:
        """The gradient, where it was wanted."""
        assert self.gradient is not None
        return self.gradient

    def place(self, values: Tensor) -> FeatureMap:
        """A map ``(*s)`` of it, with its place in the image."""
        return FeatureMap(values, self.size, self.placement)


#: What a layer gave: one part, or several where a layer ran side by side on several grids, or
#: where the tensor is that of several branches or members of an ensemble.
Parts = tuple[Part, ...]


@dataclass
class Passed:
    """What a pass gave; empty where it was not wanted.

    Attributes:
        scores: ``(K,)``.
        layers: Of the named layers, and of the convolutions and activation functions.
        target: Of the tensors that class activation methods look at by default.
        stages: Of those of each grid, in the order in which they ran.
        every: Names of the convolutions and activation functions with a grid, in that order.
        rectified: Names of those layers that are rectified.
        name: Of ``target``.
        notes: What must be told of a map of a layer by its name, and of ``target`` by "".
        record: What is to be recorded of ``target``.
        voxels: Gradient of the image, ``(C, *S)``.
        end: Name of the last linear layer that ran, its input and its output.
    """

    scores: Tensor
    layers: dict[str, Parts] = field(default_factory=dict)
    target: Parts = ()
    stages: dict[str, Parts] = field(default_factory=dict)
    every: tuple[str, ...] = ()
    name: str = ""
    notes: dict[str, str] = field(default_factory=dict)
    record: list[dict[str, object]] = field(default_factory=list)
    voxels: Tensor | None = None
    end: tuple[str, Tensor, Tensor] | None = None

    def wanted(self, wanted: Wanted, task: Task) -> dict[str, Parts]:
        """The layers that a method wants; it tells the task what is to be said of them."""
        for name in wanted.layers or ("",) * wanted.last:
            if name in self.notes:
                task.note(self.notes[name])
        if wanted.layers:
            return {name: self.layers[name] for name in wanted.layers}
        if wanted.every:
            return {name: self.layers[name] for name in self.every}
        if wanted.stages:
            return self.stages
        if self.record:
            task.record({"feature_maps_of": self.record})
        return {self.name: self.target}


def wanted_layers(
    task: Task,
    layers: tuple[str, ...],
    method: str,
    *,
    default: str = "last",
    gradients: bool = True,
) -> Wanted:
    """The named layers, else those of the default.

    Args:
        task: The network.
        layers: Names of layers; none: the default.
        method: Name of the method, for errors.
        default: ``last``, ``stages`` or ``every``, see :class:`Wanted`.
        gradients: Whether their gradients are wanted as well.

    Raises:
        InputError: A layer does not exist, or the network hides its layers.
    """
    if layers:
        named_layers(task.network, layers, method)
        return Wanted(layers, gradients=gradients)
    require_open(task.network, method)
    return Wanted(
        last=default == "last",
        stages=default == "stages",
        every=default == "every",
        gradients=gradients,
    )


class SharedPass:
    """The pass that the methods of one explanation share; runs when the first asks for it.

    Args:
        wanted: What all of them want.
        precision: As ``Task.precision``.
    """

    def __init__(self, wanted: Wanted, precision: str) -> None:
        self._wanted, self._precision = wanted, precision
        self._passed: tuple[Task, Passed] | None = None

    @classmethod
    def of(cls, methods: Iterable[Method], task: Task) -> SharedPass:
        """That of these methods on a task."""
        wanted = Wanted()
        for method in methods:
            # One that computes in float32 whatever is asked for has a pass of its own then.
            if method.lower_precision or task.precision == "float32":
                # What a method cannot have, it says itself when it is computed.
                with suppress(InputError):
                    wanted |= method.shares(task) or Wanted()
        return cls(wanted, task.precision)

    def passed(self, task: Task, wanted: Wanted) -> Passed:
        """What a method wants of the task's image, and maybe more.

        Raises:
            InputError: As :func:`run`.
            DeviceMemoryError: The memory does not suffice for what this method wants.
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
                # All of it together is too much, or cannot be had: from now on each method runs
                # by itself, and fails by itself.
                self._wanted = Wanted()
                return run(task, wanted)
        return self._passed[1]


def passed(task: Task, wanted: Wanted, *, exact: bool = False) -> Passed:
    """What a method wants, of the pass that it shares with others or of one of its own.

    Args:
        task: The image.
        wanted: What the method wants.
        exact: Whether it wants it in float32 whatever the task's precision.
    """
    if exact:
        task = dataclasses.replace(task, precision="float32")
    shared = task.shared or SharedPass(wanted, task.precision)
    return shared.passed(task, wanted)


def _alike(task: Task, other: Task) -> bool:
    """Whether two tasks have the same pass: methods ask about other images as well."""
    settings = ("network", "target")
    return (
        all(getattr(task, name) is getattr(other, name) for name in settings)
        and task.input.device == other.input.device
        and torch.equal(plain(task.input), plain(other.input))
    )


def run(task: Task, wanted: Wanted) -> Passed:
    """One forward pass of the task's image, and one backward pass if gradients are wanted.

    Raises:
        InputError: A layer gives no feature map or did not run, or the network lets no
            gradient through.
        DeviceMemoryError: The memory does not suffice.
    """
    try:
        # The pass itself is in a module of its own, which needs what is defined here.
        from SaliencyExplain.attribution.passes.feature_pass import FeaturePass

        return FeaturePass(task, wanted).run()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise memory_error(task, reason)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Lets a network compute in a precision, ``float32`` or ``bfloat16``; its weights stay."""
    lower = precision == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=lower, cache_enabled=False)
