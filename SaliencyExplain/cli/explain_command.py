"""``saliency-explain explain``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from SaliencyExplain.cli import options
from SaliencyExplain.cli.messages import (
    SOME_CASES_FAILED,
    aside,
    console,
    print_json,
    progress_bar,
    say_error,
    say_notes,
)
from SaliencyExplain.cli.spec_options import spec_options
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.specification.spec import ExplainSpec


@spec_options(
    "methods", "target", "roi", "roi_size_mm", "roi_margin_mm",
    "segmentation", "backgrounds", "seed",
    "memory", "precision", "batch_size", "seconds", "passes",
    required=("methods",),
)  # fmt: skip
def explain(
    images: options.Images,
    classifier: options.ClassifierPath,
    out: Annotated[Path, typer.Option("--out", "-o", help="The output folder.")],
    spec: ExplainSpec,
    device: options.Device = "auto",
    series: options.Series = None,
    case: Annotated[
        str | None, typer.Option("--case", help="Name of the case; by default the image's.")
    ] = None,
    trust: options.Trust = False,
    keep_identifiers: options.KeepIdentifiers = False,
    scene: options.Scene = False,
    evaluate: options.Evaluate = False,
    as_json: options.Json = False,
) -> None:
    """Attribution of one image: maps, label maps, pictures, agreement, report."""
    options.check_output(out)
    from SaliencyExplain.cli.study_settings import study_config
    from SaliencyExplain.cli.terminal_tables import agreement_table, probability_table
    from SaliencyExplain.cost_estimate import Estimate
    from SaliencyExplain.figures import figure_lines
    from SaliencyExplain.models.loading import load_classifier
    from SaliencyExplain.studies.case import single_case
    from SaliencyExplain.studies.case_evaluation import passes_of
    from SaliencyExplain.studies.run import REPORT
    from SaliencyExplain.studies.single import explain_case

    limit = spec.limits.seconds
    if evaluate and limit is not None:
        raise InputError(
            ErrorCode.OPTION_CONFLICT,
            "--seconds may leave unfinished maps, which --evaluate cannot evaluate: give one of "
            "the two.",
        )
    loaded = load_classifier(classifier, trust=trust)
    config = study_config(
        classifier,
        loaded,
        out,
        spec,
        device=device,
        trust=trust,
        keep_identifiers=keep_identifiers,
        scene=scene,
        evaluate=evaluate,
    )
    named = [options.named_path(text) for text in images]
    one = single_case(
        named,
        Path(segmentation) if (segmentation := spec.references.segmentation) else None,
        name=case,
        series=series,
        keep_identifiers=keep_identifiers,
    )

    def announce(estimate: Estimate) -> None:
        if estimate.seconds > 2:
            seconds = estimate.seconds if limit is None else estimate.seconds_within(limit)
            said = f", with a limit of {limit:g} s" if limit is not None else ""
            said += (
                f"; then up to {passes_of(config):,.0f} for their evaluation" if evaluate else ""
            )
            aside.print(
                f"about {estimate.forward_passes:,.0f} forward passes, "
                f"{seconds:,.0f} s or less{said}",
                style="dim",
            )
        if limit is not None and estimate.not_stopped(limit):
            say_notes([estimate.not_stopped(limit)])

    with progress_bar("explaining", quiet=as_json) as progress:
        record, entry = explain_case(
            one,
            config,
            classifier=loaded,
            progress=progress,
            announce=None if as_json else announce,
        )
    asked = {one.name for one in config.methods}
    of_methods = [one for one in record.failures if one.method in asked]
    others = [f"{each.stage}: {each.reason}" for each in entry.failures if each.method is None]
    say_notes([*record.notes, *others])
    for each in of_methods:
        say_error(f"{each.method}: {each.reason}", ErrorCode.of(each.code))
    evaluation = entry.result.evaluation if entry.result is not None else None
    if as_json:
        print_json(
            {
                **record.as_json(),
                "evaluation": evaluation.as_json() if evaluation is not None else None,
                "folder": str(out / one.case),
                "report": str(out / REPORT),
            }
        )
        _end(of_methods)
        return
    console.print(probability_table(dict(record.probabilities)))
    for map_ in record.maps:
        for line in figure_lines(map_.figures):
            console.print(f"{map_.label}: {line}", markup=False, highlight=False)
    if record.rows:
        console.print(agreement_table(list(record.rows)))
    for label, answers in evaluation.answers.items() if evaluation is not None else ():
        words = " · ".join(f"{each.topic}: {each.answer}" for each in answers)
        console.print(f"{label}: {words}", markup=False, highlight=False)
    console.print(f"{out / one.case}\n{out / REPORT}", markup=False, soft_wrap=True)
    _end(of_methods)


def _end(failures: Sequence[object]) -> None:
    """Ends with a separate exit status where some methods gave no map."""
    if failures:
        raise typer.Exit(SOME_CASES_FAILED)
