"""``saliency-explain model train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from SaliencyExplain.cli import options
from SaliencyExplain.cli.messages import aside, console, print_json, say_notes, training_bar

Balance = Literal["weights", "sampling", "none"]


def train(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER_OR_CASES.csv",
            help="A folder per class of images, MATLAB files of the brain tumour set, or a CSV "
            "with the columns case, image, label, and perhaps patient and split.",
        ),
    ],
    network: Annotated[
        str,
        typer.Option(
            "--network", help="DenseNet121 and the like of MONAI, timm.NAME, or a dotted name."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The bundle's folder.")],
    network_args: options.NetworkArguments = "{}",
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="Initial weights; weights that do not fit are left out."),
    ] = None,
    classes: Annotated[
        str, typer.Option("--classes", help="The classes in their order: a,b,c; default: all.")
    ] = "",
    channels: Annotated[
        str, typer.Option("--channels", help="Names of the input's channels: t1,t1ce.")
    ] = "image",
    dimensions: options.Dimensions = None,
    spacing: options.Spacing = None,
    size: options.Size = None,
    fit: options.Fit = None,
    intensity: options.Intensity = "zscore",
    augment: Annotated[
        str,
        typer.Option(
            "--augment",
            help="Random augmentation: mirror, rotate, zoom, contrast, noise; or none.",
        ),
    ] = "rotate,zoom,contrast,noise",
    balance: Annotated[
        Balance, typer.Option("--balance", help="How unequal class sizes are balanced.")
    ] = "weights",
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Largest number of epochs.")] = 50,
    patience: Annotated[
        int,
        typer.Option(
            "--patience",
            min=1,
            help=("Stop after this many epochs without a lower validation loss."),
        ),
    ] = 10,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images per step.")] = 16,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", help="Step size of AdamW.")
    ] = 1e-3,
    validation_share: Annotated[
        float,
        typer.Option(
            "--validation-share",
            metavar="SHARE",
            parser=options.share("--validation-share"),
            help="Share of the cases used to choose the epoch: 0.15 or 15%.",
        ),
    ] = 0.15,
    test_share: Annotated[
        float,
        typer.Option(
            "--test-share",
            metavar="SHARE",
            parser=options.share("--test-share"),
            help="Share of the cases held out for testing: 0.15 or 15%.",
        ),
    ] = 0.15,
    device: options.Device = "auto",
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Random seed; same seed, same bytes.")
    ] = 0,
    trust: options.Trust = False,
    as_json: options.Json = False,
) -> None:
    """Train a network on labelled images; an interrupted run continues."""
    options.check_output(out.parent)
    from SaliencyExplain.cli.terminal_tables import labels_table
    from SaliencyExplain.studies.discovery import discover
    from SaliencyExplain.training.train import train_classifier
    from SaliencyExplain.training.training_settings import Settings

    sizes = options.voxels(size)
    spacings = options.numbers("--spacing", spacing)
    settings = Settings(
        network=network,
        network_args=options.json_object("--network-args", network_args),
        weights=weights,
        classes=tuple(options.names(classes)),
        channels=tuple(options.names(channels)),
        spatial_dims=dimensions,
        spacing=tuple(spacings) if spacings else None,
        size=tuple(sizes) if sizes else None,
        fit=fit,
        intensity=intensity,
        augment=() if augment.strip().lower() == "none" else tuple(options.names(augment)),
        balance=balance,
        epochs=epochs,
        patience=patience,
        batch_size=batch_size,
        learning_rate=learning_rate,
        validation_share=validation_share,
        test_share=test_share,
        seed=seed,
    )
    cases = discover(folder, channels=settings.channels)
    with training_bar(quiet=as_json) as progress:
        result = train_classifier(
            cases, settings, out, device=device, trust=trust, progress=progress
        )
    say_notes(result.notes)
    if as_json:
        print_json(
            {
                "bundle": str(result.bundle),
                "measured_on": result.measured_on,
                "figures": result.labels.as_json(),
                "epochs": result.epochs,
                "best_epoch": result.best,
                "cases": result.counts,
                "notes": list(result.notes),
            }
        )
        return
    aside.print(labels_table(result.labels))
    if result.measured_on != "test":
        say_notes(
            [
                (
                    "These metrics are from the cases that chose the epoch and are therefore "
                    "optimistic: hold some cases out."
                )
            ]
        )
    console.print(f"{result.bundle}", markup=False, soft_wrap=True)
