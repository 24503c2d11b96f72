"""One case by itself, with the same files and tables as a study has."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from monai.data import MetaTensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.cost_estimate import Estimate
from SaliencyExplain.errors import ErrorCode, InputError, SaliencyExplainError
from SaliencyExplain.images.image_hash import voxel_hash
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.progress import Progress, silent
from SaliencyExplain.records.case_entry import METHOD_STAGE, CaseEntry, StageFailure
from SaliencyExplain.records.case_record import EXPLANATION, CaseRecord, read_case
from SaliencyExplain.results.image_explanation import Explanation
from SaliencyExplain.specification.target import LABEL
from SaliencyExplain.studies.added_methods import methods_of, to_compute
from SaliencyExplain.studies.case import Case
from SaliencyExplain.studies.case_evaluation import TwoSteps, passes_of
from SaliencyExplain.studies.case_reading import ReadCase
from SaliencyExplain.studies.case_work import CaseWorker
from SaliencyExplain.studies.journal import Journal, source_digest
from SaliencyExplain.studies.kept_results import clear_partial, put_back_on_error
from SaliencyExplain.studies.output_folder import only_one
from SaliencyExplain.studies.resuming import earlier_results
from SaliencyExplain.studies.run import check_own_files, check_worker, configuration, write_results
from SaliencyExplain.studies.study_config import StudyConfig


def explain_case(
    case: Case,
    config: StudyConfig,
    *,
    classifier: Classifier | None = None,
    progress: Progress = silent,
    announce: Callable[[Estimate], None] | None = None,
) -> tuple[CaseRecord, CaseEntry]:
    """Explains one case into an output folder, whole or not at all.

    Cases that earlier calls with the same classifier, target and seed put into the
    folder stay, and the tables and the report are of all of them. So do the case's maps of
    other methods, where its files are the same as then; where they have changed, they are
    computed anew.

    Args:
        case: The case.
        config: What is computed for it, and where to.
        classifier: Where it is open already; None: it is loaded.
        progress: Told after each batch; may raise Cancelled.
        announce: Called with the cost before the first method starts.

    Returns:
        The case's record, and its entry in the journal, whose failures say which methods gave no
        map and why the maps were not evaluated.

    Raises:
        InputError: Anything is wrong with the image, segmentation, classifier, a
            method or a class; nothing has been written.
        OutputError: The disk is full or nothing may be written there.
        Cancelled: Out of ``progress``.
    """
    worker = _worker(config, classifier)
    if config.spec.target.kind == LABEL and case.label is None:
        raise InputError(
            ErrorCode.OPTION_CONFLICT,
            "--target: a single case has no label. Give a class, or predicted.",
        )
    read = worker.read(case)
    # Whoever named the files on the command line may see their names again.
    for error in read.errors:
        if isinstance(error, SaliencyExplainError):
            raise error
    _raise_first(read.failures)
    return _into_folder(worker, read, None, progress, announce)


def save_explanation(
    case: Case,
    config: StudyConfig,
    classifier: Classifier,
    explanation: Explanation,
    image: MetaTensor,
    segmentation: Segmentation | None = None,
) -> tuple[CaseRecord, CaseEntry]:
    """Writes an explanation that is there already, with the files that :func:`explain_case` writes.

    Args:
        case: Its name and files; a case without files is of an image that was in memory.
        config: What was computed, and where to.
        classifier: What was explained.
        explanation: Of the methods in ``config``.
        image: What it explains.
        segmentation: To compare with, on the image's grid.

    Returns:
        As :func:`explain_case`.

    Raises:
        InputError: The folder holds the results of another image, or of other methods of this
            case that would have to be computed again.
        OutputError: The disk is full or nothing may be written there.
    """
    worker = _worker(config, classifier)
    notes = segmentation.notes if segmentation else ()
    read = ReadCase(case, source_digest(case), image, segmentation, notes)
    return _into_folder(worker, read, explanation, silent, None)


def _worker(config: StudyConfig, classifier: Classifier | None = None) -> CaseWorker:
    threads = config.threads or torch.get_num_threads()
    worker = CaseWorker(dataclasses.replace(config, threads=threads), classifier)
    check_worker(worker)
    return worker


def _into_folder(
    worker: CaseWorker,
    read: ReadCase,
    explanation: Explanation | None,
    progress: Progress,
    announce: Callable[[Estimate], None] | None,
) -> tuple[CaseRecord, CaseEntry]:
    """Computes what is missing of a case that was read, and writes it."""
    case, config, kept = read.case, worker.config, None
    out, methods = config.out, config.methods
    with only_one(out) as held:
        worker.config = dataclasses.replace(worker.config, held=held)
        clear_partial(out)
        check_own_files(out)
        if Journal.exists(out):
            journal = Journal.read(out)
            known = methods_of(journal.merged(configuration(worker)))
            _check_place(out, case, read)
            worker.config = worker.config.with_methods(known)
            whole, _ = earlier_results(worker.config, journal, [case])
            entry = journal.done(case.case)
            if entry is not None and whole:
                kept = entry.failing(stages={f"{METHOD_STAGE} {method.name}" for method in methods})
            else:
                methods = to_compute(methods, known, entry, stays=False)
        if explanation is not None and {one.name for one in methods} > {
            one.name for one in config.methods
        }:
            raise InputError(
                ErrorCode.OUTPUT_EXISTS,
                f"{out / case.case} holds maps of other methods, made of other files, which would "
                "have to be computed again. Choose another output folder.",
            )
        steps = TwoSteps(progress, passes_of(config))
        with put_back_on_error(held, case.case):
            entry, record = worker.compute(read, methods, steps.maps, announce, kept, explanation)
            _raise_new(entry, kept, methods)
            if record is None:
                raise _error(entry.failures[-1])
        held.check()
        journal = Journal.begin(out, configuration(worker))
        journal.append(entry)
        try:
            # The maps are useful without their evaluation; the entry holds the failure.
            entry = worker.add_evaluation(read, entry, steps.evaluation)
            journal.append(entry)
        finally:
            held.check()
            write_results(out, journal, journal.cases(), title=out.resolve().name)
    return record, entry


def _check_place(out: Path, case: Case, read: ReadCase) -> None:
    """Raises InputError where the folder holds another image's results under the case's name."""
    earlier = out / case.case
    if read.image is None or not (earlier / EXPLANATION).is_file():
        return
    try:
        known = read_case(earlier).provenance.get("image_sha256")
    except InputError:
        # Damaged results name no image, and are replaced.
        return
    if known not in (None, voxel_hash(read.image)):
        raise InputError(
            ErrorCode.OUTPUT_EXISTS,
            f"{earlier} holds the results of another image. Name this case with --case, "
            "or choose another output folder.",
        )


def _raise_new(entry: CaseEntry, kept: CaseEntry | None, methods: Sequence[Method]) -> None:
    """Raises what went wrong just now, but for methods that failed beside one that did not."""
    before = () if kept is None else kept.failures
    new = [one for one in entry.failures if one not in before]
    _raise_first([one for one in new if one.method is None])
    if {one.method for one in new} >= {method.name for method in methods}:
        _raise_first(new)


def _raise_first(failures: Sequence[StageFailure]) -> None:
    if failures:
        raise _error(failures[0])


def _error(failure: StageFailure) -> InputError:
    return InputError(ErrorCode.of(failure.code), failure.reason)
