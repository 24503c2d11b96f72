"""The segments in the text fields of a ``.seg.nrrd`` (vtkMRMLSegmentationStorageNode).

3D Slicer, slicerio and other programs write them: ``Segment0_ID``, ``_Name``, ``_Color``,
``_Layer``, ``_LabelValue``. Some writers omit fields, and numbers have gaps if segments were
deleted. A field that determines a segment's voxels is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.label_types import Color, Label
from SaliencyExplain.images.label_values import distinct
from SaliencyExplain.plain_text import some_of

_FIELD = re.compile(r"Segment(\d{1,6})_(ID|Name|Color|Layer|LabelValue)")
_MOST_NAMED = 10


def described_segments(
    path: Path, header: Mapping[str, str], layers: NDArray[np.integer[Any]]
) -> tuple[tuple[Label, ...], tuple[str, ...]]:
    """The segments of a header, and segments for labels that it does not name.

    Args:
        path: The file, for messages.
        header: Its text fields.
        layers: (L, *S), whole numbers.

    Returns:
        The labels, empty if the header names no segment, and notes.

    Raises:
        InputError: The fields do not determine a segment's voxels: a layer does not exist, a value
            is not a number, or two segments have the same layer and value.
    """
    fields: dict[int, dict[str, str]] = {}
    for key, text in header.items():
        if found := _FIELD.fullmatch(key):
            fields.setdefault(int(found[1]), {})[found[2]] = text.strip()
    if not fields:
        return (), ()
    held = [[value for value in distinct(layer) if value != 0] for layer in layers]
    labels: list[Label] = []
    taken: dict[tuple[int, int], str] = {}
    for number, (index, said) in enumerate(sorted(fields.items())):
        name = said.get("Name") or said.get("ID") or f"segment {index + 1}"
        layer = _layer(path, said, name, number, len(fields), held)
        value = _value(path, said, name, layer, len(fields), held)
        if (layer, value) in taken:
            raise _unclear(
                path, f"'{taken[layer, value]}' and '{name}' have the same layer and label"
            )
        taken[layer, value] = name
        labels.append(Label(name, _color(said.get("Color", "")), layer, value))
    more = [
        Label(
            f"label {value}" if len(held) == 1 else f"layer {layer + 1} label {value}",
            None,
            layer,
            value,
        )
        for layer, values in enumerate(held)
        for value in values
        if (layer, value) not in taken
    ]
    if not more:
        return tuple(labels), ()
    named = some_of([label.name for label in more], _MOST_NAMED)
    note = f"the header names no segment for {len(more)} of the labels: {named}"
    return (*labels, *more), (note,)


def _layer(
    path: Path,
    said: Mapping[str, str],
    name: str,
    number: int,
    segments: int,
    held: list[list[int]],
) -> int:
    if "Layer" in said:
        layer = _whole(path, said["Layer"], f"the layer of '{name}'")
        if not 0 <= layer < len(held):
            raise _unclear(path, f"'{name}' is in layer {layer}, and the file has {len(held)}")
        return layer
    if len(held) == 1:
        return 0
    if len(held) == segments:
        # 3D Slicer before 4.11 wrote a layer for each segment.
        return number
    if "LabelValue" in said:
        value = _whole(path, said["LabelValue"], f"the label of '{name}'")
        having = [layer for layer, values in enumerate(held) if value in values]
        if len(having) == 1:
            return having[0]
    raise _unclear(path, f"the layer of '{name}' is missing, and the file has {len(held)}")


def _value(
    path: Path, said: Mapping[str, str], name: str, layer: int, segments: int, held: list[list[int]]
) -> int:
    if "LabelValue" in said:
        return _whole(path, said["LabelValue"], f"the label of '{name}'")
    # If a layer has one segment only, all its labelled voxels belong to that segment.
    alone = segments == 1 or len(held) == segments
    if alone and len(held[layer]) <= 1:
        return held[layer][0] if held[layer] else 1
    raise _unclear(path, f"the label of '{name}' is missing")


def _whole(path: Path, text: str, what: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise _unclear(path, f"{what} is '{text[:40]}' and not a whole number") from error


def _color(text: str) -> Color | None:
    try:
        red, green, blue = (float(part) for part in text.split())
    except ValueError:
        return None
    color = (red, green, blue)
    return color if all(0 <= part <= 1 for part in color) else None


def _unclear(path: Path, wrong: str) -> InputError:
    return InputError(
        ErrorCode.SEGMENTATION_LABELS,
        f"{path}: the fields of its header do not determine the voxels of a segment: {wrong}. "
        "Save it again with 3D Slicer, or as a label map.",
    )
