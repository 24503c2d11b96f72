"""``saliency-explain probe``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from SaliencyExplain.attribution.perturbation.infill_choices import FILLS
from SaliencyExplain.cli import options
from SaliencyExplain.cli.messages import console, print_json, progress_bar, say_notes
from SaliencyExplain.cli.spec_options import spec_options
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.quantities import LENGTHS, number_of
from SaliencyExplain.specification.spec import ExplainSpec

if TYPE_CHECKING:
    from rich.table import Table

    from SaliencyExplain.images.segmentation import Segment
    from SaliencyExplain.probe_result import Probe

#: Default radii in mm: from a small lesion to a large one.
_RADII_MM = (4.0, 8.0, 16.0)


@spec_options("target", "roi", "roi_size_mm", "roi_margin_mm", "memory", "batch_size")
def probe(
    images: options.Images,
    classifier: options.ClassifierPath,
    spec: ExplainSpec,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="R,A,S", help="The place, in mm: right, anterior, superior."),
    ] = None,
    radius: Annotated[
        list[float],
        typer.Option(
            "--radius",
            metavar="MM",
            parser=options.length("--radius"),
            help="Radius of a removed ball in mm, repeatable.",
        ),
    ] = list(_RADII_MM),  # noqa: B006  Typer copies it for each call
    segmentation: Annotated[
        Path | None,
        typer.Option("--segmentation", "-s", help="Remove whole segments of this segmentation."),
    ] = None,
    segment: Annotated[
        str | None, typer.Option("--segment", help="Only the segment of this name.")
    ] = None,
    fill: Annotated[
        str, typer.Option("--fill", help=f"What replaces the removed voxels: {', '.join(FILLS)}.")
    ] = "mean",
    value: Annotated[
        float,
        typer.Option("--value", help="The constant for --fill value, in the prepared units."),
    ] = 0.0,
    blur: Annotated[
        float,
        typer.Option(
            "--blur",
            metavar="MM",
            parser=options.length("--blur"),
            help="Standard deviation for --fill blur, in mm; 0: a sixteenth of the longest side.",
        ),
    ] = 0.0,
    channel: Annotated[
        str | None,
        typer.Option(
            "--channel", help="Replace the voxels in this channel only.", show_default=False
        ),
    ] = None,
    device: options.Device = "auto",
    series: options.Series = None,
    trust: options.Trust = False,
    as_json: options.Json = False,
) -> None:
    """Contribution of a place: the probability of each class with and without it."""
    if at is None and segmentation is None:
        raise InputError(
            ErrorCode.OPTION_MISSING, "Name a place: --at R,A,S in mm, or --segmentation FILE."
        )
    if segment is not None and segmentation is None:
        raise InputError(
            ErrorCode.OPTION_CONFLICT,
            f"--segment '{segment}' needs --segmentation FILE.",
        )
    point = None if at is None else _point(at)
    from SaliencyExplain.explanation.compute import Compute
    from SaliencyExplain.explanation.loaded_references import NONE_LOADED, LoadedReferences
    from SaliencyExplain.explanation.prepared_case import prepare
    from SaliencyExplain.explanation.probing import Prober
    from SaliencyExplain.images.segmentation import read_segmentation
    from SaliencyExplain.models.inputs import read_input
    from SaliencyExplain.models.loading import load_classifier

    with progress_bar("probing", quiet=as_json):
        loaded = load_classifier(classifier, trust=trust)
        image = read_input(loaded, [options.named_path(text) for text in images], series=series)
        notes = list(loaded.notes)
        segments: list[Segment] = []
        references = NONE_LOADED
        if segmentation is not None:
            found = read_segmentation(segmentation, image)
            references = LoadedReferences(found)
            segments = list(found.segments) if segment is None else [found.find(segment)]
            notes += found.notes
        prober = Prober(
            prepare(
                image,
                loaded,
                spec.target,
                Compute(device, spec.limits),
                references,
                of_interest=spec.region,
            ),
            fill=fill,
            value=value,
            blur_mm=blur,
            channel=channel,
        )
        notes += prober.notes
        probes = [] if point is None else [prober.at(point, radius)]
        probes += [prober.segment(one.mask, one.name) for one in segments]
    notes += [note for answer in probes for note in answer.notes]
    say_notes(notes)
    if as_json:
        print_json(
            {
                "image": image.meta["name"],
                "classifier": loaded.name,
                "classifier_sha256": loaded.identity,
                "point_ras": point,
                "length_unit": prober.length_unit,
                "fill": fill,
                "channel": channel,
                "before": dict(zip(loaded.classes, prober.probabilities.tolist(), strict=True)),
                "scores_before": dict(zip(loaded.classes, probes[0].scores, strict=True)),
                "removals": [
                    {
                        "name": removal.name,
                        "radius_mm": removal.radius_mm,
                        "voxels": removal.voxels,
                        "output": answer.output,
                        "probabilities": dict(
                            zip(loaded.classes, removal.probabilities, strict=True)
                        ),
                        "scores": dict(zip(loaded.classes, removal.scores, strict=True)),
                    }
                    for answer in probes
                    for removal in answer.removals
                ],
                "seconds": sum(answer.seconds for answer in probes),
                "notes": notes,
            }
        )
        return
    console.print(_table(probes))


def _point(text: str) -> list[float]:
    try:
        point = [number_of(part, LENGTHS) for part in text.split(",")]
    except ValueError:
        point = []
    if len(point) != 3:
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"--at must be three numbers in mm with commas (R,A,S), not '{text}'.",
        )
    return point


def _table(probes: list[Probe]) -> Table:
    """A row for each class: before, and without each place with the difference."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("class", overflow="fold")
    table.add_column("unchanged", justify="right")
    removals = [(removal, answer) for answer in probes for removal in answer.removals]
    for removal, answer in removals:
        score = ", score" if answer.output == "score" else ""
        table.add_column(f"without {removal.name}{score}", justify="right", overflow="fold")
    before, scores = probes[0].before, probes[0].scores
    for row, name in enumerate(probes[0].classes):
        cells = [
            _change(removal.scores[row], scores[row])
            if answer.output == "score"
            else _change(removal.probabilities[row], before[row])
            for removal, answer in removals
        ]
        likeliest = row == before.index(max(before))
        shown = f"{before[row]:.3f}"
        if any(answer.output == "score" for answer in probes):
            shown += f" (score {scores[row]:.3f})"
        table.add_row(name, shown, *cells, style="bold" if likeliest else "")
    voxels = [f"{removal.voxels}" for removal, _ in removals]
    table.add_row("voxels", "", *voxels, style="dim", end_section=True)
    return table


def _change(after: float, before: float) -> str:
    return f"{after:.3f} ({after - before:+.3f})"
