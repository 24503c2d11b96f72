"""``saliency-explain demo``."""

from __future__ import annotations

import dataclasses
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
from SaliencyExplain.specification.spec import ExplainSpec
from SaliencyExplain.specification.target import LABEL, Target

#: Folder, shipped classifier, phantoms, title in the report.
RUNS = (
    ("honest-3d", "phantom-3d-honest", "phantoms-3d", "Honest 3D classifier"),
    ("shortcut-3d", "phantom-3d-shortcut", "phantoms-3d", "3D classifier with a shortcut"),
    ("honest-2d", "phantom-2d-honest", "phantoms-2d", "Honest 2D classifier"),
)
METHODS = ("occlusion", "gradcam", "smoothgrad")
#: The default stride is half the window; a coarser one halves the demo's time.
SETTINGS = ("occlusion.stride_mm=20",)
TITLE = "Does the classifier look at the tumour?"


@spec_options("seed", "memory", "batch_size")
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="The output folder.")],
    spec: ExplainSpec,
    cases: Annotated[
        int, typer.Option("--cases", min=1, help="Phantoms in each of the two studies.")
    ] = 12,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Processes side by side.")] = 1,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Write a study of phantoms, explain it with the shipped classifiers, compare, and report."""
    options.check_output(out)
    from SaliencyExplain.attribution.method_selection import choice_of, select_methods
    from SaliencyExplain.demo.study import classifier_folder, write_phantom_study
    from SaliencyExplain.studies.discovery import discover
    from SaliencyExplain.studies.report import StudyOutput, write_report
    from SaliencyExplain.studies.run import REPORT, run_study
    from SaliencyExplain.studies.study_config import StudyConfig

    spec = dataclasses.replace(
        spec,
        methods=tuple(map(choice_of, select_methods(METHODS, SETTINGS))),
        # A mass that the classifier misses is explained all the same.
        target=Target(LABEL),
    )
    for dimensions in (3, 2):
        folder = out / f"phantoms-{dimensions}d"
        # Fresh files would count as changed images, and a restart would begin anew.
        if not (folder / "cases.csv").exists():
            write_phantom_study(
                folder, dimensions=dimensions, cases=cases, seed=spec.seed, marker=dimensions == 3
            )
    failed = 0
    for number, (name, classifier, phantoms, title) in enumerate(RUNS, start=1):
        aside.print(f"{number} of {len(RUNS)}: {title}", style="dim")
        with study_bar("explaining", quiet=as_json) as progress:
            result = run_study(
                discover(out / phantoms / "cases.csv"),
                StudyConfig(classifier_folder(classifier), out / name, spec, device),
                jobs=jobs,
                title=title,
                progress=progress,
            )
        say_notes(result.notes)
        failed += result.failed
    report = out / REPORT
    write_report(
        report, [StudyOutput(out / name, title) for name, _, _, title in RUNS], title=TITLE
    )
    if as_json:
        print_json(
            {"report": str(report), "studies": [name for name, *_ in RUNS], "failed": failed}
        )
    else:
        console.print(f"The report: {report.resolve()}", markup=False, soft_wrap=True)
    if failed:
        raise typer.Exit(SOME_CASES_FAILED)
