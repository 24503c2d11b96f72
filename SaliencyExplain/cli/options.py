"""The options that several commands share, each described once."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from SaliencyExplain.errors import ErrorCode, InputError, OutputError

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
        help="A MONAI bundle (folder or zip), a TorchScript or a torch.export file.",
        show_default=False,
    ),
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Run code that comes with the classifier. Only if you know it."),
]
MethodNames = Annotated[
    list[str],
    typer.Option(
        "--method",
        "-m",
        help="A method, repeatable; `saliency-explain methods` lists them.",
        show_default=False,
    ),
]
Target = Annotated[
    str,
    typer.Option(
        "--target",
        "-t",
        help="The class to explain: its name, its index, predicted, or (in a study) label.",
    ),
]
Settings = Annotated[
    list[str],
    typer.Option("--set", metavar="METHOD.PARAMETER=VALUE", help="A method's parameter."),
]
Layers = Annotated[
    list[str],
    typer.Option("--layer", help="A layer for the class activation methods, repeatable."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda:N.")]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Most memory that batches, kept maps and weights packed for them may take, such as "
        "4G or 800M; by default half of what is free.",
        show_default=False,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        help="float32, or bfloat16 for faster, coarser gradients on hardware that has it; "
        "occlusion and its like stay in float32.",
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, help="Of everything random; same seed, same map.")
]
Series = Annotated[
    str | None,
    typer.Option("--series", help="SeriesInstanceUID, where a DICOM folder holds several."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
KeepIdentifiers = Annotated[
    bool,
    typer.Option(
        "--keep-identifiers", help="Name cases as patients are named in folders and headers."
    ),
]
Backgrounds = Annotated[
    list[Path],
    typer.Option(
        "--background",
        metavar="IMAGE_OR_FOLDER",
        help="Images that stand for nothing in particular, such as of healthy people, for the "
        "methods that ask for them: an image, or a folder or CSV of cases; repeatable.",
    ),
]

#: What a network is made of and given, for a bundle that is wrapped or trained.
NetworkArguments = Annotated[
    str, typer.Option("--network-args", help="Its arguments as a JSON object.")
]
Dimensions = Annotated[
    int | None,
    typer.Option(
        "--dimensions",
        min=2,
        max=3,
        help="2 or 3, where the images do not tell.",
    ),
]
Spacing = Annotated[
    str | None, typer.Option("--spacing", help="Voxel size in mm to resample to: 1,1,1.")
]
Size = Annotated[
    str | None, typer.Option("--size", help="Voxels of the network's input: 96,96,96 or 224,224.")
]
Fit = Annotated[
    Literal["resize", "crop"] | None,
    typer.Option("--fit", help="How the size is reached: resize, or crop (and pad)."),
]
INTENSITY_HELP = "none, zscore, zscore-nonzero, scale, percentile, window:low,high or imagenet."
Intensity = Annotated[str, typer.Option("--intensity", help=INTENSITY_HELP)]

Scene = Annotated[
    bool,
    typer.Option(
        "--scene", help="Write scene.mrb for each case, to be opened in 3D Slicer as it is."
    ),
]
Trial = Annotated[
    bool,
    typer.Option(
        "--trial",
        help="Try the maps: do they beat chance, depend on the weights, stay, lie on the tumour? "
        "Writes trial.json and a trust card for each map.",
    ),
]
TrialBudget = Annotated[
    float,
    typer.Option(
        "--trial-budget",
        metavar="PASSES",
        min=1,
        help="Forward passes that the trial of a case may cost; less is tried where that is not "
        "enough, but the least whatever it costs.",
    ),
]


def given(context: typer.Context) -> dict[str, str]:
    """What stands on the command line, in the order of the command's own parameters.

    Returns:
        ``{parameter: option as it is written}``; also those that repeat their default.
    """
    said = {}
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name and source is not None and source.name != "DEFAULT":
            said[parameter.name] = parameter.opts[0]
    return said


def named_path(text: str) -> tuple[str | None, Path]:
    """Splits ``name=path``; a file whose name holds ``=`` stays whole.

    Returns:
        The channel's name, None where none was given, and the path.
    """
    name, equals, path = text.partition("=")
    if equals and name and not Path(text).exists():
        return name, Path(path)
    return None, Path(text)


def memory_bytes(text: str | None) -> float:
    """The bytes of a size such as ``4G``, ``1.5GiB`` or ``800M``; None: no limit.

    Raises:
        InputError: It is no size, or none is left.
    """
    if text is None:
        return math.inf
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([KMGT]?)(I?B)?", text.strip().upper())
    size = float(found[1]) * 1024 ** " KMGT".index(found[2] or " ") if found else 0.0
    if size < 1:
        raise InputError(
            ErrorCode.VALUE_FORM, f"--memory wants a size such as 4G or 800M, not '{text}'."
        )
    return size


def names(text: str) -> list[str]:
    """The names of ``a,b,c``."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(option: str, text: str | None) -> list[float] | None:
    """The numbers of ``1,1,1`` or ``96x96``; None where nothing was given.

    Raises:
        InputError: There is something else in it.
    """
    if text is None:
        return None
    try:
        return [float(number) for number in text.replace("x", ",").split(",")]
    except ValueError:
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"{option} wants numbers with commas (such as 1,1,1), not '{text}'.",
        ) from None


def json_object(option: str, text: str) -> dict[str, Any]:
    """The JSON object that an option holds.

    Raises:
        InputError: It holds none.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(ErrorCode.VALUE_FORM, f"{option} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InputError(
            ErrorCode.VALUE_FORM, f"{option} is a JSON object of arguments, not {text}."
        )
    return value


def check_output(folder: Path) -> None:
    """Raises OutputError where the folder cannot be written, before anything is computed."""
    existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise OutputError(
            ErrorCode.OUTPUT_UNWRITABLE,
            f"{existing} is a file, so no output folder can be made there.",
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(
            ErrorCode.OUTPUT_UNWRITABLE,
            f"The output folder cannot be written: no permission in {existing}.",
        )
