"""What methods need from a forward and backward pass, and its results."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from SaliencyExplain.attribution.graph.feature_map_grid import FeatureMap
from SaliencyExplain.attribution.graph.tensor_layout import Placement


@dataclass(frozen=True)
class PassSpec:
    """What methods need from a pass.

    Attributes:
        layers: Names of layers whose features are needed.
        last: Features of the default tensors of class activation methods: the last
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

    def __or__(self, other: PassSpec) -> PassSpec:
        return PassSpec(
            tuple(dict.fromkeys((*self.layers, *other.layers))),
            *(self.last or other.last, self.stages or other.stages, self.every or other.every),
            *(self.gradients or other.gradients, self.voxels or other.voxels),
            self.ends or other.ends,
        )

    def __contains__(self, other: PassSpec) -> bool:
        return self | other == self

    @property
    def features(self) -> bool:
        """Whether the features of any layer are needed."""
        return bool(self.layers) or self.last or self.stages or self.every


@dataclass(frozen=True)
class PassPart:
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
        """The gradient, if it was requested."""
        assert self.gradient is not None
        return self.gradient

    def place(self, values: Tensor) -> FeatureMap:
        """A map ``(*s)`` of it, with its place in the image."""
        return FeatureMap(values, self.size, self.placement)


#: What a layer gave: one part, or several where a layer ran side by side on several grids, or
#: where the tensor is that of several branches or members of an ensemble.
Parts = tuple[PassPart, ...]


@dataclass
class PassResult:
    """The results of a pass; empty where not requested.

    Attributes:
        scores: ``(K,)``.
        layers: Of the named layers, and of the convolutions and activation functions.
        target: Of the tensors that class activation methods look at by default.
        stages: Of those of each grid, in the order in which they ran.
        every: Names of the convolutions and activation functions with a grid, in that order.
        rectified: Names of those layers that are rectified.
        name: Of ``target``.
        notes: Notes on the map of a layer by the layer's name, and on ``target`` by "".
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
