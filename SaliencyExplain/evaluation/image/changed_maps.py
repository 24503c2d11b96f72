"""The maps of a method under changes of the image, the seed or the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation.image.evaluation_passes import Work
from SaliencyExplain.models import network_grid
from SaliencyExplain.models.classifier import Classifier

#: A method's maps by layer, on the grid of the network's input.
Maps = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class MapMaker:
    """Computes a method's maps and counts their cost.

    Attributes:
        method: The method with its parameters.
        passes: Forward passes of a map by the method's estimate.
        work: Counts them.
    """

    method: Method
    passes: float
    work: Work

    def maps(self, task: Task) -> Maps:
        """The maps ``{layer: (*S)}`` of a task, on the CPU.

        Raises:
            InputError: The method cannot take the task.
            DeviceMemoryError: Memory is exhausted with a single image.
            Cancelled: Out of the work's progress.
        """
        with self.work.part(self.passes) as progress:
            found = self.method.attribute(dataclasses.replace(task, progress=progress))
        return {layer: values.detach().float().cpu().numpy() for layer, values in found.items()}

    def channel_maps(self, task: Task, maps: Maps) -> Maps | None:
        """The map of each channel by the channel's name; None if all share one map.

        Occlusion of separate channels has such maps already. A method whose map is combined from
        those of the channels computes them again; magnitudes stay magnitudes.

        Args:
            task: Its channels have names.
            maps: What :meth:`maps` gave for the task.

        Raises:
            DeviceMemoryError: Memory is exhausted with a single image.
            Cancelled: Out of the work's progress.
        """
        if set(maps) <= set(task.channels):
            return dict(maps)
        if not self.method.per_channel:
            return None
        with self.work.part(self.passes) as progress:
            raw: Tensor = self.method.raw(  # type: ignore[attr-defined]
                dataclasses.replace(task, progress=progress)
            )
        values = raw.detach().float() if self.method.signed else raw.detach().float().abs()
        return dict(zip(task.channels, values.cpu().numpy(), strict=True))

    def scores(self, task: Task) -> Tensor:
        """The scores ``(1, K)`` of the task's network on the task's image, in float64."""
        with self.work.part(1), untouched(task.network), torch.no_grad():
            return task.network(plain(task.input)).double()

    def probability(self, task: Task) -> float:
        """The target's probability from the task's network for the task's image."""
        return float(task.network.probabilities(self.scores(task))[0, task.target])


def map_on_network_grid(
    values: MetaTensor, classifier: Classifier, prepared: MetaTensor, image: MetaTensor
) -> NDArray[np.float32]:
    """Resamples a map of another tool to the grid of the network's input.

    Args:
        values: ``(1, *S)`` with its affine, on any grid.
        classifier: The classifier whose input defines the grid.
        prepared: The network's input, prepared by the classifier.
        image: The image, for the plane that a 2D classifier uses.

    Returns:
        ``(*S')`` by linear interpolation, 0 outside the map; a constant map stays constant.

    Raises:
        InputError: The map has another number of axes, or does not overlap the network's input.
    """
    name = values.meta.get("name") or "the map"
    if classifier.spatial_dims == 2 and values.ndim == 4:
        values = network_grid.squeeze_slice(values)
    if values.ndim != prepared.ndim:
        raise InputError(
            ErrorCode.IMAGE_AXES,
            f"{name}: it has {values.ndim - 1} axes, and the classifier's input has "
            f"{prepared.ndim - 1}. Give a map of this image.",
        )
    affine = values.affine.numpy().astype(np.float64)
    to_affine = prepared.affine.numpy().astype(np.float64)
    if classifier.spatial_dims == 2:
        flat = network_grid.squeeze_slice(image) if image.ndim == 4 else image
        frame = network_grid.plane_frame(flat.affine.numpy().astype(np.float64))
        affine, to_affine = (network_grid.to_plane(one, frame) for one in (affine, to_affine))
    shape, to_shape = tuple(values.shape[1:]), tuple(prepared.shape[1:])
    if network_grid.share_inside(to_shape, to_affine, shape, affine) == 0:
        raise InputError(
            ErrorCode.NO_OVERLAP,
            f"{name}: it does not overlap the image. Give a map of this image, with its affine.",
        )
    array = values[0].as_tensor().to(torch.float32).numpy()
    if array.min() == array.max():
        # With zeros around it, the map would rank the image before its padding.
        return np.full(to_shape, array.flat[0], dtype=np.float32)
    return network_grid.resample_inside(array, affine, to_affine, to_shape)


def first_of(maps: Mapping[str, NDArray[np.float32]], layer: str) -> NDArray[np.float32]:
    """The map of that layer, or of the only layer.

    Without a named layer the last layer with spatial cells is used; its name may differ between
    two networks.
    """
    return maps[layer] if layer in maps else next(iter(maps.values()))
