"""Where the cells of a feature map lie in the image."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.padding import _ConstantPadNd, _ReflectionPadNd, _ReplicationPadNd
from torch.nn.modules.pooling import (
    _AdaptiveAvgPoolNd,
    _AdaptiveMaxPoolNd,
    _AvgPoolNd,
    _MaxPoolNd,
)

from SaliencyExplain.attribution.layers import looking
from SaliencyExplain.attribution.layout import Placement
from SaliencyExplain.attribution.layout_rules import window_step
from SaliencyExplain.attribution.separable import along_axes, interpolation_matrix

if TYPE_CHECKING:
    from SaliencyExplain.attribution.method import Task

_PADS = (_ConstantPadNd, _ReflectionPadNd, _ReplicationPadNd)
_ADAPTIVE = (_AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd)
_POOLS = (_AvgPoolNd, _MaxPoolNd)


@dataclass(frozen=True)
class FeatureMap:
    """A map on a layer's grid, and where that grid lies in the image.

    Attributes:
        values: ``(*s)``.
        size: Voxels of the image per axis.
        placement: Per axis the distance of the cells and the place of the first, in voxels.
        others: What is to be added to it on other grids: members of an ensemble, branches.
        rectified: Whether only the positive values of that sum count.
    """

    values: Tensor
    size: tuple[int, ...]
    placement: Placement
    others: tuple[FeatureMap, ...] = ()
    rectified: bool = False

    @classmethod
    def total(cls, maps: Sequence[FeatureMap], *, rectified: bool) -> FeatureMap:
        """The sum of maps; of a single one the positive values on its own grid already."""
        first, *others = maps
        if others:
            return dataclasses.replace(first, others=tuple(others), rectified=rectified)
        return dataclasses.replace(first, values=first.values.relu()) if rectified else first

    def upsampled(self) -> Tensor:
        """The map on the image's grid, ``(*S)`` in float32, linear between the cells."""
        values = self._upsampled()
        for other in self.others:
            values = values + other.upsampled()
        return values.relu() if self.rectified else values

    def _upsampled(self) -> Tensor:
        matrices = [
            interpolation_matrix(size, cells, *place).to(self.values)
            for size, cells, place in zip(self.size, self.values.shape, self.placement, strict=True)
        ]
        return along_axes(self.values, matrices).float()

    def cell_mm(self, spacing: Sequence[float]) -> float:
        """Side of a cell in mm; where its sides differ, that of a cube or square as large.

        Args:
            spacing: Millimetres per voxel of the image and axis.
        """
        sides = [scale * voxel for (scale, _), voxel in zip(self.placement, spacing, strict=True)]
        return math.prod(sides) ** (1 / len(sides))


def upsampled_maps(task: Task, maps: Mapping[str, FeatureMap]) -> dict[str, Tensor]:
    """The maps of layers on the image's grid; the task is told the size of their cells."""
    for layer, cells in maps.items():
        task.resolution(layer, cells.cell_mm(task.spacing))
    return {layer: cells.upsampled() for layer, cells in maps.items()}


class CellGrid:
    """Follows the strides and paddings of a forward pass.

    A cell's place is the centre of its receptive field. Stretching the feature map over
    the image instead (``F.interpolate``, as MONAI does) shifts it: by 7.5 voxels towards
    the higher indices for the last layer of MONAI's ResNet18, whose strided convolutions
    have odd kernels; and networks without padding see less than the whole image. Where the
    centres are those of a stretched map (even pooling, patches) both are the same.

    The placement is kept by the feature maps' spatial shape: parallel branches of a
    network meet, so their maps lie alike. (An even kernel with "same" padding, which
    keeps the shape and shifts by half a cell, is not seen.) A shape that no known layer
    made (a resize by a function) is taken as stretched over the image.
    """

    def __init__(self, size: Sequence[int]) -> None:
        self._size = tuple(size)
        self._placements: dict[tuple[int, ...], Placement] = {
            self._size: tuple((1.0, 0.0) for _ in self._size)
        }

    @contextmanager
    def following(self, network: nn.Module) -> Iterator[None]:
        """Watches the layers that change the grid while the network runs."""
        layers = {name: m for name, m in network.named_modules() if _moves_cells(m)}

        def look(name: str, given: Tensor, output: Tensor) -> None:
            before, after = tuple(given.shape[2:]), tuple(output.shape[2:])
            known = self._placements.get(before)
            if known is not None and after not in self._placements:
                steps = [_step(layers[name], axis, before, after) for axis in range(len(after))]
                self._placements[after] = tuple(
                    (scale * stride, offset + scale * shift)
                    for (scale, offset), (stride, shift) in zip(known, steps, strict=True)
                )

        with looking(layers, look):
            yield

    def known(self, cells: Sequence[int]) -> Placement | None:
        """Where the cells of a grid lie; None: no layer that was watched made it."""
        return self._placements.get(tuple(cells))

    def place(self, values: Tensor) -> FeatureMap:
        """A map ``(*s)`` of a layer that ran meanwhile, with its place in the image."""
        cells = tuple(values.shape)
        stretched = tuple(
            (size / count, (size / count - 1) / 2)
            for size, count in zip(self._size, cells, strict=True)
        )
        return FeatureMap(values, self._size, self._placements.get(cells, stretched))


def _moves_cells(module: nn.Module) -> bool:
    """Whether the output's cells may lie otherwise than the input's."""
    if isinstance(module, _ConvNd) and not module.transposed:
        # Most convolutions of a network leave them; watching each of them takes time.
        axes = range(len(module.kernel_size))
        return any(_step(module, axis, (), ()) != (1.0, 0.0) for axis in axes)
    return isinstance(module, (_ConvNd, *_PADS, *_ADAPTIVE, *_POOLS))


def _step(
    module: Any, axis: int, before: tuple[int, ...], after: tuple[int, ...]
) -> tuple[float, float]:
    """Stride and centre of the first output cell, in cells of the input."""
    if isinstance(module, _PADS):
        return 1.0, -float(module.padding[2 * (len(before) - 1 - axis)])
    if isinstance(module, _ADAPTIVE) or getattr(module, "transposed", False):
        scale = before[axis] / after[axis]
        return scale, (scale - 1) / 2
    kernel, stride = _at(module.kernel_size, axis), _at(module.stride, axis)
    dilation, padding = _at(getattr(module, "dilation", 1), axis), module.padding
    padding = padding if isinstance(padding, str) else _at(padding, axis)
    return window_step(kernel, stride, dilation, padding)


def _at(setting: int | Sequence[int], axis: int) -> int:
    return int(setting if isinstance(setting, int) else setting[axis])
