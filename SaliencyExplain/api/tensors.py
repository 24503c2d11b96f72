"""``attribute``: a method on a network and a tensor, without files and without preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from SaliencyExplain.api.argument_checks import network_of, numbers_of
from SaliencyExplain.api.method_arguments import MethodLike, methods_of
from SaliencyExplain.attribution.method import check_finite_map
from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.network.network_outputs import scores_in
from SaliencyExplain.attribution.network.network_state import Repeatability
from SaliencyExplain.attribution.network.repeatability import examine
from SaliencyExplain.attribution.network.score_network import Activation, ScoreNetwork
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.errors import ErrorCode, InputError, unknown_name, wrong_type
from SaliencyExplain.specification.spec_fields import value_of


@dataclass(frozen=True)
class _Known:
    """The properties of a network as names and numbers, without the network itself."""

    repeatability: Repeatability
    structures: dict[Any, Any]
    classes: int
    shapes: set[tuple[int, ...]]

    @property
    def one_logit(self) -> bool:
        """Whether two classes share a single output."""
        return self.classes == 1


_KNOWN: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()


def attribute(
    network: nn.Module,
    tensor: Tensor,
    method: MethodLike,
    target: int,
    *,
    spacing: Sequence[float] | None = None,
    activation: Activation = "softmax",
    seed: int = 0,
) -> Tensor:
    """The map of one class for one prepared input of a network.

    The network runs in eval mode and is left as it was, also after an error or an interrupt. What
    its scores depend on in addition to the image is determined in the first call (five forward
    passes). Pass a ``copy.deepcopy`` of the network where its architecture has been changed since.

    Args:
        network: Takes ``(B, C, *S)`` and returns a score for each class, ``(B, K)``.
        tensor: ``(1, C, *S)`` as the network takes it, on the network's device.
        method: A method with its parameters, a class or a name.
        target: Index of the class; of a network with a single logit 1 is the class that it
            speaks for, and 0 the other one.
        spacing: Size of a voxel in mm along each axis of S, for parameters in mm; None: 1.
        activation: Converts scores to probabilities: ``softmax``, ``sigmoid`` or ``none``.
        seed: Random seed.

    Returns:
        ``(*S)``, float32, on the tensor's device, positive where voxels speak for the class.

    Raises:
        InputError: An argument is of the wrong type, a number or shape does not fit, a value of
            the tensor is not finite, or the method gives a map for each of several layers.
        ClassifierError: The network is not a classifier, its scores for the same input vary, or
            the map has values that are not finite.
        DeviceMemoryError: The memory does not hold a single image.

    Example:
        >>> import SaliencyExplain as se
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
        >>> values = se.attribute(net, torch.ones(1, 1, 4, 4), se.GradientTimesInput(), target=1)
        >>> bool(torch.allclose(values.flatten(), net[1].weight[1]))
        True
    """
    several = methods_of(method)
    if len(several) != 1:
        raise InputError(
            ErrorCode.OPTION_CONFLICT, f"Give one method; {len(several)} methods were given."
        )
    chosen = several[0]
    network_of(network)
    if not isinstance(tensor, Tensor):
        raise wrong_type("tensor", "a torch.Tensor (1, C, *S)", tensor)
    if isinstance(target, bool) or not isinstance(target, Integral):
        raise wrong_type("target", "the index of a class", target)
    start = value_of("seed", seed)
    images = plain(tensor)
    axes = images.ndim - 2
    if axes not in (2, 3) or len(images) != 1 or not images.is_floating_point():
        raise InputError(
            ErrorCode.IMAGE_AXES,
            f"The tensor has the shape {tuple(tensor.shape)} and the type {tensor.dtype}; it must "
            "be a batch of one image (1, C, *S) of floats with two or three axes S.",
        )
    bad = int((~torch.isfinite(images)).sum())
    if bad:
        raise InputError(
            ErrorCode.IMAGE_VALUES,
            f"The tensor: {bad} of its {images.numel()} values are not finite (NaN or infinite). "
            "Replace these values first.",
        )
    if activation not in get_args(Activation):
        raise unknown_name("activation", activation, get_args(Activation))
    sizes = (1.0,) * axes if spacing is None else numbers_of("spacing", spacing)
    if len(sizes) != axes or not all(size > 0 for size in sizes):
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"The spacing must be {axes} positive numbers in mm, not {spacing}.",
        )
    with untouched(network):
        scores, count = _score_network(network, images.float(), activation)
        with untouched(scores):
            if not 0 <= target < count:
                raise InputError(
                    ErrorCode.VALUE_RANGE,
                    f"The class {target} does not exist: the network has the classes 0 to "
                    f"{count - 1}.",
                )
            task = Task(scores, images.float(), int(target), sizes, seed=start)
            maps = chosen.attribute(task)
    if len(maps) != 1:
        raise InputError(
            ErrorCode.OPTION_CONFLICT,
            f"{chosen.name} gives a map for each of {', '.join(maps)}: choose one at a time.",
        )
    values = next(iter(maps.values())).detach()
    check_finite_map(chosen.name, values)
    return values


def _score_network(
    network: nn.Module, images: Tensor, activation: Activation
) -> tuple[ScoreNetwork, int]:
    """The network in the form that methods take, and the number of its classes."""
    known = _KNOWN.get(network)
    if known is None or tuple(images.shape) not in known.shapes:
        count = _classes(network, images)
    if known is not None:
        scores = ScoreNetwork(network, activation, one_logit=known.one_logit)
        scores.repeatability, scores.structures = known.repeatability, known.structures
        scores.examined = True
    else:
        scores = ScoreNetwork(network, activation, one_logit=count == 1)
        examine(scores, images)
        known = _Known(scores.repeatability, scores.structures, count, set())
        # A network in half precision is replaced by a copy in float32, which is not kept.
        if scores.network is network:
            _KNOWN[network] = known
    known.shapes.add(tuple(images.shape))
    return scores, max(known.classes, 2)


def _classes(network: nn.Module, images: Tensor) -> int:
    """How many scores the network gives for an image.

    Raises:
        InputError: It cannot take an image of this shape.
    """
    try:
        with torch.no_grad():
            returned = scores_in(network(images.clone()), None)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise InputError(
            ErrorCode.MODEL_INPUT,
            f"The network cannot take a tensor of the shape {tuple(images.shape)}, a batch of one "
            f"image with {images.shape[1]} channels: {str(error).splitlines()[0][:300]}",
        ) from error
    return returned[0].numel() if isinstance(returned, Tensor) and returned.ndim else 1
