"""From files to an image with a classifier's channels in its order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai.data import MetaTensor

from SaliencyExplain.images.reading import read_channels
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
