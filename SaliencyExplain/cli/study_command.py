"""``saliency-explain study``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from SaliencyExplain.cli import options
from SaliencyExplain.cli.messages import (
    SOME_CASES_FAILED,
    aside,
    console,
    print_json,
    say_notes,
    study_bar,
)
from SaliencyExplain.cli.spec_options import spec_options
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.specification.spec import ExplainSpec


@spec_options(
    "methods",
    "target",
    "roi",
    "roi_size_mm",
    "roi_margin_mm",
    "backgrounds",
    "seed",
    "memory",
    "precision",
    "batch_size",
    "passes",
)
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
    spec: ExplainSpec,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The output folder.", show_default=False)
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Processes side by side.")] = 1,
    device: options.Device = "auto",
    trust: options.Trust = False,
    keep_identifiers: options.KeepIdentifiers = False,
    scene: options.Scene = False,
    evaluate: options.Evaluate = False,
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
        if not spec.methods or out is None:
            raise InputError(
                ErrorCode.OPTION_MISSING,
                f"{folder}: a study needs --method and --out; --dry-run lists its cases without.",
            )
        options.check_output(out)
    from SaliencyExplain.cli.study_settings import study_config
    from SaliencyExplain.cli.terminal_tables import labels_table
    from SaliencyExplain.models.loading import load_classifier
    from SaliencyExplain.studies.case import describe_cases
    from SaliencyExplain.studies.discovery import discover
    from SaliencyExplain.studies.run import run_study
    from SaliencyExplain.training.record import held_out_cases

    loaded = load_classifier(classifier, trust=trust)
    cases = discover(folder, channels=loaded.channels, keep_identifiers=keep_identifiers)
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
    with study_bar("explaining", quiet=as_json) as progress:
        result = run_study(cases, config, jobs=jobs, progress=progress, classifier=loaded)
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
