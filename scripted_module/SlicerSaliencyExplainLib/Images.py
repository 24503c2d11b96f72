"""From volume nodes to what an engine is sent, and whether they are still what was sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from SaliencyExplain.engine.interface import ClassifierInfo
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.scene.arrays import on_axes, volume_values, world_affine
from SaliencyExplain.scene.segmentations import masks_on_grid
from SaliencyExplain.voxel_volume import Volume

#: Affines that differ by less than this, in millimetres over the whole image, are the same.
_SAME_GRID_MM = 1e-2


@dataclass(frozen=True)
class SentImage:
    """An image as it was read from the scene.

    Attributes:
        nodes: A volume node for each channel; the first one carries the results.
        volume: ``(C, *S)`` with its RAS affine.
        state: Tells a later state of the nodes from this one.
    """

    nodes: tuple[Any, ...]
    volume: Volume
    state: tuple[Any, ...]

    @property
    def node(self) -> Any:
        """The node that results belong to."""
        return self.nodes[0]

    def check_unchanged(self, scene: Any) -> None:
        """Raises InputError where the scene does not hold this image any more."""
        for node in self.nodes:
            if not scene.IsNodePresent(node):
                raise InputError(
                    ErrorCode.MAP_OUTDATED,
                    "The volume was removed meanwhile; its result was dropped.",
                )
        if self.state != _state(self.nodes):
            raise InputError(
                ErrorCode.MAP_OUTDATED,
                f"{self.node.GetName()} was changed meanwhile; its result was dropped. "
                "Start again.",
            )


@dataclass(frozen=True)
class Beside:
    """The references of an image, for the methods that need them.

    Attributes:
        segmentation: A segmentation or label map node, on any grid; None: none.
        backgrounds: Volume nodes that stand for "nothing in particular", each with all the
            channels that the classifier wants.
    """

    segmentation: Any = None
    backgrounds: tuple[Any, ...] = ()


def read_image(nodes: Sequence[Any], classifier: ClassifierInfo) -> SentImage:
    """Reads one image out of the scene.

    Args:
        nodes: A volume node for each channel of the classifier, in its order; one node
            may carry all channels.
        classifier: Says how many channels and axes it wants.

    Raises:
        InputError: A channel has no volume or no voxels, or the grids differ.
    """
    for name, node in zip(classifier.channels, nodes, strict=False):
        if node is None:
            raise InputError(ErrorCode.SELECTION, f"Choose a volume for the channel {name}.")
    if not nodes:
        raise InputError(ErrorCode.SELECTION, "Choose a volume.")
    channels, affine = _channels(nodes[0])
    for node in nodes[1:]:
        values, own = _channels(node)
        shape = values.shape[1:]
        reach = max(channels.shape[1:])
        if shape != channels.shape[1:] or np.abs(own - affine).max() * reach > _SAME_GRID_MM:
            raise InputError(
                ErrorCode.GRID_MISMATCH,
                f"{node.GetName()} has another grid than {nodes[0].GetName()}. Resample it onto "
                "that volume first.",
            )
        channels = np.concatenate([channels, values])
    if classifier.spatial_dims == 2 and channels.shape[-1] == 1:
        channels = channels[..., 0]
    volume = Volume(np.ascontiguousarray(channels, dtype=np.float32), affine)
    return SentImage(tuple(nodes), volume, _state(nodes))


def comparable_image(node: Any) -> SentImage:
    """The image of a node without a classifier: whatever channels it has."""
    image = read_image([node], ClassifierInfo("", "", (), (), 3, ""))
    if image.volume.values.shape[-1] > 1:
        return image
    flat = Volume(np.ascontiguousarray(image.volume.values[..., 0]), image.volume.affine)
    return SentImage(image.nodes, flat, image.state)


def segment_masks(
    image: SentImage, segmentation: Any, segment_ids: Sequence[str] | None
) -> tuple[Volume, tuple[str, ...], tuple[str, ...]]:
    """The masks ``(N, *S)`` of segments on an image's grid, their names and notes.

    Args:
        image: Says the grid.
        segmentation: A segmentation or label map node, on any grid.
        segment_ids: Which of its segments; None: all.

    Raises:
        InputError: The node holds no segments, or a segment has no voxel in the image.
    """
    axes = image.volume.values.ndim - 1
    found = masks_on_grid(segmentation, image.node, segment_ids)
    masks = np.stack([on_axes(mask, axes) for mask in found.masks])
    return Volume(masks, image.volume.affine), found.names, found.notes


def _channels(node: Any) -> tuple[Any, Any]:
    values, affine = volume_values(node)
    return (values if values.ndim == 4 else values[None]), affine


def _state(nodes: Sequence[Any]) -> tuple[Any, ...]:
    """Changes with voxels, geometry and transforms, not with window, colour or name."""
    state: list[Any] = []
    for node in nodes:
        image = node.GetImageData()
        state += [node.GetID(), image.GetMTime() if image else None]
        state += world_affine(node).ravel().round(6).tolist()
    return tuple(state)
