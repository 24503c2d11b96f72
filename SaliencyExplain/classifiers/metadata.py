"""What a bundle's metadata.json says of a classifier's input and output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from SaliencyExplain.classifiers.bundle import METADATA
from SaliencyExplain.classifiers.settings import Setting, read_settings
from SaliencyExplain.errors import ClassifierError, ErrorCode


@dataclass(frozen=True)
class Metadata:
    """The part of ``network_data_format`` that a classifier needs.

    Attributes:
        channels: Names of the input's channels.
        classes: Names of the classes; empty where none are given.
        spatial_dims: 2 or 3; None where the shape is not given.
        size: The input's voxels per axis where they are fixed numbers.
        output: Path of the class scores in what the network returns, where it is said.
        settings: What the bundle was made with, where :func:`wrap` made it.
    """

    channels: tuple[str, ...]
    classes: tuple[str, ...]
    spatial_dims: int | None
    size: tuple[int, ...] | None
    output: str | None = None
    settings: tuple[Setting, ...] = ()


def parse(content: Mapping[str, Any]) -> Metadata:
    """Reads MONAI's ``network_data_format``.

    Raises:
        ClassifierError: It is missing or not of MONAI's form; says what to add.
    """
    data = _dictionary(content.get("network_data_format"), "network_data_format")
    inputs = _dictionary(data.get("inputs"), "network_data_format.inputs")
    outputs = _dictionary(data.get("outputs"), "network_data_format.outputs")
    image = _dictionary(
        inputs.get("image", next(iter(inputs.values())) if len(inputs) == 1 else None),
        "network_data_format.inputs.image",
    )
    prediction = _dictionary(
        outputs.get("pred", next(iter(outputs.values())) if len(outputs) == 1 else None),
        "network_data_format.outputs.pred",
    )
    names = _names(image.get("channel_def"), "network_data_format.inputs.image.channel_def")
    count = image.get("num_channels", len(names) or None)
    if not isinstance(count, int) or count < 1:
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"{METADATA} does not say how many channels go in: add "
            "network_data_format.inputs.image.num_channels.",
        )
    if len(names) != count:
        if names:
            raise ClassifierError(
                ErrorCode.MODEL_CONFIGURATION,
                f"{METADATA} names {len(names)} channels in network_data_format.inputs.image."
                f"channel_def and has num_channels {count}.",
            )
        names = ("image",) if count == 1 else tuple(f"channel{i}" for i in range(count))
    dims, size = _shape(image.get("spatial_shape"))
    classes = _names(prediction.get("channel_def"), "network_data_format.outputs.pred.channel_def")
    output = prediction.get("network_output")
    return Metadata(
        names, classes, dims, size, None if output is None else str(output), read_settings(content)
    )


def _dictionary(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"{METADATA} has no {where}: add it, as MONAI bundles have it.",
        )
    return value


def _names(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(str(name) for name in value)
    if not isinstance(value, Mapping) or not all(str(key).isdecimal() for key in value):
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION,
            f'{METADATA}: {where} is not of the form {{"0": "name", …}}.',
        )
    numbered = {int(key): str(name) for key, name in value.items()}
    if sorted(numbered) != list(range(len(numbered))):
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION,
            f"{METADATA}: {where} does not number its names 0, 1, 2, ….",
        )
    return tuple(numbered[index] for index in range(len(numbered)))


def _shape(value: Any) -> tuple[int | None, tuple[int, ...] | None]:
    if not isinstance(value, list) or len(value) not in (2, 3):
        return None, None
    fixed = all(isinstance(edge, int) and edge > 0 for edge in value)
    return len(value), tuple(value) if fixed else None
