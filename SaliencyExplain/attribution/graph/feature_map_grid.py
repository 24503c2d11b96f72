"""Where the cells of a feature map lie in the image."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from SaliencyExplain.attribution.graph.tensor_layout import Placement
from SaliencyExplain.attribution.separable import along_axes, interpolation_matrix


@dataclass(frozen=True)
class FeatureMap:
    """A map on a layer's grid, and where that grid lies in the image.

    A cell's place is the centre of its receptive field. Stretching the feature map over
    the image instead (``F.interpolate``, as MONAI does) shifts it: by 7.5 voxels towards
    the higher indices for the last layer of MONAI's ResNet18, whose strided convolutions
    have odd kernels; and networks without padding see less than the whole image. Where the
    centres are those of a stretched map (even pooling, patches) both are the same.

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
        sides = [
            abs(scale) * voxel for (scale, _), voxel in zip(self.placement, spacing, strict=True)
        ]
        return math.prod(sides) ** (1 / len(sides))
