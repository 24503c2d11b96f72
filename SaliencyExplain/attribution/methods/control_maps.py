"""Control maps, which do not depend on the classifier: random and centre-weighted.

They are the reference for every agreement metric: any map that is bright in the middle
has a high agreement with a tumour near the middle of the head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.specification.parameters import LARGEST_MM, parameter

#: Width of the random map's blobs, mm: about the resolution of Grad-CAM or an occlusion window.
CORRELATION_MM = 10.0


def random_map(
    shape: Sequence[int],
    spacing: Sequence[float],
    *,
    seed: int = 0,
    correlation_mm: float = CORRELATION_MM,
) -> NDArray[np.float32]:
    """A random map: each value is uniform in [0, 1] and independent of the image.

    With a correlation length the noise is a stationary Gaussian field (white noise
    smoothed with a Gaussian of half that length, so that the correlation falls to 1/e
    at ``correlation_mm``), mapped to uniform values. The field is periodic: opposite
    faces of the image are neighbours.

    Args:
        shape: Voxels per axis.
        spacing: Size of a voxel in millimetres, one number per axis.
        seed: The same seed gives the same map.
        correlation_mm: Distance at which the correlation has fallen to 1/e; 0: each
            voxel is independent.

    Returns:
        The map, of the given shape, in [0, 1].
    """
    noise = np.random.default_rng(seed)
    if correlation_mm <= 0:
        return noise.random(tuple(shape), dtype=np.float32)
    field = torch.from_numpy(noise.standard_normal(tuple(shape), dtype=np.float32))
    spectrum = torch.fft.rfftn(field)
    variance = 1.0
    for axis, (size, voxel) in enumerate(zip(shape, spacing, strict=True)):
        sigma = correlation_mm / 2 / voxel
        damping = torch.exp(-2 * (math.pi * sigma * torch.fft.fftfreq(size).double()) ** 2)
        variance *= float((damping**2).mean())
        along = [1] * field.ndim
        along[axis] = -1
        spectrum *= damping[: spectrum.shape[axis]].float().reshape(along)
    smooth = torch.fft.irfftn(spectrum, s=tuple(shape)) / math.sqrt(variance)
    return torch.special.ndtr(smooth).numpy()


def centre_map(shape: Sequence[int], spacing: Sequence[float]) -> NDArray[np.float32]:
    """A Gaussian that falls from the centre of the image, equally in all directions.

    Its standard deviation is a quarter of the image's longest side in millimetres.

    Args:
        shape: Voxels per axis.
        spacing: Size of a voxel in millimetres, one number per axis.

    Returns:
        The map, of the given shape, in (0, 1].
    """
    sigma = max(size * voxel for size, voxel in zip(shape, spacing, strict=True)) / 4
    values = np.ones(tuple(shape), dtype=np.float32)
    for axis, (size, voxel) in enumerate(zip(shape, spacing, strict=True)):
        distance = (np.arange(size) - (size - 1) / 2) * voxel
        along = [1] * len(values.shape)
        along[axis] = size
        values *= np.exp(-0.5 * (distance / sigma) ** 2).astype(np.float32).reshape(along)
    return values


@dataclass(frozen=True)
class RandomMap(Method):
    """A random map as a control; see :func:`random_map`."""

    name: ClassVar[str] = "random"
    family: ClassVar[str] = "control"
    title: ClassVar[str] = "Random map (control)"
    source: ClassVar[str] = "uniform noise, independent of image and classifier"
    signed: ClassVar[bool] = False

    correlation_mm: float = parameter(
        CORRELATION_MM,
        "Distance at which the correlation of two voxels falls to 1/e; 0: voxels are independent.",
        unit="mm",
        minimum=0.0,
        maximum=LARGEST_MM,
    )

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; values lie in [0, 1]."""
        shape = tuple(task.input.shape[2:])
        values = random_map(shape, task.spacing, seed=task.seed, correlation_mm=self.correlation_mm)
        return {"": torch.from_numpy(values).to(task.input.device)}

    def forward_passes(self, task: Task) -> float:
        """None: the network is not asked."""
        return 0.0


@dataclass(frozen=True)
class CentreMap(Method):
    """A centre-weighted map as a control; see :func:`centre_map`."""

    name: ClassVar[str] = "centre"
    family: ClassVar[str] = "control"
    title: ClassVar[str] = "Centre-weighted map (control)"
    source: ClassVar[str] = "Gaussian around the image centre, independent of image and classifier"
    signed: ClassVar[bool] = False

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; values lie in (0, 1]."""
        values = centre_map(tuple(task.input.shape[2:]), task.spacing)
        return {"": torch.from_numpy(values).to(task.input.device)}

    def forward_passes(self, task: Task) -> float:
        """None: the network is not asked."""
        return 0.0
