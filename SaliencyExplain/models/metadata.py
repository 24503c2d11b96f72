"""The description of a classifier's input and output in a bundle's metadata.json."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.bundle import METADATA
from SaliencyExplain.models.bundle_settings import Setting, read_settings
from SaliencyExplain.models.preprocessing_words import WORDS, PreprocessingWords
from SaliencyExplain.models.targets import shown
from SaliencyExplain.plain_text import visible

#: Channels and classes that are read.
_MOST_NAMES = 10_000
#: Values of an input, all channels together, 2 GB: the first image of that size is made here.
_MOST_VALUES = 2**29
_LONGEST_NAME = 300
_COLOURS = ("red", "green", "blue")
_NUMBER = re.compile(r"[0-9]{1,9}")


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
        segmentation: Whether the output is said to be a segmentation.
        words: The preprocessing in words, where the bundle was made of them.
    """

    channels: tuple[str, ...]
    classes: tuple[str, ...]
    spatial_dims: int | None
    size: tuple[int, ...] | None
    output: str | None = None
    settings: tuple[Setting, ...] = ()
    segmentation: bool = False
    words: PreprocessingWords | None = None


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
    names = numbered_names(
        image.get("channel_def"), f"{METADATA}: network_data_format.inputs.image.channel_def"
    )
    count = image.get("num_channels", len(names) or None)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"{METADATA} does not give the number of input channels: add "
            "network_data_format.inputs.image.num_channels.",
        )
    if count > _MOST_NAMES:
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"{METADATA} says {count} channels; at most {_MOST_NAMES} are supported.",
        )
    dims, size = _shape(image.get("spatial_shape"))
    settings = read_settings(content)
    if len(names) == 1 < count:
        # Bundles of MONAI's model zoo have one name for several channels.
        is_picture = dims == 2 and count == len(_COLOURS)
        numbered = tuple(f"{names[0]} {number}" for number in range(1, count + 1))
        names = _COLOURS if is_picture else numbered
        why = f"{', '.join(names)}, since the metadata has one name for {count} channels"
        settings += (Setting("channel order", why, "guessed"),)
    if len(names) != count:
        if names:
            raise ClassifierError(
                ErrorCode.MODEL_CONFIGURATION,
                f"{METADATA} names {len(names)} channels in network_data_format.inputs.image."
                f"channel_def and has num_channels {count}.",
            )
        names = ("image",) if count == 1 else tuple(f"channel{i}" for i in range(count))
    classes = numbered_names(
        prediction.get("channel_def"),
        f"{METADATA}: network_data_format.outputs.pred.channel_def",
    )
    output = prediction.get("network_output")
    if size is not None and count * math.prod(size) > _MOST_VALUES:
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"{METADATA} says an input of {'x'.join(map(str, size))} voxels and {count} channels; "
            f"at most {_MOST_VALUES:,} values are supported.",
        )
    if output is not None:
        output = _shown_name(
            str(output), f"{METADATA}: network_data_format.outputs.pred.network_output"
        )
    segmentation = prediction.get("format") == "segmentation"
    return Metadata(
        names,
        classes,
        dims,
        size,
        output,
        settings,
        segmentation,
        PreprocessingWords.read(content.get(WORDS)),
    )


def _dictionary(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"{METADATA} has no {where}: add it, as MONAI bundles have it.",
        )
    return value


def numbered_names(value: Any, where: str) -> tuple[str, ...]:
    """The names in a list or in a dictionary of the form ``{"0": "name", …}``.

    Args:
        value: What a file holds; None: no names.
        where: The file and the key, for messages.

    Raises:
        ClassifierError: It is of another form, or a name cannot be shown.
    """
    if value is None:
        return ()
    if isinstance(value, (list, Mapping)) and len(value) > _MOST_NAMES:
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"{where} has {len(value)} names; at most {_MOST_NAMES} are supported.",
        )
    if isinstance(value, list):
        return tuple(_shown_name(name, where) for name in value)
    if not isinstance(value, Mapping) or not all(_NUMBER.fullmatch(str(key)) for key in value):
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION,
            f'{where} is not of the form {{"0": "name", …}}.',
        )
    numbered = {int(str(key)): _shown_name(name, where) for key, name in value.items()}
    if sorted(numbered) != list(range(len(numbered))):
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION,
            f"{where} does not number its names 0, 1, 2, ….",
        )
    return tuple(numbered[index] for index in range(len(numbered)))


def _shown_name(value: Any, where: str) -> str:
    """A name that panels, tables and file names show.

    Raises:
        ClassifierError: It is no text or number, too long, or holds characters that act.
    """
    plain = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    name = str(value) if plain else ""
    if not name.strip() or len(name) > _LONGEST_NAME or set("\n\t") & set(name):
        plain = False
    if not plain or visible(name) != name:
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION,
            f"{where} has {shown(value)} as a name; names are texts of at most "
            f"{_LONGEST_NAME} letters in one line, without control characters.",
        )
    return name


def _shape(value: Any) -> tuple[int | None, tuple[int, ...] | None]:
    if not isinstance(value, list) or len(value) not in (2, 3):
        return None, None
    fixed = all(type(edge) is int and edge > 0 for edge in value)
    return len(value), tuple(value) if fixed else None
