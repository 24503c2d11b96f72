"""Runs a study: all cases, restartable; an error in one case does not stop the others."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from SaliencyExplain.attribution.graph.layer_outputs import named_layers
from SaliencyExplain.errors import Cancelled, ErrorCode, InputError, OutputError
from SaliencyExplain.explanation.compute import choose_device
from SaliencyExplain.explanation.region_target import region_target
from SaliencyExplain.library_versions import versions
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.progress import Progress
from SaliencyExplain.records.case_entry import CaseEntry, true_class
from SaliencyExplain.records.journal_file import FOLDER_NOTES, FORMAT, LEFT_OUT
from SaliencyExplain.results.study_result import StudyResult
from SaliencyExplain.scene.libraries import check_libraries
from SaliencyExplain.specification.target import LABEL
from SaliencyExplain.studies.added_methods import described, methods_of
from SaliencyExplain.studies.case import Case, check_unique
from SaliencyExplain.studies.case_reading import PendingCase
from SaliencyExplain.studies.case_work import CaseWorker
from SaliencyExplain.studies.found import Found
from SaliencyExplain.studies.journal import Journal, source_digest
from SaliencyExplain.studies.kept_results import clear_partial, remove_case
from SaliencyExplain.studies.output_folder import only_one
from SaliencyExplain.studies.report import StudyOutput, write_report
from SaliencyExplain.studies.resuming import (
    check_files,
    earlier_results,
    find_pending,
    notes_of_damage,
)
from SaliencyExplain.studies.study_config import StudyConfig
from SaliencyExplain.studies.study_tables import (
    FAILURES,
    TABLES,
    count_predictions,
    write_tables,
)
from SaliencyExplain.studies.worker_processes import run_in_processes

REPORT = "report.html"


@dataclass(frozen=True)
class StudyProgress:
    """Progress of a study.

    Attributes:
        done: Cases done, those of earlier runs included; a fraction of the running one too.
        total: All cases.
        failed: Cases with a failure.
        case: The case that was worked on last.
        seconds_left: Estimate from this run's cases; None before the first is done.
    """

    done: float
    total: int
    failed: int
    case: str
    seconds_left: float | None


def ignore_progress(progress: StudyProgress) -> None:
    """A progress callback that does nothing."""


def run_study(
    cases: Sequence[Case],
    config: StudyConfig,
    *,
    jobs: int = 1,
    title: str = "",
    progress: Callable[[StudyProgress], None] = ignore_progress,
    classifier: Classifier | None = None,
) -> StudyResult:
    """Explains all cases, compares them with their segmentations, and writes the report.

    What is done stays: stopped at any moment, the same call goes on where it
    stopped, and the files come out the same (but for the timings in the cases'
    ``explanation.json``), also for another number of jobs with the same number of
    threads. Cases that failed are tried again. A case in which some methods failed is done with
    the maps of the others: the same methods would fail again. Methods that the folder does not
    have yet are added to it, and the maps that are there stay. Memory
    does not grow with the number of cases.

    Args:
        cases: The cases, from :func:`SaliencyExplain.studies.discovery.discover`; what that left
            out is in the notes, the journal and the report.
        config: What is computed for each of them, and where to. A study that goes on keeps the
            number of threads that it began with. With scenes or an evaluation, cases that an
            earlier run has done get theirs and are not explained again; without,
            existing scenes and evaluations stay.
        jobs: Processes.
        title: The report's title; the output folder's name where it is empty.
        progress: Told after each batch (one job) or at least twice a second (several);
            may raise Cancelled.
        classifier: Where it is open already, for one job; None: it is loaded.

    Raises:
        InputError: No cases, a wrong classifier, method, class or device, the
            output folder holds another study or a method with other parameters, or Slicer's
            libraries are missing for scenes.
        OutputError: The disk is full or nothing may be written there; what is
            complete stays.
        Cancelled: Stopped by Ctrl-C or the progress callback; can be restarted.
    """
    check_unique(cases)
    if not cases:
        raise InputError(ErrorCode.CASES_MISSING, "Cases: there are none. Give a study's folder.")
    for name, number, least in (("jobs", jobs, 1), ("threads", config.threads, 0)):
        if number < least:
            raise InputError(
                ErrorCode.VALUE_RANGE,
                f"Number of {name}: {number} is too small. Give at least {least}.",
            )
    out, asked = config.out, config.methods
    config = dataclasses.replace(config, threads=config.threads or max(1, _cores() // jobs))
    worker = CaseWorker(config, classifier)
    check_worker(worker)
    with only_one(out) as held:
        clear_partial(out)
        check_own_files(out)
        journal = Journal.begin(out, configuration(worker))
        if isinstance(cases, Found):
            # Written with the tables: until then the same run says it again.
            journal.configuration[LEFT_OUT] = [one.as_json() for one in cases.left_out]
            journal.configuration[FOLDER_NOTES] = list(cases.notes)
        # All methods of the folder, since all maps are evaluated; only requested ones are
        # computed.
        config = dataclasses.replace(
            config.with_methods(methods_of(journal.configuration)),
            threads=journal.configuration.get("threads", config.threads),
            held=held,
        )
        whole, lost = earlier_results(config, journal, cases)
        damaged = journal.damaged
        resumed = sum(
            pending_case is None or not pending_case.methods
            for pending_case in (
                find_pending(config, asked, journal, case, whole) for case in cases
            )
        )
        # The maps of all cases come first: an evaluation that is killed, or takes a worker with it,
        # then costs no map.
        rounds = [dataclasses.replace(config, evaluate=False)]
        rounds += [config] if config.evaluate else []
        try:
            for number, worker.config in enumerate(rounds):
                pending = [
                    pending_case
                    for case in cases
                    if (pending_case := find_pending(worker.config, asked, journal, case, whole))
                ]
                # A case whose maps have failed in the first round has none to evaluate.
                if number:
                    pending = [
                        dataclasses.replace(pending_case, methods=())
                        for pending_case in pending
                        if pending_case.entry is not None
                    ]
                if number and not pending:
                    continue
                open_cases = [pending_case.case for pending_case in pending]
                meter = _Meter(cases, open_cases, journal, progress, number, len(rounds))
                with contextlib.closing(_entries(worker, pending, jobs, meter)) as entries:
                    for entry in entries:
                        held.check()
                        if entry.result is None:
                            remove_case(out, entry.case)
                        check_files(out, [entry])
                        journal.append(entry)
                        whole |= {entry.case} if entry.result is not None else set()
                        meter.finished(entry)
        except KeyboardInterrupt:
            raise Cancelled("The study was interrupted; it can be started again.") from None
        finally:
            if held.is_there:
                clear_partial(out)
        held.check()
        check_files(out, journal.entries([case.case for case in cases]))
        report = write_results(out, journal, [case.case for case in cases], title=title)
    notes = _notes(worker.classifier, cases, meter.failed)
    return StudyResult(
        out=out,
        report=report,
        total=len(cases),
        resumed=resumed,
        failed=meter.failed,
        notes=(*notes_of_damage(lost, damaged), *notes),
        labels=count_predictions(journal, [case.case for case in cases]),
    )


def check_own_files(out: Path) -> None:
    """Checks that tables and the report would overwrite no file of the user's.

    Raises:
        OutputError: The folder holds a file of such a name, and no journal, so that no run has
            written it.
    """
    if Journal.exists(out):
        return
    foreign = [name for name in (REPORT, *TABLES) if os.path.lexists(out / name)]
    if foreign:
        raise OutputError(
            ErrorCode.OUTPUT_EXISTS,
            f"{out / foreign[0]}: it exists and is not a result of SaliencyExplain. Choose another "
            "folder, or move the file.",
        )


def write_results(out: Path, journal: Journal, order: Sequence[str], *, title: str = "") -> Path:
    """Settles the journal and writes tables and report of the cases, in their order.

    Returns:
        The report.

    Raises:
        OutputError: The disk is full, or they cannot be written.
    """
    journal.settle(order)
    write_tables(out, journal, order)
    return write_report(out / REPORT, [StudyOutput(out, title or out.resolve().name)])


def check_worker(worker: CaseWorker) -> None:
    """Checks before the first case for errors that would affect all cases.

    Raises:
        InputError: No method, one twice, an unknown layer, class or device, a target that
            cannot be explained, or scenes are wanted and Slicer's libraries are missing.
    """
    classifier, config = worker.classifier, worker.config
    if config.scene:
        check_libraries()
    for method in config.methods:
        layers = getattr(method, "layers", ())
        if layers:
            named_layers(classifier.network, layers, method.name)
    choose_device(config.device)
    if config.spec.target.kind != LABEL:
        if classifier.windows is None:
            classifier.check_target(config.spec.target)
        else:
            region_target(config.spec.target, classifier)


def configuration(worker: CaseWorker) -> dict[str, Any]:
    """The settings that determine the results' bytes, as the journal's first line."""
    classifier, config = worker.classifier, worker.config
    spec, computed_by = config.spec, versions()
    return {
        "format": FORMAT,
        "classifier": classifier.name,
        "classifier_sha256": classifier.identity,
        "classes": list(classifier.classes),
        "channels": list(classifier.channels),
        "methods": described(config.methods),
        "target": str(spec.target),
        "seed": spec.seed,
        "budget_seconds": spec.limits.seconds,
        "keep_identifiers": config.keep_identifiers,
        "backgrounds": [source_digest(case) for case in config.backgrounds],
        "memory_bytes": spec.limits.memory,
        "precision": spec.limits.precision,
        "batch_size": spec.limits.batch_size,
        **({"region_of_interest": dataclasses.asdict(spec.region)} if spec.region.roi else {}),
        "threads": config.threads,
        "versions": {name: computed_by[name] for name in ("SaliencyExplain", "torch", "monai")},
    }


def _entries(
    worker: CaseWorker, pending: Sequence[PendingCase], jobs: int, meter: _Meter
) -> Generator[CaseEntry, None, None]:
    if not pending:
        return
    if jobs > 1:
        yield from run_in_processes(worker.config, pending, jobs, meter.tick)
        return
    threads_before = torch.get_num_threads()
    torch.set_num_threads(worker.config.threads)
    try:
        yield from worker.run(pending, meter.within)
    finally:
        torch.set_num_threads(threads_before)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


#: Share of a case that is done when its maps are: a whole one counts when its files are written.
_BEFORE_WRITING = 0.99


class _Meter:
    """Counts cases and estimates the time left; of several rounds each is a part of a case."""

    def __init__(
        self,
        cases: Sequence[Case],
        pending: Sequence[Case],
        journal: Journal,
        progress: Callable[[StudyProgress], None],
        number: int,
        rounds: int,
    ) -> None:
        self.number, self.rounds = number, rounds
        self.total = len(cases)
        self.before = len(cases) - len(pending)
        self.done = 0
        open_cases = {case.case for case in pending}
        self.failed = sum(
            bool(journal.entry(case.case).failures) for case in cases if case.case not in open_cases
        )
        self.case = ""
        self.started = time.monotonic()
        self.progress = progress

    def finished(self, entry: CaseEntry) -> None:
        self.done += 1
        self.failed += bool(entry.failures)
        self.case = entry.case
        self.tick()

    def within(self, case: Case) -> Progress:
        self.case = case.case
        return lambda done, total: self.tick(done / max(total, 1e-9))

    def tick(self, fraction: float = 0.0) -> None:
        done = self.done + _BEFORE_WRITING * min(fraction, 1.0)
        left = self.total - self.before - done
        seconds = (time.monotonic() - self.started) / done * left if done > 0 else None
        self.progress(
            StudyProgress(
                (self.number * self.total + self.before + done) / self.rounds,
                self.total,
                self.failed,
                f"evaluation of {self.case}" if self.number else self.case,
                seconds,
            )
        )


def _notes(classifier: Classifier, cases: Sequence[Case], failed: int) -> tuple[str, ...]:
    found = cases.sentences() if isinstance(cases, Found) else []
    notes = list(dict.fromkeys([*found, *(note for case in cases for note in case.notes)]))
    unknown = sorted(
        {
            case.label
            for case in cases
            if case.label and not true_class(case.label, classifier.classes)
        }
    )
    if unknown:
        notes.append(
            f"No class of the classifier ({', '.join(classifier.classes)}) is named "
            f"{', '.join(unknown[:10])}. Cases with these labels are left out of the accuracy."
        )
    if failed:
        notes.append(f"{failed} of {len(cases)} cases have a failure; {FAILURES} says why.")
    return tuple(notes)
