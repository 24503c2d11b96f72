"""``saliency-explain evaluate``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from SaliencyExplain.cli import options
from SaliencyExplain.cli.evaluate_study import evaluate_study_folder, is_study
from SaliencyExplain.cli.messages import (
    SOME_CASES_FAILED,
    aside,
    console,
    print_json,
    progress_bar,
    say_notes,
)
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.quantities import PASSES
from SaliencyExplain.trial_words import PARTS

if TYPE_CHECKING:
    from rich.table import Table

    from SaliencyExplain.evaluation.image.cost import Cost
    from SaliencyExplain.evaluation.image.findings import Trial


Effort = Literal["full", "reduced", "least"]

#: The parameters of this command that a finished study has a use for.
_OF_A_STUDY = ("images", "out", "seed", "as_json")

#: Those that only a study has.
_OF_A_STUDY_ALONE = ("cases", "all_cases", "smallest_difference")

#: Those that say something of the methods whose maps are tried.
_OF_METHODS = ("setting", "layer", "background")


def evaluate(
    context: typer.Context,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE... | STUDY_FOLDER",
            help="An image, or the channels of one image in the classifier's order, or "
            "name=path; or, alone, the output folder of a finished study.",
            show_default=False,
        ),
    ],
    classifier: options.ClassifierPathOrNone = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The output folder. Of a study: the folder evaluation in it, where its report "
            "shows what was found; elsewhere the report stays as it is.",
            show_default=False,
        ),
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(
            "--cases",
            metavar="FOLDER_OR_CSV",
            help="For a study: the folder or table it was made from, for its segmentations and "
            "the body. By default the files that its journal names, except DICOM, whose "
            "paths may contain patient names.",
            show_default=False,
        ),
    ] = None,
    all_cases: Annotated[
        bool,
        typer.Option(
            "--all-cases",
            help="For a study: compare methods on all cases, also those explained for a class "
            "other than their label.",
        ),
    ] = False,
    smallest_difference: Annotated[
        list[str],
        typer.Option(
            "--smallest-difference",
            metavar="[FIGURE=]VALUE",
            help="For a study: smallest difference of interest; smaller ones are not called "
            "better. 0.05 or 5% by default, 5 mm for distances; repeatable.",
            show_default=False,
        ),
    ] = [],  # noqa: B006
    method: options.MethodNames = [],  # noqa: B006  Typer copies it for each call
    map_file: Annotated[
        list[Path],
        typer.Option(
            "--map",
            metavar="FILE",
            help=(
                "A map from another tool; only its faithfulness and its overlap with the "
                "segmentation can be evaluated."
            ),
            show_default=False,
        ),
    ] = [],  # noqa: B006
    target: options.Target = "predicted",
    segmentation: Annotated[
        Path | None,
        typer.Option("--segmentation", "-s", help="Ground truth to compare the maps with."),
    ] = None,
    modality_segmentation: Annotated[
        list[str],
        typer.Option(
            "--modality-segmentation",
            metavar="CHANNEL=FILE",
            help=(
                "Segmentation of what a channel shows, for the modality-specific feature "
                "importance (MSFI); repeatable."
            ),
        ),
    ] = [],  # noqa: B006
    part: Annotated[
        list[str],
        typer.Option(
            "--part",
            metavar="PART[,PART...]",
            help=f"Only this part: {', '.join(PARTS)}; repeatable.",
            callback=options.listed,
        ),
    ] = [],  # noqa: B006
    setting: options.Settings = [],  # noqa: B006
    layer: options.Layers = [],  # noqa: B006
    background: options.Backgrounds = [],  # noqa: B006
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            metavar="PASSES",
            parser=options.quantity(
                "--budget", PASSES, "a number of forward passes, such as 500", least=1
            ),
            help=(
                "Largest number of forward passes; with fewer than a full evaluation needs, less "
                "is tested."
            ),
            show_default=False,
        ),
    ] = None,
    effort: Annotated[
        Effort | None,
        typer.Option(
            "--effort",
            help="How much is tested if no --budget is given; default: full.",
            show_default=False,
        ),
    ] = None,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    series: options.Series = None,
    trust: options.Trust = False,
    as_json: options.Json = False,
) -> None:
    """Evaluate the maps of one image, or of a whole finished study.

    Of an image: faithfulness against random maps, sensitivity to the weights, stability, overlap
    with the segmentation. Of a study: differences between methods on the same cases, where the
    energy of the maps lies, signs of a shortcut, groups of similar maps, correlates of the energy
    in a segment.
    """
    given = options.given(context)
    of_image = [
        option for name, option in given.items() if name not in (*_OF_A_STUDY, *_OF_A_STUDY_ALONE)
    ]
    if is_study(images) or (len(images) == 1 and Path(images[0]).is_dir() and not of_image):
        if of_image:
            raise InputError(
                ErrorCode.OPTION_CONFLICT,
                f"{of_image[0]} is for the evaluation of an image; {images[0]} is a study.",
            )
        evaluate_study_folder(
            Path(images[0]),
            cases,
            out,
            all_cases=all_cases,
            smallest_difference=smallest_difference,
            seed=seed,
            as_json=as_json,
        )
        return
    if of_study := [given[name] for name in _OF_A_STUDY_ALONE if name in given]:
        raise InputError(
            ErrorCode.OPTION_CONFLICT,
            f"{of_study[0]} is for a study, and {images[0]} is no folder of one.",
        )
    if classifier is None or out is None:
        for _, path in map(options.named_path, images):
            if not path.exists():
                raise InputError(
                    ErrorCode.FILE_MISSING, f"{path}: there is no such file or folder."
                )
        raise InputError(
            ErrorCode.OPTION_MISSING,
            f"{images[0]}: the evaluation of an image needs --classifier and --out; the output "
            "folder of a study, which needs neither, contains a journal.jsonl.",
        )
    options.check_output(out)
    if effort is not None and budget is not None:
        raise InputError(
            ErrorCode.OPTION_CONFLICT,
            "--budget chooses the effort that it allows; give it or --effort.",
        )
    if not method and not map_file:
        raise InputError(
            ErrorCode.OPTION_MISSING, "Name what to evaluate: --method METHOD, or --map FILE."
        )
    if not method and (unused := [given[name] for name in _OF_METHODS if name in given]):
        raise InputError(
            ErrorCode.OPTION_CONFLICT, f"{unused[0]} is for methods, and no --method is given."
        )
    from SaliencyExplain.attribution.method_selection import select_methods
    from SaliencyExplain.evaluation.image.cost import EFFORTS
    from SaliencyExplain.evaluation.image.evaluation_files import write_trial
    from SaliencyExplain.evaluation.image.trial import trial
    from SaliencyExplain.figures import EACH_SEGMENT
    from SaliencyExplain.images.reading import read_map
    from SaliencyExplain.images.segmentation import read_ground_truth, read_segmentation
    from SaliencyExplain.models.inputs import read_input
    from SaliencyExplain.models.loading import load_classifier
    from SaliencyExplain.peak import RESOLUTION_MM
    from SaliencyExplain.question import Compute, Given, Question
    from SaliencyExplain.records.case_record import map_beside
    from SaliencyExplain.study.case import single_case
    from SaliencyExplain.study.case_reading import read_backgrounds
    from SaliencyExplain.study.discovery import background_cases

    methods = select_methods(method, setting, layer) if method else []

    def announce(cost: Cost) -> None:
        seconds = cost.forward_passes * question.timings["predict"] + cost.seconds_beside
        parts = ", ".join(f"{name} {passes:,.0f}" for name, passes in cost.parts.items())
        aside.print(
            f"about {cost.forward_passes:,.0f} forward passes ({parts}), {seconds:,.0f} s or less",
            style="dim",
        )

    with progress_bar("evaluating", quiet=as_json) as progress:
        loaded = load_classifier(classifier, trust=trust)
        case = single_case(list(map(options.named_path, images)), segmentation, series=series)
        image = read_input(loaded, case.images, series=series)
        notes = list(loaded.notes)
        truth = None
        if segmentation is not None:
            truth, segment_notes = read_ground_truth(segmentation, image)
            notes += segment_notes
        modalities = {
            name: read_segmentation(path, image)
            for name, path in map(_channel_file, modality_segmentation)
        }
        notes += [f"{name}: {note}" for name, one in modalities.items() for note in one.notes]
        maps = {}
        for path in map_file:
            values = read_map(path)
            known = map_beside(path)
            values.meta[RESOLUTION_MM] = 0.0 if known is None else known.resolution_mm
            values.meta[EACH_SEGMENT] = () if known is None else known.own_segments
            maps[str(values.meta["name"])] = values
        healthy = background_cases(background, loaded.channels)
        say_notes(healthy.sentences())
        backgrounds = read_backgrounds(loaded, healthy)
        question = Question(image, loaded, target, Compute(device), Given(truth, backgrounds))
        found = trial(
            question,
            methods,
            given_maps=maps,
            modalities=modalities,
            parts=part or PARTS,
            case=case.case,
            seed=seed,
            effort=None if effort is None else EFFORTS[effort],
            budget=budget,
            progress=progress,
            announce=None if as_json else announce,
        )
        found = dataclasses.replace(found, notes=tuple(map(case.public, found.notes)))
        files = write_trial(out, found, question)
    say_notes([*notes, *found.notes, *(note for one in found.maps for note in one.notes)])
    if as_json:
        print_json({**found.as_json(), "files": [str(path) for path in files]})
        _end(found)
        return
    console.print(_verdict_table(found))
    if found.channels is not None:
        for name, value in zip(found.channels.channels, found.channels.values, strict=True):
            console.print(f"channel {name}: Shapley value {value:+.3f}", markup=False)
    for one in found.maps:
        if one.msfi is not None:
            console.print(f"{one.label}: {one.msfi.words}", markup=False)
    for path in files:
        console.print(str(path), markup=False, soft_wrap=True)
    _end(found)


def _end(found: Trial) -> None:
    """Ends with a status of its own where some methods gave no map."""
    if found.failures:
        raise typer.Exit(SOME_CASES_FAILED)


def _channel_file(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise InputError(
            ErrorCode.VALUE_FORM, f"--modality-segmentation wants CHANNEL=FILE, not '{text}'."
        )
    return name, Path(path)


def _verdict_table(found: Trial) -> Table:
    """A row for each map and question: the answer and why."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("map", overflow="fold", max_width=30)
    table.add_column("question", overflow="fold", max_width=30)
    table.add_column("answer", no_wrap=True)
    table.add_column("because", overflow="fold")
    for one in found.maps:
        label = one.label
        for verdict in one.verdicts:
            last = verdict is one.verdicts[-1]
            table.add_row(label, verdict.question, verdict.answer, verdict.words, end_section=last)
            label = ""
    return table
