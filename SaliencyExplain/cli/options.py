"""Options of several commands that are not fields of a specification, each described once."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from SaliencyExplain.cli.completion import complete_classifiers
from SaliencyExplain.demo.shipped import classifier_path
from SaliencyExplain.errors import ErrorCode, InputError, OutputError
from SaliencyExplain.quantities import LENGTHS, SHARE, number_of

_VOXELS: Mapping[str, float] = {"voxels": 1.0, "vox": 1.0, "px": 1.0}


def names(text: str) -> list[str]:
    """The names of ``a,b,c``."""
    return [name.strip() for name in text.split(",") if name.strip()]


def listed(texts: list[str]) -> list[str]:
    """The names of an option that may be repeated, or hold several with commas."""
    return [name for text in texts for name in names(text)]


def listed_or_none(texts: list[str] | None) -> list[str] | None:
    """As :func:`listed`, for an option that may be left out."""
    return None if texts is None else listed(texts)


def quantity(
    option: str, units: Mapping[str, float], what: str, *, least: float = 0.0
) -> Callable[[str | float], float]:
    """A parser for an option's number, with or without its unit.

    Args:
        option: The option, for the message.
        units: Factors of the units that may stand behind the number.
        what: The quantity, with an example.
        least: The least number that is allowed.

    Returns:
        The parser, which raises InputError for any other text.
    """

    def parse(value: str | float) -> float:
        try:
            number = number_of(str(value), units)
        except ValueError:
            raise InputError(
                ErrorCode.VALUE_FORM, f"{option} must be {what}, not '{value}'."
            ) from None
        if not (math.isfinite(number) and number >= least):
            raise InputError(
                ErrorCode.VALUE_RANGE, f"{option} is {value}; it must be {least:g} or more."
            )
        return number

    return parse


def share(option: str) -> Callable[[str | float], float]:
    """A parser for a share, in per cent too; see :func:`quantity`."""
    return quantity(option, SHARE, "a share such as 0.15 or 15%")


def length(option: str) -> Callable[[str | float], float]:
    """A parser for a length in mm; see :func:`quantity`."""
    return quantity(option, LENGTHS, "a length in mm, such as 8, 8mm or 0.8cm")


_CLASSIFIER = (
    "A MONAI bundle (folder or zip), a folder of Hugging Face's Transformers, a TorchScript or a "
    "torch.export file, or demo:NAME for one that is shipped, such as demo:phantom-3d-honest."
)
Images = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE...",
        help="An image, or the channels of one image in the classifier's order, or name=path.",
        show_default=False,
    ),
]
ClassifierPath = Annotated[
    Path,
    typer.Option(
        "--classifier",
        "-c",
        metavar="CLASSIFIER",
        help=_CLASSIFIER,
        show_default=False,
        parser=classifier_path,
        autocompletion=complete_classifiers,
    ),
]
ClassifierPathOrNone = Annotated[
    Path | None,
    typer.Option(
        "--classifier",
        "-c",
        metavar="CLASSIFIER",
        help=_CLASSIFIER,
        show_default=False,
        parser=classifier_path,
        autocompletion=complete_classifiers,
    ),
]
ClassifierArgument = Annotated[
    Path,
    typer.Argument(
        metavar="CLASSIFIER",
        help=_CLASSIFIER,
        parser=classifier_path,
        autocompletion=complete_classifiers,
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run code that comes with the classifier. Use it only if you trust its source.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda:N.")]
Series = Annotated[
    str | None,
    typer.Option("--series", help="SeriesInstanceUID, where a DICOM folder holds several."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
KeepIdentifiers = Annotated[
    bool,
    typer.Option(
        "--keep-identifiers", help="Name cases by the patients' names in folders and headers."
    ),
]
#: The network and its input, for a bundle that is wrapped or trained.
NetworkArguments = Annotated[
    str, typer.Option("--network-args", help="Its arguments as a JSON object.")
]
Dimensions = Annotated[
    int | None,
    typer.Option(
        "--dimensions",
        min=2,
        max=3,
        help="2 or 3, where the network does not define it.",
    ),
]
Spacing = Annotated[
    str | None,
    typer.Option("--spacing", metavar="MM,MM,MM", help="Voxel size to resample to, in mm: 1,1,1."),
]
Size = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="VOXELS",
        help="Size of the network's input in voxels: 96,96,96 or 224,224.",
    ),
]
Fit = Annotated[
    Literal["resize", "crop", "shortest", "pad-square", "crop-square"] | None,
    typer.Option(
        "--fit",
        help="How the size is reached: resize; crop (and pad); shortest (the shortest side is "
        "resized, the centre cut out); pad-square or crop-square (to equal sides, then resized).",
        show_default=False,
    ),
]
INTENSITY_HELP = (
    "none, zscore, zscore-nonzero, scale, scale:-1,1, percentile, percentile:low,high, "
    "window:low,high, window:low,high,a,b, clip:low,high, fixed:mean/deviation or imagenet; "
    "several with + between them: clip:-1000,400+zscore."
)
Intensity = Annotated[str, typer.Option("--intensity", help=INTENSITY_HELP)]

Scene = Annotated[
    bool,
    typer.Option(
        "--scene", help="Write scene.mrb for each case, to be opened in 3D Slicer as it is."
    ),
]
Evaluate = Annotated[
    bool,
    typer.Option(
        "--evaluate",
        help="Evaluate each map: faithfulness against random maps, sensitivity to the weights, "
        "stability, overlap with the segmentation. Writes evaluation.json and a trust card for "
        "each map.",
    ),
]


def named_path(text: str) -> tuple[str | None, Path]:
    """Splits ``name=path``; a file whose name holds ``=`` stays whole.

    Returns:
        The channel's name, None where none was given, and the path.
    """
    name, equals, path = text.partition("=")
    if equals and name and not Path(text).exists():
        return name, Path(path)
    return None, Path(text)


def numbers(
    option: str, text: str | None, units: Mapping[str, float] = LENGTHS
) -> list[float] | None:
    """The numbers of ``1,1,1`` or ``96x96``, each with or without its unit; None without text.

    Raises:
        InputError: There is something else in it.
    """
    if text is None:
        return None
    try:
        return [number_of(part, units) for part in re.split(r",|(?<!p)x", text)]
    except ValueError:
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"{option} must be numbers with commas (such as 1,1,1), not '{text}'.",
        ) from None


def voxels(text: str | None, option: str = "--size") -> list[int] | None:
    """The numbers of voxels of an option; None where nothing was given."""
    found = numbers(option, text, _VOXELS)
    return None if found is None else [round(number) for number in found]


def json_object(option: str, text: str) -> dict[str, Any]:
    """The JSON object that an option holds.

    Raises:
        InputError: It does not hold one.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(ErrorCode.VALUE_FORM, f"{option} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InputError(
            ErrorCode.VALUE_FORM, f"{option} must be a JSON object of arguments, not {text}."
        )
    return value


def check_output(folder: Path) -> None:
    """Raises OutputError where the folder cannot be written, before anything is computed."""
    existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise OutputError(
            ErrorCode.OUTPUT_UNWRITABLE,
            f"{existing} is a file, so the output folder cannot be made there. Name another "
            "folder.",
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(
            ErrorCode.OUTPUT_UNWRITABLE,
            f"The output folder cannot be written: no permission in {existing}. Name another "
            "folder.",
        )
