"""The maps of a method under changes: of the image, of the seed, of the network."""

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
    """Computes a method's maps and counts what they cost.

    Attributes:
        method: The method with its parameters.
        passes: Forward passes that a map costs, as the method tells.
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
        """The map of each channel by the channel's name; None where all have one in common.

        Occlusion that covers channels by themselves has such maps already. A method whose map
        is made of those of the channels computes them again; magnitudes stay magnitudes.

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
        """What the task's network gives the target on the task's image."""
        return float(task.network.probabilities(self.scores(task))[0, task.target])


def map_on_network_grid(
    values: MetaTensor, classifier: Classifier, prepared: MetaTensor, image: MetaTensor
) -> NDArray[np.float32]:
    """Brings a map that another tool made onto the grid of the network's input.

    Args:
        values: ``(1, *S)`` with its affine; it need not be on the image's grid.
        classifier: Whose input is meant.
        prepared: The network's input, as the classifier prepared it.
        image: The image, for the plane that a 2D classifier looks at.

    Returns:
        ``(*S')`` by linear interpolation, 0 outside the map; a constant map stays constant.

    Raises:
        InputError: The map has another number of axes, or lies beside the network's input.
    """
    name = values.meta.get("name") or "the map"
    if classifier.spatial_dims == 2 and values.ndim == 4:
        values = network_grid.squeeze_slice(values)
    if values.ndim != prepared.ndim:
        raise InputError(
            ErrorCode.IMAGE_AXES,
            f"{name} has {values.ndim - 1} axes, and the classifier's input {prepared.ndim - 1}.",
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
            f"{name} and the image do not overlap in the world: is the map of this image, and "
            "was its affine kept?",
        )
    array = values[0].as_tensor().to(torch.float32).numpy()
    if array.min() == array.max():
        # With zeros around it, it would rank the image before its padding.
        return np.full(to_shape, array.flat[0], dtype=np.float32)
    return network_grid.resample_inside(array, affine, to_affine, to_shape)


def first_of(maps: Mapping[str, NDArray[np.float32]], layer: str) -> NDArray[np.float32]:
    """The map of that layer, or of the one layer there is.

    Where no layer is named, the last layer that sees places is taken; its name may differ
    between two networks, its place does not.
    """
    return maps[layer] if layer in maps else next(iter(maps.values()))
