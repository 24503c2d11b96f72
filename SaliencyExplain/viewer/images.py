"""Images and segmentations that the viewer has opened, from files to nodes of the scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor

from SaliencyExplain.classifiers.channels import are_colours
from SaliencyExplain.engine.interface import ClassifierInfo
from SaliencyExplain.engine.volumes import Volume
from SaliencyExplain.errors import InputError
from SaliencyExplain.images.grids import same_grid
from SaliencyExplain.images.raster import SUFFIXES
from SaliencyExplain.images.reading import read_channels, read_image, to_image
from SaliencyExplain.images.segmentation import Segmentation, read_segmentation
from SaliencyExplain.scene.images import add_image
from SaliencyExplain.scene.segmentations import add_segmentation, outline


@dataclass(frozen=True, eq=False)
class OpenImage:
    """One file that was opened.

    Attributes:
        name: For the page.
        path: The file or folder.
        image: ``(1, *S)`` with its affine.
        node: Its volume node.
        channel: The classifier's channel that the user named for it; None: not said.
    """

    name: str
    path: Path
    image: MetaTensor
    node: Any
    channel: str | None = None


@dataclass(frozen=True, eq=False)
class Input:
    """What a classifier looks at.

    Attributes:
        volume: ``(C, *S)``, the channels in the classifier's order.
        image: The first channel; maps and segments lie on its grid.
        notes: What was resampled or guessed, to be said aloud.
    """

    volume: Volume
    image: OpenImage
    notes: tuple[str, ...]


def read(path: Path) -> MetaTensor:
    """Reads one image; runs on any thread."""
    return read_image(path)


def show(scene: Any, path: Path, image: MetaTensor, channel: str | None) -> OpenImage:
    """Adds an image that was read to the scene."""
    name = str(image.meta["name"])
    node = add_image(scene, np.asarray(image[0]), affine_of(image), name)
    return OpenImage(node.GetName(), path, image, node, channel)


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
    elif all(_same_grid(one, first) for one in chosen):
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
            f"{first.name} has {axes} axes, and the classifier {classifier.name} takes images of "
            f"{classifier.spatial_dims}."
        )
    values = np.ascontiguousarray(image.numpy(), dtype=np.float32)
    return Input(Volume(values, affine_of(image)), first, tuple(image.meta["notes"]))


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
    outline(node, True)
    return node


def affine_of(image: MetaTensor) -> np.ndarray:
    """An image's 4x4 affine."""
    return np.asarray(image.affine, dtype=np.float64)


def _same_grid(one: OpenImage, other: OpenImage) -> bool:
    return same_grid(
        tuple(one.image.shape[1:]),
        affine_of(one.image),
        tuple(other.image.shape[1:]),
        affine_of(other.image),
    )
