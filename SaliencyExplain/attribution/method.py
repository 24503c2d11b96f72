"""What an attribution method is: its parameters, its cost, its map."""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.network.region_scores import RegionMean
from SaliencyExplain.attribution.passes.pass_spec import PassSpec
from SaliencyExplain.attribution.passes.task import Task, unpublished
from SaliencyExplain.confinement import lifted
from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError
from SaliencyExplain.progress import stopped_by
from SaliencyExplain.specification.parameters import check_parameters
from SaliencyExplain.specification.target import PROBABILITY

#: The families of methods in the order of lists and panels, each with what it does. The last
#: one's maps know nothing of the classifier and are there to compare with.
FAMILIES = {
    "perturbation": "replace a part of the image and measure the change of the output",
    "class activation": "weighted sums of the last feature maps",
    "gradient": "the effect of a small change of each voxel on the score",
    "path": "gradients integrated along a path from a baseline to the image",
    "relevance": "the score redistributed backwards, layer by layer",
    "region": "whole regions, ranked by their attribution",
    "surrogate": "a simple model fitted to the outputs with and without regions",
    "control": "maps made without image and classifier, for comparison",
}


@dataclass(frozen=True)
class Method(ABC):
    """An attribution method; subclasses are frozen dataclasses of their parameters.

    A subclass sets the class variables. The registry finds it where its module lies in the
    folder ``methods``, or as a plugin of another package (docs/PLUGINS.md).
    """

    name: ClassVar[str]
    title: ClassVar[str]
    #: Paper and equation, or the library whose result it equals.
    source: ClassVar[str]
    #: True: negative values speak against the class. False: only magnitudes.
    signed: ClassVar[bool]
    #: One of :data:`FAMILIES`.
    family: ClassVar[str]
    #: What it can use beside the image: ``segmentation``, ``backgrounds``.
    requires: ClassVar[tuple[str, ...]] = ()
    #: What a map that is not finished has some of, such as ``"windows"``; empty: the method
    #: has no map before it ends, publishes nothing and knows no deadline.
    parts: ClassVar[str] = ""
    #: Whether its ``raw(task)`` is a map for each channel ``(C, *S)``, which becomes one map.
    per_channel: ClassVar[bool] = False
    #: Whether it explains a probability as such; False: only scores before the activation.
    explains_probabilities: ClassVar[bool] = True
    #: Whether it explains the region of a segmentation network.
    explains_regions: ClassVar[bool] = True
    #: Whether it computes in the task's precision; False: always in float32.
    lower_precision: ClassVar[bool] = False

    @abstractmethod
    def attribute(self, task: Task) -> dict[str, Tensor]:
        """Computes the map.

        Returns:
            ``{layer: map}`` with maps ``(*S)`` in float32 on the grid of ``task.input``,
            positive where the voxels speak for the class. Methods that look at no
            layer have the one key ``""``.

        Raises:
            InputError: A parameter does not fit the image or the network.
            DeviceMemoryError: Memory is exhausted with a batch of one.
            Cancelled: Out of ``task.progress``; the network is left as it was.
        """

    def resolved(self, task: Task) -> Method:
        """The same method with the values that its automatic parameters get for this image."""
        return self

    def channel_of(self, key: str, task: Task) -> int | None:
        """The channel that the map of this key is of; None: of all channels together."""
        return None

    def shares(self, task: Task) -> PassSpec | None:
        """What it wants of a pass that others may want, too; None: nothing."""
        return None

    @abstractmethod
    def forward_passes(self, task: Task) -> float:
        """Cost in forward passes of one image, known before starting; unshared."""

    def seconds_beside(self, task: Task) -> float:
        """Seconds of one processor core that no forward pass takes, such as finding regions.

        They depend on the image and not on the network: of a small network they are most of
        the time, of a large one next to nothing.
        """
        return 0.0

    def __init_subclass__(cls) -> None:
        """Makes each method stop where its task's progress would: see :func:`may_stop`."""
        super().__init_subclass__()
        if "forward_passes" in vars(cls):
            cls.forward_passes = _closed(cls.forward_passes)  # type: ignore[method-assign, assignment]
        if "attribute" in vars(cls):
            cls.attribute = _stoppable(cls.attribute)  # type: ignore[method-assign, assignment]

    def __post_init__(self) -> None:
        check_parameters(self.name, self)


def check_target(method: Method, task: Task) -> None:
    """Raises InputError where a method cannot explain the task's target."""
    if isinstance(task.network.network, RegionMean) and not method.explains_regions:
        raise InputError(
            ErrorCode.TARGET_KIND,
            f"{method.name} explains the classes of a classifier and not a region of a "
            "segmentation network. Use gradcam, occlusion or integrated-gradients.",
        )
    combination = task.network.combination
    if combination and combination.unit == PROBABILITY and not method.explains_probabilities:
        raise InputError(
            ErrorCode.TARGET_KIND,
            f"{method.name} redistributes the score before the activation and cannot explain "
            "a probability. Leave out probability: in the target, or use occlusion, "
            "integrated-gradients or gradcam.",
        )


def check_finite_map(name: str, values: NDArray[np.floating] | Tensor) -> None:
    """Raises ClassifierError where a method's map has values that are not finite."""
    finite = torch.isfinite(values) if isinstance(values, Tensor) else np.isfinite(values)
    if not finite.all():
        raise ClassifierError(
            ErrorCode.MAP_NOT_FINITE,
            f"{name}: its map has values that are not finite, because the network overflows on "
            "this image. Check the intensity preprocessing.",
        )


def _stoppable(
    attribute: Callable[[Any, Task], dict[str, Tensor]],
) -> Callable[[Any, Task], dict[str, Tensor]]:
    """An ``attribute`` in which :func:`may_stop` raises what the task's progress raises.

    Where nobody vouches for the network, files and addresses are closed to what runs in it, but
    not to whoever is told of its progress.
    """

    @functools.wraps(attribute)
    def stoppable(method: Any, task: Task) -> dict[str, Tensor]:
        told = (0.0, 1.0)

        tell = lifted(task.progress)

        def progress(done: float, total: float) -> None:
            nonlocal told
            told = (done, total)
            tell(done, total)

        inner = dataclasses.replace(task, progress=progress)
        if task.publish is not unpublished:
            inner = dataclasses.replace(inner, publish=lifted(task.publish))
        with stopped_by(lambda: progress(*told)), task.network.closed():
            return attribute(method, inner)

    return stoppable


def _closed(cost: Callable[[Any, Task], float]) -> Callable[[Any, Task], float]:
    """A ``forward_passes`` that checks the target and closes files and addresses to the network."""

    @functools.wraps(cost)
    def closed(method: Any, task: Task) -> float:
        check_target(method, task)
        with task.network.closed():
            return cost(method, task)

    return closed
