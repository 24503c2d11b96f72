"""The options that several commands share, each described once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from SaliencyExplain.errors import OutputError

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

Scene = Annotated[
    bool,
    typer.Option(
        "--scene", help="Write scene.mrb for each case, to be opened in 3D Slicer as it is."
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


def check_output(folder: Path) -> None:
    """Raises OutputError where the folder cannot be written, before anything is computed."""
    existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise OutputError(f"{existing} is a file, so no output folder can be made there.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"The output folder cannot be written: no permission in {existing}.")
