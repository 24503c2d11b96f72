"""``saliency-explain study``."""

from __future__ import annotations

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
    say_notes,
    study_bar,
)
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.trial_words import AFFORDABLE_PASSES


def study(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER_OR_CASES.csv",
            help="A folder of cases in any usual layout (image and mask pairs, folders of images "
            "and of masks, nnU-Net, BIDS, a folder per case, DICOM with SEG or RTSTRUCT, a folder "
            "per class, MATLAB files of the brain tumour set), or a CSV with the columns case, "
            "image, segmentation, label.",
        ),
    ],
    classifier: options.ClassifierPath,
    method: options.MethodNames = [],  # noqa: B006  Typer copies it for each call
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The output folder.", show_default=False)
    ] = None,
    target: options.Target = "predicted",
    setting: options.Settings = [],  # noqa: B006
    layer: options.Layers = [],  # noqa: B006
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Processes side by side.")] = 1,
    device: options.Device = "auto",
    memory: options.Memory = None,
    precision: options.Precision = "float32",
    seed: options.Seed = 0,
    trust: options.Trust = False,
    keep_identifiers: options.KeepIdentifiers = False,
    scene: options.Scene = False,
    trial: options.Trial = False,
    trial_budget: options.TrialBudget = AFFORDABLE_PASSES,
    background: options.Backgrounds = [],  # noqa: B006
    held_out: Annotated[
        bool,
        typer.Option("--held-out", help="Only the cases held out by the classifier's training."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cases that would be read, and stop.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Explain all cases of a folder; an interrupted run continues."""
    if not dry_run:
        if not method or out is None:
            raise InputError(
                ErrorCode.OPTION_MISSING,
                f"{folder}: a study needs --method and --out; --dry-run lists its cases without.",
            )
        options.check_output(out)
    from SaliencyExplain.attribution.method_selection import select_methods
    from SaliencyExplain.cli.terminal_tables import labels_table
    from SaliencyExplain.models.loading import load_classifier
    from SaliencyExplain.study.case import describe_cases
    from SaliencyExplain.study.discovery import discover
    from SaliencyExplain.study.run import run_study
    from SaliencyExplain.training.record import held_out_cases

    methods = select_methods(method, setting, layer)
    channels = load_classifier(classifier, trust=trust).channels
    cases = discover(folder, channels=channels, keep_identifiers=keep_identifiers)
    if held_out:
        cases = held_out_cases(cases, classifier)
    if dry_run or out is None:
        lines = describe_cases(cases)
        if as_json:
            print_json({"cases": lines, "notes": cases.sentences()})
        else:
            say_notes(cases.sentences())
            console.print("\n".join(lines), markup=False, soft_wrap=True)
        return
    work = work_of(
        classifier,
        methods,
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
    )
    with study_bar("explaining", quiet=as_json) as progress:
        result = run_study(cases, work, jobs=jobs, progress=progress)
    say_notes(result.notes)
    if as_json:
        print_json(
            {
                "folder": str(result.out),
                "report": str(result.report),
                "cases": result.total,
                "resumed": result.resumed,
                "failed": result.failed,
                "notes": list(result.notes),
                "labels": result.labels.as_json() if result.labels else None,
            }
        )
    else:
        if result.labels:
            aside.print(labels_table(result.labels))
        console.print(f"{result.report}", markup=False, soft_wrap=True)
    if result.failed:
        raise typer.Exit(SOME_CASES_FAILED)
