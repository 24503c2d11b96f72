"""``saliency-explain explain``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from SaliencyExplain.cli import options
from SaliencyExplain.cli.case_work_options import work_of
from SaliencyExplain.cli.messages import (
    SOME_CASES_FAILED,
    aside,
    console,
    print_json,
    progress_bar,
    say_error,
    say_notes,
)
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.quantities import TIMES
from SaliencyExplain.trial_words import AFFORDABLE_PASSES


def explain(
    images: options.Images,
    classifier: options.ClassifierPath,
    method: options.MethodNames,
    out: Annotated[Path, typer.Option("--out", "-o", help="The output folder.")],
    target: options.Target = "predicted",
    segmentation: Annotated[
        Path | None,
        typer.Option("--segmentation", "-s", help="Ground truth to compare the maps with."),
    ] = None,
    setting: options.Settings = [],  # noqa: B006  Typer copies it for each call
    layer: options.Layers = [],  # noqa: B006
    device: options.Device = "auto",
    memory: options.Memory = None,
    precision: options.Precision = "float32",
    seed: options.Seed = 0,
    series: options.Series = None,
    case: Annotated[
        str | None, typer.Option("--case", help="Name of the case; by default the image's.")
    ] = None,
    trust: options.Trust = False,
    keep_identifiers: options.KeepIdentifiers = False,
    scene: options.Scene = False,
    trial: options.Trial = False,
    trial_budget: options.TrialBudget = AFFORDABLE_PASSES,
    background: options.Backgrounds = [],  # noqa: B006
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            metavar="SECONDS",
            parser=options.quantity(
                "--budget", TIMES, "a number of seconds, such as 20, 20s or 2min"
            ),
            help="Stop methods whose map grows after that many seconds, with the best map so far; "
            "the results say how far they came. The others run whole, and are named before they "
            "start.",
            show_default=False,
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Attribution of one image: maps, label maps, pictures, agreement, report."""
    options.check_output(out)
    from SaliencyExplain.attribution.method_selection import select_methods
    from SaliencyExplain.cli.terminal_tables import agreement_table, probability_table
    from SaliencyExplain.cost_estimate import Estimate
    from SaliencyExplain.figures import figure_lines
    from SaliencyExplain.study.case import single_case
    from SaliencyExplain.study.run import REPORT
    from SaliencyExplain.study.single import explain_case

    if trial and budget is not None:
        raise InputError(
            ErrorCode.OPTION_CONFLICT,
            "--budget leaves unfinished maps, and --trial evaluates finished ones: give one of "
            "the two.",
        )
    work = work_of(
        classifier,
        select_methods(method, setting, layer),
        out,
        target=target,
        device=device,
        memory=memory,
        precision=precision,
        seed=seed,
        trust=trust,
        keep_identifiers=keep_identifiers,
        scene=scene,
        trial_budget=trial_budget if trial else None,
        background=background,
        budget_seconds=budget,
    )
    named = [options.named_path(text) for text in images]
    one = single_case(
        named, segmentation, name=case, series=series, keep_identifiers=keep_identifiers
    )

    def announce(estimate: Estimate) -> None:
        if estimate.seconds > 2:
            seconds = estimate.seconds if budget is None else estimate.seconds_within(budget)
            limit = f", with a budget of {budget:g} s" if budget is not None else ""
            limit += f"; then up to {trial_budget:,.0f} for their evaluation" if trial else ""
            aside.print(
                f"about {estimate.forward_passes:,.0f} forward passes, "
                f"{seconds:,.0f} s or less{limit}",
                style="dim",
            )
        if budget is not None and estimate.not_stopped(budget):
            say_notes([estimate.not_stopped(budget)])

    with progress_bar("explaining", quiet=as_json) as progress:
        record, entry = explain_case(
            one,
            work,
            progress=progress,
            announce=None if as_json else announce,
        )
    asked = {one.name for one in work.methods}
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
                "trial": evaluation.as_json() if evaluation is not None else None,
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
    for found in evaluation.maps if evaluation is not None else ():
        answers = " · ".join(f"{each.topic}: {each.answer}" for each in found.answers)
        console.print(f"{found.label}: {answers}", markup=False, highlight=False)
    console.print(f"{out / one.case}\n{out / REPORT}", markup=False, soft_wrap=True)
    _end(of_methods)


def _end(failures: Sequence[object]) -> None:
    """Ends with a status of its own where some methods gave no map."""
    if failures:
        raise typer.Exit(SOME_CASES_FAILED)
