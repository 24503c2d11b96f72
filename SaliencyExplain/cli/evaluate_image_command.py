"""``saliency-explain evaluate image``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from SaliencyExplain.cli import options
from SaliencyExplain.cli.messages import (
    SOME_CASES_FAILED,
    aside,
    console,
    print_json,
    progress_bar,
    say_notes,
)
from SaliencyExplain.cli.spec_options import spec_options
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation_parts import PARTS
from SaliencyExplain.specification.spec import ExplainSpec

if TYPE_CHECKING:
    from rich.table import Table

    from SaliencyExplain.evaluation.image.cost import Cost
    from SaliencyExplain.results.image_evaluation import Evaluation


CostTier = Literal["full", "reduced", "least"]


@spec_options(
    "methods", "target", "roi", "roi_size_mm", "roi_margin_mm",
    "segmentation", "backgrounds", "seed",
    "memory", "precision", "batch_size", "passes",
    defaults={"passes": None},
)  # fmt: skip
def evaluate_image(
    images: options.Images,
    classifier: options.ClassifierPath,
    out: Annotated[Path, typer.Option("--out", "-o", help="The output folder.")],
    spec: ExplainSpec,
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
    ] = [],  # noqa: B006  Typer copies it for each call
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
    cost_tier: Annotated[
        CostTier | None,
        typer.Option(
            "--cost-tier",
            help="Extent of the evaluation without --passes; default: full.",
            show_default=False,
        ),
    ] = None,
    device: options.Device = "auto",
    series: options.Series = None,
    trust: options.Trust = False,
    as_json: options.Json = False,
) -> None:
    """Evaluate the maps of one image.

    Faithfulness against random maps, sensitivity to the weights, stability, overlap with the
    segmentation.
    """
    options.check_output(out)
    limits, references = spec.limits, spec.references
    if cost_tier is not None and limits.passes is not None:
        raise InputError(
            ErrorCode.OPTION_CONFLICT,
            "--passes chooses the cost tier; give either --passes or --cost-tier.",
        )
    if not spec.methods and not map_file:
        raise InputError(
            ErrorCode.OPTION_MISSING, "Name what to evaluate: --method METHOD, or --map FILE."
        )
    if not spec.methods and references.backgrounds:
        raise InputError(
            ErrorCode.OPTION_CONFLICT,
            "--background is used by methods only. Give a --method, or leave out --background.",
        )
    from SaliencyExplain.attribution.method_selection import chosen_methods
    from SaliencyExplain.evaluation.image.cost import COST_TIERS
    from SaliencyExplain.evaluation.image.evaluation_files import write_evaluation
    from SaliencyExplain.evaluation.image.map_evaluation import evaluate_maps
    from SaliencyExplain.explanation.compute import Compute
    from SaliencyExplain.explanation.loaded_references import LoadedReferences
    from SaliencyExplain.explanation.prepared_case import prepare
    from SaliencyExplain.figures import EACH_SEGMENT
    from SaliencyExplain.images.image_hash import voxel_hash
    from SaliencyExplain.images.reading import read_map
    from SaliencyExplain.images.segmentation import read_ground_truth, read_segmentation
    from SaliencyExplain.models.inputs import read_input
    from SaliencyExplain.models.loading import load_classifier
    from SaliencyExplain.peak import RESOLUTION_MM
    from SaliencyExplain.records.case_record import EXPLANATION, records_beside
    from SaliencyExplain.studies.case import single_case
    from SaliencyExplain.studies.case_reading import read_backgrounds
    from SaliencyExplain.studies.discovery import background_cases

    methods = chosen_methods(spec.methods) if spec.methods else []
    segmentation = None if references.segmentation is None else Path(references.segmentation)

    def announce(cost: Cost) -> None:
        seconds = cost.forward_passes * prepared.prediction.seconds + cost.seconds_beside
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
        maps, image_hash = {}, voxel_hash(image)
        for path in map_file:
            values = read_map(path)
            known = records_beside(path)
            if known is not None and known[0].provenance.get("image_sha256") != image_hash:
                raise InputError(
                    ErrorCode.MAP_OUTDATED,
                    f"{path}: this map was computed from another image, as "
                    f"{path.with_name(EXPLANATION)} says. Give that image, or another map.",
                )
            values.meta[RESOLUTION_MM] = known[1].resolution_mm if known else 0.0
            values.meta[EACH_SEGMENT] = known[1].own_segments if known else ()
            maps[str(values.meta["name"])] = values
        healthy = background_cases(list(map(Path, references.backgrounds)), loaded.channels)
        say_notes(healthy.sentences())
        backgrounds = read_backgrounds(loaded, healthy)
        prepared = prepare(
            image,
            loaded,
            spec.target,
            Compute(device, limits),
            LoadedReferences(truth, backgrounds),
            of_interest=spec.region,
        )
        evaluated = evaluate_maps(
            prepared,
            methods,
            given_maps=maps,
            modalities=modalities,
            parts=part or PARTS,
            name=case.case,
            seed=spec.seed,
            cost_tier=None if cost_tier is None else COST_TIERS[cost_tier],
            budget=limits.passes,
            progress=progress,
            announce=None if as_json else announce,
        )
        evaluated = evaluated.with_notes(case.public)
        files = write_evaluation(out, evaluated)
        found = evaluated.evaluation
    say_notes([*notes, *found.notes, *(note for one in found.maps for note in one.notes)])
    if as_json:
        print_json({**found.as_json(), "files": [str(path) for path in files]})
        _end(found)
        return
    console.print(_answer_table(found))
    if found.channels is not None:
        for name, value in zip(found.channels.channels, found.channels.values, strict=True):
            console.print(f"channel {name}: Shapley value {value:+.3f}", markup=False)
    for one in found.maps:
        if one.msfi is not None:
            console.print(f"{one.label}: {one.msfi.words}", markup=False)
    for path in files:
        console.print(str(path), markup=False, soft_wrap=True)
    _end(found)


def _end(found: Evaluation) -> None:
    """Ends with a separate exit status where some methods gave no map."""
    if found.failures:
        raise typer.Exit(SOME_CASES_FAILED)


def _channel_file(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise InputError(
            ErrorCode.VALUE_FORM, f"--modality-segmentation must be CHANNEL=FILE, not '{text}'."
        )
    return name, Path(path)


def _answer_table(found: Evaluation) -> Table:
    """A row for each map and question: the answer and why."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("map", overflow="fold", max_width=30)
    table.add_column("question", overflow="fold", max_width=30)
    table.add_column("answer", no_wrap=True)
    table.add_column("because", overflow="fold")
    for one in found.maps:
        label = one.label
        for answer in one.answers:
            last = answer is one.answers[-1]
            table.add_row(label, answer.question, answer.answer, answer.words, end_section=last)
            label = ""
    return table
