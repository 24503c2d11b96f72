"""``study``: all cases of a folder or table."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from SaliencyExplain.api.argument_checks import path_of
from SaliencyExplain.api.method_arguments import MethodLike, methods_of
from SaliencyExplain.api.model_arguments import model_of
from SaliencyExplain.api.progress_bar import ProgressLike, shown
from SaliencyExplain.attribution.method_selection import choice_of
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation_parts import AFFORDABLE_PASSES
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.results.study_result import StudyResult
from SaliencyExplain.specification.spec_fields import spec_of
from SaliencyExplain.specification.target import Target
from SaliencyExplain.studies.discovery import background_cases, discover
from SaliencyExplain.studies.run import StudyProgress, run_study
from SaliencyExplain.studies.study_config import StudyConfig


def study(
    folder: str | PathLike[str],
    model: Classifier | str | PathLike[str],
    methods: MethodLike | Sequence[MethodLike],
    *,
    out: str | PathLike[str],
    target: Target | str | int = "predicted",
    roi: str = "",
    roi_size_mm: float | None = None,
    roi_margin_mm: float = 0.0,
    backgrounds: Sequence[str | PathLike[str]] = (),
    jobs: int = 1,
    seed: int = 0,
    device: str = "auto",
    memory: float | str | None = None,
    precision: str = "float32",
    batch_size: int | None = None,
    scene: bool = False,
    evaluate: bool = False,
    passes: float | None = AFFORDABLE_PASSES,
    keep_identifiers: bool = False,
    progress: ProgressLike = None,
) -> StudyResult:
    """Explains all cases of a folder or table, with tables and a report.

    A stopped study continues when it is called again.

    Args:
        folder: A folder in one of the usual layouts, or a CSV of cases.
        model: As in :func:`explain`.
        methods: As there.
        out: The output folder.
        target: Name or index of a class, ``predicted``, or ``label``: each case's own.
        roi: As in :func:`explain`; with ``segmentation`` each case's own.
        roi_size_mm: As there.
        roi_margin_mm: As there.
        backgrounds: Files or folders of images that stand for "nothing in particular".
        jobs: Processes side by side; more than one need a model from a file.
        seed: Random seed.
        device: As in :func:`explain`.
        memory: As there.
        precision: As there.
        batch_size: As there.
        scene: Whether each case is written as a scene of 3D Slicer, too.
        evaluate: Whether each case's maps are evaluated.
        passes: Forward passes that the evaluation of a case's maps may cost; None: no limit.
        keep_identifiers: Whether names that may name patients are written.
        progress: As in :func:`explain`; a function receives the progress over the study's cases.

    Returns:
        The number of cases, how many of them failed, and the path of the report.

    Raises:
        InputError: There are no cases, or an argument does not fit.
        OutputError: The folder cannot be written, or the disk is full.
        Cancelled: Interrupted; call it again to continue.

    Example:
        >>> import SaliencyExplain as se
        >>> model = se.load_model("demo:phantom-2d-honest")
        >>> done = se.study(cases, model, se.GradCAM(), out=folder / "study")
        >>> done.total, done.failed, done.report.name
        (2, 0, 'report.html')
    """
    source, written = path_of("folder", folder), path_of("out", out)
    opened = model_of(model)
    if jobs > 1 and opened.source is None:
        raise InputError(
            ErrorCode.OPTION_CONFLICT,
            f"The model {opened.name} is only in memory, and {jobs} processes need a file to open "
            "it: use jobs=1, or make a bundle of it (saliency-explain model add).",
        )
    cases = discover(source, channels=opened.channels, keep_identifiers=keep_identifiers)
    spec = spec_of(
        tuple(map(choice_of, methods_of(methods))),
        target=target,
        roi=roi,
        roi_size_mm=roi_size_mm,
        roi_margin_mm=roi_margin_mm,
        seed=seed,
        memory=memory,
        precision=precision,
        batch_size=batch_size,
        passes=passes,
    )
    config = StudyConfig(
        opened.source or Path(opened.name),
        written,
        spec,
        device,
        trust=opened.trusted,
        keep_identifiers=keep_identifiers,
        scene=scene,
        evaluate=evaluate,
        backgrounds=tuple(
            background_cases([Path(one) for one in backgrounds], opened.channels, keep_identifiers)
        ),
    )
    with shown(progress, "study") as report:

        def tell(so_far: StudyProgress) -> None:
            report(so_far.done, so_far.total)

        return run_study(cases, config, jobs=jobs, progress=tell, classifier=opened)
