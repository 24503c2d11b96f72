"""Images and segmentations that the viewer has opened, from files to nodes of the scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor

from SaliencyExplain.engine.client.local_references import LocalReferences
from SaliencyExplain.engine.interface import ClassifierInfo
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import same_grid
from SaliencyExplain.images.raster import SUFFIXES
from SaliencyExplain.images.reading import read_channels, read_image, to_image
from SaliencyExplain.images.segmentation import Segmentation, read_segmentation
from SaliencyExplain.images.volume_reading import short_name
from SaliencyExplain.models.input_channels import are_colours
from SaliencyExplain.scene.arrays import on_axes
from SaliencyExplain.scene.segment_position import keep_notes
from SaliencyExplain.scene.segmentations import add_segmentation, masks_on_grid, outline
from SaliencyExplain.scene.volume_nodes import add_image
from SaliencyExplain.studies.case import may_name_patient, safe_name
from SaliencyExplain.voxel_volume import Volume


@dataclass(frozen=True, eq=False)
class OpenImage:
    """One file that was opened.

    Attributes:
        name: For the page.
        path: The file or folder.
        image: ``(1, *S)`` with its affine.
        node: Its volume node.
        public_name: What stands in results: never a DICOM file's or folder's name, which may
            be the patient's.
        channel: The classifier's channel that the user named for it; None: not said.
    """

    name: str
    path: Path
    image: MetaTensor
    node: Any
    public_name: str
    channel: str | None = None


@dataclass(frozen=True, eq=False)
class Input:
    """What a classifier looks at.

    Attributes:
        volume: ``(C, *S)``, the channels in the classifier's order.
        image: The first channel; maps and segments lie on its grid.
        notes: What was resampled or guessed, to be said aloud.
        nodes: The node of each channel; of a colour picture a single one.
    """

    volume: Volume
    image: OpenImage
    notes: tuple[str, ...]
    nodes: tuple[Any, ...]


def read(path: Path) -> MetaTensor:
    """Reads one image; runs on any thread."""
    return read_image(path)


def show(
    scene: Any, path: Path, image: MetaTensor, public_name: str, channel: str | None
) -> OpenImage:
    """Adds an image that was read to the scene."""
    name = str(image.meta["name"])
    node = add_image(scene, np.asarray(image[0]), affine_of(image), name)
    return OpenImage(node.GetName(), path, image, node, public_name, channel)


def public_name(path: Path, number: int) -> str:
    """What an image is called in results: as a study's cases are, DICOM by its number.

    Args:
        path: Of the image.
        number: Of the image among those that are open, from 1.
    """
    return f"case-{number:03d}" if may_name_patient([path]) else safe_name(short_name(path))


def read_input(chosen: Sequence[OpenImage], classifier: ClassifierInfo) -> Input:
    """Reads the channels of an input onto the grid of the first one; runs on any thread.

    Args:
        chosen: An image for each channel, in the classifier's order; one colour picture may
            be all three of its channels.
        classifier: Says what it wants.

    Raises:
        InputError: The images do not go together, or the classifier takes other axes.
    """
    first = chosen[0]
    if takes_colour(first, classifier):
        image = read_channels([first.path], colour=True)
    elif all(share_grid(one, first) for one in chosen):
        image = first.image
        if len(chosen) > 1:
            values = np.concatenate([one.image.numpy() for one in chosen])
            notes = [note for one in chosen for note in one.image.meta["notes"]]
            image = to_image(values, affine_of(first.image), name=first.name, notes=notes)
    else:
        image = read_channels([one.path for one in chosen], classifier.channels)
    axes = image.ndim - 1
    if axes != classifier.spatial_dims:
        raise InputError(
            ErrorCode.IMAGE_AXES,
            f"{first.name} has {axes} axes, and the classifier {classifier.name} takes images of "
            f"{classifier.spatial_dims}.",
        )
    values = np.ascontiguousarray(image.numpy(), dtype=np.float32)
    nodes = tuple(one.node for one in chosen)
    return Input(Volume(values, affine_of(image)), first, tuple(image.meta["notes"]), nodes)


def takes_colour(image: OpenImage, classifier: ClassifierInfo) -> bool:
    """Whether a picture's colours are the classifier's three channels."""
    return are_colours(classifier.channels) and image.path.name.lower().endswith(SUFFIXES)


def read_segments(path: Path, reference: OpenImage) -> Segmentation:
    """Reads a segmentation onto an image's grid; runs on any thread."""
    return read_segmentation(path, reference.image)


def show_segments(scene: Any, name: str, found: Segmentation) -> Any:
    """Adds a segmentation that was read to the scene, as outlines in its own colours."""
    node = add_segmentation(
        scene,
        np.stack([segment.mask for segment in found.segments]),
        [segment.name for segment in found.segments],
        [segment.color for segment in found.segments],
        found.affine,
        name,
    )
    keep_notes(node, found.notes)
    outline(node, True)
    return node


def segment_masks(
    node: Any, image: OpenImage, segment_ids: Sequence[str] | None = None
) -> tuple[Volume, tuple[str, ...], tuple[str, ...]]:
    """The masks ``(N, *S)`` of segments on an image's grid, their names and notes.

    Args:
        node: The segmentation.
        image: Says the grid.
        segment_ids: IDs of segments; all where None.

    Raises:
        InputError: The node holds no segments, or a segment has no voxel in the image.
    """
    found = masks_on_grid(node, image.node, segment_ids)
    axes = image.image.ndim - 1
    masks = np.stack([on_axes(mask, axes) for mask in found.masks])
    return Volume(masks, affine_of(image.image)), found.names, found.notes


def references(
    image: OpenImage, segmentation: Any | None, backgrounds: Sequence[Volume]
) -> LocalReferences:
    """What is given beside an image: its segmentation, if there is one, and backgrounds."""
    if segmentation is None:
        return LocalReferences(backgrounds=tuple(backgrounds))
    return LocalReferences(*segment_masks(segmentation, image), tuple(backgrounds))


def affine_of(image: MetaTensor) -> np.ndarray:
    """An image's 4x4 affine."""
    return np.asarray(image.affine, dtype=np.float64)


def share_grid(one: OpenImage, other: OpenImage) -> bool:
    """Whether two images have the same voxels in the world."""
    return same_grid(
        tuple(one.image.shape[1:]),
        affine_of(one.image),
        tuple(other.image.shape[1:]),
        affine_of(other.image),
    )
