"""One forward and one backward pass for all the methods that can share them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.batches import is_out_of_memory, memory_error
from SaliencyExplain.attribution.cells import CellGrid
from SaliencyExplain.attribution.gradient_path import gradient_end, no_gradient
from SaliencyExplain.attribution.guard import plain, untouched
from SaliencyExplain.attribution.layers import (
    feature_layers,
    is_feature_map,
    looking,
    named_layers,
    require_convolutions,
    sees_places,
)
from SaliencyExplain.attribution.method import Method, Task
from SaliencyExplain.attribution.network import ScoreNetwork
from SaliencyExplain.errors import DeviceMemoryError, ErrorCode, InputError


@dataclass(frozen=True)
class Wanted:
    """What methods want of a pass.

    Attributes:
        layers: Names of layers whose features are wanted.
        last: Those of the last of :func:`feature_layers` that runs and still sees places.
        every: Those of all of them that run and see places.
        gradients: The gradients of all these layers as well.
        voxels: The gradient of the image.
        ends: What goes into the last linear layer, and the feature maps whose mean it may be.
    """

    layers: tuple[str, ...] = ()
    last: bool = False
    every: bool = False
    gradients: bool = False
    voxels: bool = False
    ends: bool = False

    def __or__(self, other: Wanted) -> Wanted:
        return Wanted(
            tuple(dict.fromkeys((*self.layers, *other.layers))),
            self.last or other.last,
            self.every or other.every,
            self.gradients or other.gradients,
            self.voxels or other.voxels,
            self.ends or other.ends,
        )

    def __contains__(self, other: Wanted) -> bool:
        return self | other == self


@dataclass
class Passed:
    """What a pass gave, float32 and without a graph; empty where it was not wanted.

    Attributes:
        scores: ``(K,)``.
        grid: Where the cells of feature maps lie in the image.
        features: ``{layer: (c, *s)}``, in the order in which they ran, of a layer that ran
            again the last time.
        gradients: The same of the target's score.
        last: Name of the last layer that sees places.
        every: Names of all layers that see places, in the same order.
        voxels: Gradient of the image, ``(C, *S)``.
        end: Name of the last linear layer that ran, and its input.
        means: Feature maps that have as many channels as a linear layer's input.
    """

    scores: Tensor
    grid: CellGrid
    features: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)
    last: str = ""
    every: tuple[str, ...] = ()
    voxels: Tensor | None = None
    end: tuple[str, Tensor] | None = None
    means: dict[str, Tensor] = field(default_factory=dict)

    def names(self, wanted: Wanted) -> tuple[str, ...]:
        """The layers that somebody wanted: those named, else every one, else the last."""
        return wanted.layers or (self.every if wanted.every else (self.last,))


def wanted_layers(
    task: Task,
    layers: tuple[str, ...],
    method: str,
    *,
    every: bool = False,
    gradients: bool = True,
) -> Wanted:
    """The named layers, else every one or the last that sees places.

    Args:
        task: The network.
        layers: Names of layers; none: see ``every``.
        method: Name of the method, for errors.
        every: Without names: all convolutions and activation functions that run with more
            than one cell, instead of the last of them.
        gradients: Whether their gradients are wanted as well.

    Raises:
        InputError: A layer does not exist, the network hides its layers or has no
            convolution.
    """
    if layers:
        named_layers(task.network, layers, method)
        return Wanted(layers, gradients=gradients)
    require_convolutions(task.network, method)
    return Wanted(last=not every, every=every, gradients=gradients)


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

    The backward pass ends at the earliest layer that is wanted: its output is made the
    start of the graph.

    Raises:
        InputError: A layer gives no feature map or did not run, or the network lets no
            gradient through.
        DeviceMemoryError: The memory does not suffice.
    """
    try:
        return _Pass(task, wanted).run()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise memory_error(task, reason)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Lets a network compute in a precision, ``float32`` or ``bfloat16``; its weights stay."""
    lower = precision == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=lower, cache_enabled=False)


class _Pass:
    """A pass while it runs."""

    def __init__(self, task: Task, wanted: Wanted) -> None:
        self._network: ScoreNetwork = task.network
        self._task, self._wanted = task, wanted
        self._image = plain(task.input)
        self._graph = wanted.gradients or wanted.voxels
        #: Where nothing before the last layer is wanted the graph begins there.
        self._cuts = not (wanted.layers or wanted.every or wanted.voxels)
        self._features: dict[str, Tensor] = {}
        self._every: dict[str, None] = {}
        self._last = ""
        self._end: tuple[str, Tensor] | None = None
        self._means: dict[str, Tensor] = {}
        self._places = feature_layers(self._network) if wanted.last or wanted.every else {}
        self._layers = self._watched()
        #: The layer that is likely to be the last; what runs before it is not looked at.
        self._guess = next(reversed(self._places), "") if self._cuts else ""

    def _watched(self) -> dict[str, nn.Module]:
        chosen = {name: self._network.layer(name) for name in self._wanted.layers} | self._places
        if not self._wanted.ends:
            return chosen
        modules = {name: module for name, module in self._network.network.named_modules() if name}
        linear = {name: m for name, m in modules.items() if isinstance(m, nn.Linear)}
        self._linear, self._widths = set(linear), {m.in_features for m in linear.values()}
        return chosen | modules

    def run(self) -> Passed:
        network, image = self._network, self._image
        grid = CellGrid(image.shape[2:])
        with untouched(network), torch.set_grad_enabled(self._graph):
            voxels = image.detach()
            if self._wanted.voxels:
                voxels = voxels.clone().requires_grad_()
            scores = self._scores(voxels, grid)
            if self._guess and not self._last:
                # That layer did not run, or is a gate: all of them are looked at.
                self._guess = ""
                scores = self._scores(voxels, grid)
            self._check(scores)
            found = Passed(
                scores.detach()[0],
                grid,
                last=self._last,
                every=tuple(self._every),
                end=self._end,
                means=self._means,
            )
            for name, features in self._features.items():
                found.features[name] = features.detach()[0].float()
            if self._graph:
                self._differentiate(scores[0, self._task.target], voxels, found)
        return found

    def _scores(self, voxels: Tensor, grid: CellGrid) -> Tensor:
        # The image's own gradient has no cells to be followed.
        following = grid.following(self._network.network) if self._layers else nullcontext()
        precise = autocast(voxels.device, self._task.precision)
        with following, looking(self._layers, self._look), precise:
            return self._network(voxels).float()

    def _differentiate(self, score: Tensor, voxels: Tensor, found: Passed) -> None:
        places = self._features if self._wanted.gradients else {}
        starts = [*places.values(), *([voxels] if self._wanted.voxels else [])]
        if not score.requires_grad:
            raise no_gradient(self._network, self._image)
        gradients = torch.autograd.grad(score, starts, allow_unused=True)
        if None in gradients and gradient_end(self._network, self._image):
            raise no_gradient(self._network, self._image)
        for name, gradient in zip(places, gradients, strict=False):
            zero = gradient is None  # the score does not depend on this layer
            found.gradients[name] = (
                torch.zeros_like(found.features[name]) if zero else gradient[0].float()
            )
        if self._wanted.voxels:
            if gradients[-1] is None:
                raise no_gradient(self._network, self._image)
            found.voxels = gradients[-1][0]

    def _look(self, name: str, given: Tensor, output: Tensor) -> Tensor | None:
        if self._wanted.ends:
            self._look_at_end(name, given, output)
        is_named = name in self._wanted.layers
        if is_named and not is_feature_map(output, self._image):
            raise InputError(
                ErrorCode.LAYER_UNSUITABLE,
                f"Layer '{name}' gives {tuple(output.shape)}, not a feature map with "
                f"{self._image.ndim - 2} spatial axes; choose a convolution such as "
                f"'{(self._network.convolutions() or ['none'])[-1]}'.",
            )
        if self._guess and not self._last and name != self._guess:
            return None
        of_places = name in self._places and sees_places(output, self._image)
        if not (is_named or of_places):
            return None
        if self._cuts:
            output = output.detach()
        if self._graph and not output.requires_grad:
            output = output.detach().requires_grad_()
        if of_places:
            if not self._wanted.every and self._last not in self._wanted.layers:
                self._features.pop(self._last, None)
            self._last = name
            if self._wanted.every:
                self._every.pop(name, None)
                self._every[name] = None
        # Of a layer that runs again the last run counts, in its place.
        self._features.pop(name, None)
        self._features[name] = output
        # A copy, since a ReLU behind the layer may work in place.
        return output.clone()

    def _look_at_end(self, name: str, given: Tensor, output: Tensor) -> None:
        if name in self._linear:
            self._end = name, given.detach().float()
        elif (
            is_feature_map(output, self._image)
            and output.shape[1] in self._widths
            and output[0, 0].numel() > 1
        ):
            # A copy, as above.
            self._means[name] = output.detach()[0].float().clone()

    def _check(self, scores: Tensor) -> None:
        missing = [name for name in self._wanted.layers if name not in self._features]
        if missing or (self._places and not self._last):
            named = (
                f"Layer '{missing[0]}' did not run"
                if missing
                else "No convolution with more than one cell ran"
            )
            raise InputError(
                ErrorCode.LAYER_UNSUITABLE, f"{named} in a forward pass; choose another layer."
            )
        if self._wanted.voxels and not scores.requires_grad:
            raise no_gradient(self._network, self._image)
