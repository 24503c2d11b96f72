"""``saliency-explain model``: ``add``, ``check``, ``inspect`` and ``train``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from SaliencyExplain.cli import model_check_command, options, train_command
from SaliencyExplain.cli.messages import console, print_json, say_notes

if TYPE_CHECKING:
    from SaliencyExplain.models.bundle_settings import Setting

application = typer.Typer(
    no_args_is_help=True,
    help="Add a model (make a MONAI bundle of it), inspect one, or train one.",
)
application.command("train")(train_command.train)
application.command("check")(model_check_command.check)


@application.command("inspect")
def inspect(
    classifier: options.ClassifierArgument,
    trust: options.Trust = False,
    as_json: options.Json = False,
) -> None:
    """Classes, channels, spacing, input size, activation, layers, parameters, hash."""
    from SaliencyExplain.models.inspection import describe
    from SaliencyExplain.models.loading import load_classifier

    described = describe(load_classifier(classifier, trust=trust))
    if as_json:
        print_json(described)
        return
    say_notes(described["notes"])
    facts = Table(box=None, padding=(0, 2), show_header=False)
    for key, value in described.items():
        if key not in ("candidate_layers", "measured_size", "notes", "settings"):
            facts.add_row(key.replace("_", " "), _words(value))
    console.print(facts)
    if described["settings"]:
        console.print(_settings_table(described["settings"]))
    layers = Table(box=None, padding=(0, 2), title_justify="left")
    layers.title = f"layers (feature maps for an input of {_words(described['measured_size'])})"
    for heading in ("name", "channels", "feature map"):
        layers.add_column(heading)
    for layer in described["candidate_layers"]:
        layers.add_row(layer["name"], str(layer["channels"]), _words(layer["size"]))
    console.print(layers)


@application.command("add")
def add(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="The model's file: weights (.pt, .pth, .ckpt, .tar, .safetensors) of a "
            "--network, several as submodule=file; or a TorchScript, torch.export or ONNX file.",
            show_default=False,
        ),
    ],
    classes: Annotated[
        str, typer.Option("--classes", help="Names in the order of the scores: a,b,c.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The bundle's folder; it must not exist.")],
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            help="DenseNet121 and the like of MONAI, timm.NAME, a dotted name, or with --trust "
            "file.py:Class or file.py:factory, which is copied with all that it imports beside it.",
        ),
    ] = None,
    network_args: options.NetworkArguments = "{}",
    channels: Annotated[
        str, typer.Option("--channels", help="Names in the network's order: t1,t1ce.")
    ] = "image",
    dimensions: options.Dimensions = None,
    spacing: options.Spacing = None,
    size: options.Size = None,
    fit: options.Fit = None,
    like: Annotated[
        Literal["monai", "torchvision", "timm", "huggingface", "torchxrayvision", "medmnist"]
        | None,
        typer.Option(
            "--like",
            help="A library whose own preprocessing the network was trained with; the other "
            "settings replace its values.",
            show_default=False,
        ),
    ] = None,
    transforms: Annotated[
        str | None,
        typer.Option(
            "--transforms",
            metavar="FILE",
            help="The preprocessing as MONAI transforms on 'image', instead of settings: JSON or "
            "YAML as in a bundle, or with --trust a Compose in file.py or file.py:NAME.",
            show_default=False,
        ),
    ] = None,
    shortest: Annotated[
        int | None,
        typer.Option(
            "--shortest",
            min=1,
            metavar="VOXELS",
            help="Of the shortest side before the centre is cut out, for --fit shortest. Default: "
            "the largest edge of the size.",
            show_default=False,
        ),
    ] = None,
    interpolation: Annotated[
        Literal["linear", "cubic", "area", "nearest"] | None,
        typer.Option("--interpolation", help="Of the size. Default: linear.", show_default=False),
    ] = None,
    antialias: Annotated[
        bool | None,
        typer.Option(
            "--antialias/--no-antialias",
            help="Filter a picture where it gets smaller, as Pillow and torchvision do.",
            show_default=False,
        ),
    ] = None,
    align_corners: Annotated[
        bool | None,
        typer.Option(
            "--align-corners/--no-align-corners",
            help="Keep the centres of the corner voxels in their places when resizing.",
            show_default=False,
        ),
    ] = None,
    foreground: Annotated[
        bool | None,
        typer.Option(
            "--foreground/--no-foreground",
            help="Cut the image to the box of its voxels above 0 first.",
            show_default=False,
        ),
    ] = None,
    intensity: Annotated[
        str | None,
        typer.Option("--intensity", help=f"{options.INTENSITY_HELP} Left out: as in the file."),
    ] = None,
    order: Annotated[
        Literal["spatial-first", "intensity-first"] | None,
        typer.Option(
            "--order",
            help="Whether intensities are scaled after the spatial steps (the default) or before.",
            show_default=False,
        ),
    ] = None,
    orientation: Annotated[
        str | None,
        typer.Option(
            "--orientation",
            help="Axis codes the network was trained with; standard is RAS in 3D and rows "
            "downwards (PL) in 2D; none keeps the file's. Default: standard.",
            show_default=False,
        ),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(
            "--activation",
            help="softmax (exactly one class is true), sigmoid (several may be true, or a single "
            "logit), none if the network itself ends in one of them. Default: none for outputs "
            "that are "
            "probabilities for all synthetic images, otherwise softmax as a guess.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            help="Which of several outputs holds the class scores: its index or key, such as 0 "
            "or logits. Default: the only one that fits.",
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            "--window",
            metavar="VOXELS",
            help="Of a segmentation network: windows in which it is run over an image, such as "
            "96,96,96. Default: whole images.",
            show_default=False,
        ),
    ] = None,
    ensemble: Annotated[
        bool,
        typer.Option(
            "--ensemble",
            help="Each SOURCE is a member of its own, such as a fold; their scores are averaged.",
        ),
    ] = False,
    state_key: Annotated[
        str | None,
        typer.Option(
            "--state-key",
            metavar="KEY",
            help="Key of the weights in the weight file, such as model_ema or state.model. "
            "Default: state_dict, model and other common keys.",
            show_default=False,
        ),
    ] = None,
    strip_prefix: Annotated[
        str | None,
        typer.Option(
            "--strip-prefix",
            metavar="PREFIX",
            help="Prefix before the network's own names in the weight file, such as model. or "
            "encoder.net.; names without it are left out. Default: found automatically.",
            show_default=False,
        ),
    ] = None,
    description: Annotated[str, typer.Option("--description", help="A sentence.")] = "",
    trust: options.Trust = False,
    as_json: options.Json = False,
) -> None:
    """Make a MONAI bundle of a network and its weights."""
    from SaliencyExplain.models.inspection import describe
    from SaliencyExplain.models.loading import load_classifier
    from SaliencyExplain.models.wrapping import wrap as make_bundle

    options.check_output(out.parent)
    bundle = make_bundle(
        network,
        sources,
        options.names(classes),
        out,
        network_args=options.json_object("--network-args", network_args),
        channels=options.names(channels),
        spatial_dims=dimensions,
        like=like,
        transforms=transforms,
        spacing=options.numbers("--spacing", spacing),
        size=options.voxels(size),
        fit=fit,
        shortest=shortest,
        interpolation=interpolation,
        antialias=antialias,
        align_corners=align_corners,
        foreground=foreground,
        intensity=intensity,
        order=order,
        orientation=orientation,
        activation=activation,
        output=output,
        window=options.voxels(window, "--window"),
        description=description,
        ensemble=ensemble,
        state_key=state_key,
        strip_prefix=strip_prefix,
        trust=trust,
    )
    loaded = load_classifier(bundle, trust=trust)
    if as_json:
        print_json({"bundle": str(bundle), **describe(loaded)})
        return
    console.print(f"{bundle}", markup=False)
    console.print(_settings_table(dataclasses.asdict(one) for one in loaded.settings))
    say_notes([*loaded.notes, *_not_checked(loaded.settings)])


def _settings_table(settings: Iterable[Mapping[str, str]]) -> Table:
    table = Table(box=None, padding=(0, 2))
    for heading in ("setting", "value", "source"):
        table.add_column(heading)
    for one in settings:
        table.add_row(one["name"], Text(one["value"]), one["source"])
    return table


def _not_checked(settings: Sequence[Setting]) -> list[str]:
    guessed = dict.fromkeys(one.name for one in settings if one.source == "guessed")
    words = f"Guessed and not checked: {', '.join(guessed)}. " if guessed else ""
    return [
        f"{words}Compare a prediction with a known one: saliency-explain model check BUNDLE "
        "IMAGE=CLASS:PROBABILITY."
    ]


def _words(value: object) -> str:
    if value is None:
        return "any"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
