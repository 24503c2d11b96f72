"""A study, run in the engine's own process, with short jobs in its pauses."""

from __future__ import annotations

import dataclasses
import math

from SaliencyExplain.attribution.method_selection import chosen_methods
from SaliencyExplain.engine.queue.handlers.handler import Handler
from SaliencyExplain.engine.queue.job_queue import Reporter
from SaliencyExplain.engine.wire.requests import StudyRequest
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.records.case_record import EXPLANATION
from SaliencyExplain.results.study_result import StudyCase, StudyResult
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.run import StudyProgress, run_study
from SaliencyExplain.studies.study_config import StudyConfig


class StudyHandler(Handler[StudyRequest, StudyResult], answers=StudyRequest):
    """Runs a study, or continues the one in the output folder."""

    def check(self, request: StudyRequest) -> None:
        """Refuses unknown methods, and trust and paths that are not allowed.

        Raises:
            InputError: A method or parameter is unknown, or a path lies outside of the folders that
                the engine may use.
            ClassifierError: It requires trust, which the engine does not allow.
        """
        chosen_methods(request.spec.methods)
        if request.trust:
            self.context.check_trust()
        for path in (request.folder, request.classifier, request.out):
            self.context.allowed_paths.inside(path)

    def volumes(self, request: StudyRequest) -> set[str]:
        """None: a study reads files of the engine's own disk."""
        return set()

    def run(self, request: StudyRequest, reporter: Reporter) -> StudyResult:
        """Runs the study with a classifier of its own, so that clicks are answered in between.

        Raises:
            InputError: A path, also one that the CSV of cases names, leads out of the folders
                that the engine may use; or as :func:`run_study`.
            Cancelled: Out of the reporter; what is done stays.
        """
        context, compute = self.context, self.context.compute_within(request.spec.limits)
        places = context.allowed_paths
        folder, out = places.inside(request.folder), places.inside(request.out)
        classifier = places.inside(request.classifier)
        places.check_all([classifier])
        reporter.doing("loads the classifier")
        loaded = load_classifier(classifier, trust=request.trust)
        reporter.check()
        reporter.doing("searches for cases")
        cases = discover(folder, channels=loaded.channels, allowed=places.inside)
        for case in cases:
            places.check_all(case.files)

        def tell(now: StudyProgress) -> None:
            failed = f", {now.failed} failed" if now.failed else ""
            words = f"case {min(math.floor(now.done) + 1, now.total)} of {now.total}: {now.case}"
            reporter.doing(words + failed)
            reporter.progress(now.done, now.total)

        result = run_study(
            cases,
            StudyConfig(
                classifier,
                out,
                dataclasses.replace(request.spec, limits=compute.limits),
                compute.device,
                trust=request.trust,
                evaluate=request.evaluate,
            ),
            jobs=request.jobs,
            progress=tell,
            classifier=loaded,
        )
        return dataclasses.replace(
            result,
            cases=tuple(
                StudyCase(
                    case=case.case,
                    done=(out / case.case / EXPLANATION).is_file(),
                    images=tuple(map(str, case.paths)),
                    segmentation=str(case.segmentation) if case.segmentation else None,
                    further_segmentations=tuple(map(str, case.further_segmentations)),
                )
                for case in cases
            ),
        )
