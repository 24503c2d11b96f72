"""Spatial steps of common preprocessing that MONAI has not, with a true affine; bundles name them.

Pillow, torchvision and timm low-pass filter a picture that gets smaller with a triangle or cubic
kernel, and cut out the centre with a rounding of their own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor
from torch.nn import functional


class _Spatial(MapTransform):
    """A step that moves voxels and says where to by the affine."""

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """The dictionary with its images moved."""
        moved = dict(data)
        for key in self.key_iterator(moved):
            moved[key] = self.moved(moved[key])
        return moved

    @abstractmethod
    def moved(self, image: MetaTensor) -> MetaTensor:
        """The image ``(C, *S)`` after the step."""


class _Resized(_Spatial):
    """Resizes to a size, or such that the shortest side has a number of voxels.

    Args:
        keys: Of the images.
        mode: As in :func:`torch.nn.functional.interpolate`.
        spatial_size: Voxels along each axis.
        shortest: Voxels of the shortest side; the others follow, rounded down.
        align_corners: Whether the centres of the corner voxels stay where they are.
    """

    antialias = False

    def __init__(
        self,
        keys: KeysCollection,
        mode: str,
        spatial_size: Sequence[int] | None = None,
        shortest: int | None = None,
        align_corners: bool = False,
    ) -> None:
        super().__init__(keys)
        if (spatial_size is None) == (shortest is None):
            raise ValueError("give either spatial_size or shortest")
        self.mode = mode
        self.spatial_size = None if spatial_size is None else tuple(map(int, spatial_size))
        self.shortest = shortest
        self.align_corners = align_corners

    def moved(self, image: MetaTensor) -> MetaTensor:
        """The image ``(C, *S)`` in its new size."""
        before = tuple(image.shape[1:])
        after = self.spatial_size
        if after is None:
            assert self.shortest is not None
            least = min(before)
            after = tuple(
                self.shortest if edge == least else int(self.shortest * edge / least)
                for edge in before
            )
        linear = self.mode not in ("nearest", "area")
        values = functional.interpolate(
            image.as_tensor()[None],
            size=after,
            mode=self.mode,
            align_corners=self.align_corners if linear else None,
            antialias=self.antialias,
        )[0]
        step = torch.eye(4, dtype=torch.float64)
        for axis, (old, new) in enumerate(zip(before, after, strict=True)):
            if self.align_corners and linear and new > 1:
                step[axis, axis] = (old - 1) / (new - 1)
            else:
                step[axis, axis] = old / new
                step[axis, 3] = (old / new - 1) / 2
        return _with_affine(values, image, step)


class AntialiasedResized(_Resized):
    """Resizes a 2D picture, low-pass filtered where it gets smaller.

    Equals :func:`torchvision.transforms.v2.functional.resize` with antialiasing.
    """

    antialias = True


class ShortestResized(_Resized):
    """Resizes by interpolation alone."""


class CenterCropd(_Spatial):
    """Cuts out the centre, or pads with 0, as :class:`torchvision.transforms.CenterCrop` does.

    Args:
        keys: Of the images.
        size: Voxels along each axis.
        half_down: Whether half a voxel at the beginning is rounded down, as the image processors
            of Transformers do; torchvision rounds it to an even number.
    """

    def __init__(self, keys: KeysCollection, size: Sequence[int], half_down: bool = False) -> None:
        super().__init__(keys)
        self.size = tuple(map(int, size))
        self.half_down = half_down

    def moved(self, image: MetaTensor) -> MetaTensor:
        """The centre of the image ``(C, *S)``."""
        before = []
        for old, new in zip(image.shape[1:], self.size, strict=True):
            if new > old:
                before.append((new - old) // 2)
            else:
                half = (old - new) / 2.0
                before.append(-int(half) if self.half_down else -round(half))
        return _padded(image, before, self.size, 0.0)


class SquareCropd(_Spatial):
    """Cuts all axes to the length of the shortest, about the centre.

    Equals ``torchxrayvision.datasets.XRayCenterCrop``.
    """

    def moved(self, image: MetaTensor) -> MetaTensor:
        """The centre of the image ``(C, *S)``."""
        least = min(image.shape[1:])
        before = [-(old // 2 - least // 2) for old in image.shape[1:]]
        return _padded(image, before, (least,) * len(before), 0.0)


class SquarePadd(_Spatial):
    """Pads all axes to the length of the longest, about the centre.

    Args:
        keys: Of the images.
        value: Of the added voxels.
    """

    def __init__(self, keys: KeysCollection, value: float = 0.0) -> None:
        super().__init__(keys)
        self.value = float(value)

    def moved(self, image: MetaTensor) -> MetaTensor:
        """The image ``(C, *S)`` with its margins."""
        most = max(image.shape[1:])
        before = [(most - old) // 2 for old in image.shape[1:]]
        return _padded(image, before, (most,) * len(before), self.value)


def _padded(
    image: MetaTensor, before: Sequence[int], size: Sequence[int], value: float
) -> MetaTensor:
    """The image with voxels added, or with negative numbers cut off, before its first one."""
    widths: list[int] = []
    for first, old, new in zip(before, image.shape[1:], size, strict=True):
        # Of the last axis first.
        widths = [first, new - old - first, *widths]
    step = torch.eye(4, dtype=torch.float64)
    step[: len(before), 3] = -torch.tensor(before, dtype=torch.float64)
    return _with_affine(functional.pad(image.as_tensor(), widths, value=value), image, step)


def _with_affine(values: Tensor, image: MetaTensor, step: Tensor) -> MetaTensor:
    others = {name: value for name, value in image.meta.items() if name != "affine"}
    return MetaTensor(values, affine=image.affine.to(torch.float64) @ step, meta=others)
