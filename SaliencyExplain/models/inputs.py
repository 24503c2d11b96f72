"""From files or images in memory to an image with a classifier's channels in its order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor

from SaliencyExplain.images.images_in_memory import UNNAMED, image_in_memory
from SaliencyExplain.images.reading import joined_channels, read_channels, read_image
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.input_channels import order_channels


def read_input(
    classifier: Classifier,
    images: Sequence[tuple[str | None, Path]],
    *,
    series: str | None = None,
) -> MetaTensor:
    """Reads the channels of one input.

    Args:
        classifier: What the image is for.
        images: ``(channel name or None, path)``; without names in the classifier's order.
            A classifier of colour pictures may get one picture for its three channels.
        series: SeriesInstanceUID, where a folder holds several series.

    Returns:
        ``(C, *S)`` with the classifier's channels in its order.

    Raises:
        InputError: A file cannot be read, or the channels are not the classifier's.
    """
    if classifier.colour and len(images) == 1:
        return read_channels([images[0][1]], series=series, colour=True)
    order = order_channels([name for name, _ in images], classifier.channels)
    return read_channels([images[place][1] for place in order], classifier.channels, series=series)


def is_path(given: Any) -> bool:
    """Whether something names a file or folder."""
    return isinstance(given, (str, PathLike))


def channels_of(given: Any) -> list[tuple[str | None, Any]]:
    """What a user gave as an image, as ``(channel name or None, image)`` for each channel.

    Args:
        given: One image, a list of images, or a dictionary of channel names to images. An image
            is a path or anything that
            :func:`~SaliencyExplain.images.images_in_memory.image_in_memory` takes.
    """
    if isinstance(given, Mapping):
        return [(str(name), one) for name, one in given.items()]
    if isinstance(given, (list, tuple)) and not _has_affine(given):
        return [(None, one) for one in given]
    return [(None, given)]


def _has_affine(given: Sequence[Any]) -> bool:
    """Whether this is an array with its affine, also with one of a wrong shape, and no channels."""
    if not isinstance(given, tuple) or len(given) != 2 or any(map(is_path, given)):
        return False
    shape = np.shape(given[1])
    return len(shape) in (1, 2) and max(shape) <= 4


def input_of(classifier: Classifier, given: Any, *, series: str | None = None) -> MetaTensor:
    """The input of a classifier, of files or of images in memory.

    Args:
        classifier: What the image is for.
        given: See :func:`channels_of`.
        series: SeriesInstanceUID, where a folder holds several series.

    Returns:
        As :func:`read_input`.

    Raises:
        InputError: As there, and as :func:`image_in_memory` says.
    """
    images = channels_of(given)
    axes = classifier.spatial_dims
    if all(is_path(one) for _, one in images):
        return read_input(classifier, [(name, Path(one)) for name, one in images], series=series)
    if len(images) == 1:
        return image_in_memory(images[0][1], axes)
    order = order_channels([name for name, _ in images], classifier.channels)
    read, wheres = [], []
    for channel, place in zip(classifier.channels, order, strict=True):
        one = images[place][1]
        read.append(
            read_image(Path(one), series=series)
            if is_path(one)
            else image_in_memory(one, axes, channel)
        )
        wheres.append(Path(one) if is_path(one) else Path(f"channel {channel}"))
    joined = joined_channels(read, wheres, classifier.channels)
    joined.meta["name"] = UNNAMED
    return joined
