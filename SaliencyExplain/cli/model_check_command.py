"""``saliency-explain model check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from SaliencyExplain.cli import options
from SaliencyExplain.cli.messages import console, print_json, progress_bar, say_notes
from SaliencyExplain.errors import ErrorCode, InputError, OutputError

if TYPE_CHECKING:
    from SaliencyExplain.models.classifier import Classifier
    from SaliencyExplain.models.known_predictions import KnownPrediction
    from SaliencyExplain.models.model_check import ModelCheck

#: Combinations in the table that is printed.
_SHOWN = 15
#: Exit status where the predictions differ.
_DIFFERS = 1


def check(
    classifier: options.ClassifierArgument,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE=KNOWN...",
            help="An image and what the model is known to say of it: IMAGE=0.93 (the likeliest "
            "class's probability), IMAGE=CLASS or IMAGE=CLASS:0.93. With --expect the files of one "
            "image, as for predict.",
            show_default=False,
        ),
    ],
    expect: Annotated[
        list[str] | None,
        typer.Option(
            "--expect",
            metavar="CLASS=P",
            help="Known probability of a class of the one image; may be repeated.",
            show_default=False,
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance",
            min=0.0,
            max=1.0,
            help="Largest difference of a probability that counts as equal.",
        ),
    ] = 0.01,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write",
            metavar="FOLDER",
            help="Where only one combination of settings fits: write a copy of the bundle with "
            "them, in a new folder.",
            show_default=False,
        ),
    ] = None,
    trust: options.Trust = False,
    as_json: options.Json = False,
) -> None:
    """Compare a model's predictions with known ones, and find the settings that fit them.

    Where the predictions agree, this is recorded beside the bundle's files and stands in the
    provenance of each map. The exit status is 1 where they differ.
    """
    from SaliencyExplain.models.bundle_correction import corrected_bundle
    from SaliencyExplain.models.loading import load_classifier
    from SaliencyExplain.models.model_check import check_predictions

    with progress_bar("checking", quiet=as_json) as progress:
        loaded = load_classifier(classifier, trust=trust)
        known = _known(loaded, images, expect)
        found = check_predictions(loaded, known, tolerance=tolerance, progress=progress)
        kept = found.agrees and _record(loaded, found)
        written: Path | None = None
        if write is not None and not found.agrees and found.found is not None:
            written = corrected_bundle(loaded, found.found, write)
            again = load_classifier(written, trust=trust)
            _record(again, check_predictions(again, known, tolerance=tolerance))
    if as_json:
        print_json(_document(found, written))
    else:
        _say(found, kept, written)
    if not found.agrees:
        raise typer.Exit(_DIFFERS)


def _known(
    loaded: Classifier, images: list[str], expect: list[str] | None
) -> list[KnownPrediction]:
    from SaliencyExplain.models.inputs import read_input
    from SaliencyExplain.models.known_predictions import known_prediction

    if expect:
        image = read_input(loaded, [options.named_path(text) for text in images])
        said = [f"{name}:{p}" for name, _, p in (one.rpartition("=") for one in expect)]
        return [known_prediction(images[0], image, said, loaded.classes)]
    known = []
    for text in images:
        path, equals, said_of_it = text.rpartition("=")
        if not equals:
            raise InputError(
                ErrorCode.OPTION_MISSING,
                f"{text}: say what the model is known to predict, such as {text}=0.93.",
            )
        image = read_input(loaded, [(None, Path(path))])
        known.append(known_prediction(path, image, [said_of_it], loaded.classes))
    return known


def _record(loaded: Classifier, found: ModelCheck) -> bool:
    """Keeps a check that agrees beside the bundle's files; False where that is not possible."""
    from SaliencyExplain.demo.shipped import shipped_classifiers
    from SaliencyExplain.models.check_record import write_record

    folder = loaded.source
    shipped = [path.resolve() for path in shipped_classifiers().values()]
    if not found.agrees or folder is None or not folder.is_dir() or folder.resolve() in shipped:
        return False
    try:
        write_record(folder, found.record)
    except OutputError:
        return False
    return True


def _document(found: ModelCheck, written: Path | None) -> dict[str, Any]:
    def row(one: Any) -> dict[str, Any]:
        return {"changes": dict(one.changes), "activation": one.activation, "error": one.error}

    return {
        "agrees": found.agrees,
        "largest_difference": found.own.error,
        "images": found.images,
        "tolerance": found.tolerance,
        "expected_by_chance": found.expected_by_chance,
        "fitting": [row(one) for one in found.fitting],
        "tried": [row(one) for one in found.attempts],
        "written": None if written is None else str(written),
    }


def _say(found: ModelCheck, kept: bool, written: Path | None) -> None:
    images = f"{found.images} image{'s' if found.images > 1 else ''}"
    if found.agrees:
        console.print(f"Agrees with {images}: largest difference {found.own.error:.2g}.")
        if not kept:
            say_notes(["The check is not recorded: the model is no folder that can be written."])
        return
    console.print(f"Differs: largest difference {found.own.error:.2g} over {images}.")
    table = Table(box=None, padding=(0, 2))
    table.add_column("changed settings", overflow="fold")
    table.add_column("difference", justify="right")
    for one in found.attempts[:_SHOWN]:
        changes = "; ".join(f"{name}: {value}" for name, value in one.changes.items())
        style = "bold" if one.error <= found.tolerance else None
        table.add_row(changes or "as it is", f"{one.error:.3g}", style=style)
    console.print(table)
    more = len(found.attempts) - _SHOWN
    notes = [f"{more} more combinations were tried."] if more > 0 else []
    if not found.fitting:
        notes.append(
            "None fits. Check the weights, the network's arguments and the order of the classes."
        )
    elif len(found.fitting) > 1:
        notes.append(
            f"{len(found.fitting)} combinations fit: check with more images, or with more precise "
            "probabilities, to tell them apart. Nothing was written."
        )
    elif found.found is None:
        notes.append(
            f"One combination fits, and of {len(found.attempts)} combinations about "
            f"{found.expected_by_chance:.2g} would fit by chance: check with more images, or with "
            "more precise probabilities and a smaller --tolerance. Nothing was written."
        )
    elif written is None:
        notes.append("One combination fits: --write FOLDER makes a bundle of it.")
    else:
        notes.append(f"The bundle with these settings is {written}.")
    say_notes(notes)
