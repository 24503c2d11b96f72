"""The work on one case: read, explain, compare, write. Runs in the main or a worker process."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from monai.data import MetaTensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.comparison.map_comparison import compare_attributions
from SaliencyExplain.comparison.table import unseen_notes
from SaliencyExplain.cost_estimate import Estimate
from SaliencyExplain.errors import (
    Cancelled,
    ErrorCode,
    InputError,
    OutputError,
    SaliencyExplainError,
)
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.loaded_references import LoadedReferences
from SaliencyExplain.explanation.prepared_case import PreparedCase, prepare
from SaliencyExplain.images.segmentation_files import read_ground_truths
from SaliencyExplain.method_failures import MethodFailures
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.inputs import read_input
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.progress import Progress, silent
from SaliencyExplain.records.agreement_row import Row
from SaliencyExplain.records.case_entry import (
    CaseEntry,
    CaseResult,
    StageFailure,
    true_class,
)
from SaliencyExplain.records.case_record import CaseRecord
from SaliencyExplain.records.evaluation_summary import EvaluationSummary
from SaliencyExplain.results.image_explanation import Explanation
from SaliencyExplain.specification.target import CLASS, LABEL, Target
from SaliencyExplain.studies.added_methods import merged_entry, merged_failures
from SaliencyExplain.studies.case import Case
from SaliencyExplain.studies.case_evaluation import has_evaluation, write_case_evaluation
from SaliencyExplain.studies.case_files import are_there, sizes_of
from SaliencyExplain.studies.case_folder import write_case
from SaliencyExplain.studies.case_reading import (
    EVALUATION_STAGE,
    SCENE_STAGE,
    UNFORESEEN,
    PendingCase,
    ReadCase,
    failure,
    failures_of_methods,
    late,
    read_ahead,
    read_backgrounds,
)
from SaliencyExplain.studies.case_scene import has_scene, write_scene
from SaliencyExplain.studies.journal import source_digest
from SaliencyExplain.studies.origins import origin_of
from SaliencyExplain.studies.study_config import StudyConfig


class CaseWorker:
    """Does the work on cases with one loaded classifier.

    Args:
        config: What all cases have in common.
        classifier: Where it is open already; None: it is loaded.

    Attributes:
        config: What all cases have in common.
        classifier: The loaded classifier.
    """

    def __init__(self, config: StudyConfig, classifier: Classifier | None = None) -> None:
        self.config = config
        self.classifier: Classifier = (
            load_classifier(config.classifier, trust=config.trust)
            if classifier is None
            else classifier
        )
        self._backgrounds = read_backgrounds(self.classifier, config.backgrounds)

    def run(
        self,
        pending: Iterable[PendingCase],
        progress: Callable[[Case], Progress] = lambda case: silent,
    ) -> Iterator[CaseEntry]:
        """Processes the cases in order, reading the next while one is computed.

        Args:
            pending: The cases; taken from the iterable in the reading thread.
            progress: Gives each case its progress callback.

        Yields:
            The journal's entry of each case, once its folder is in place.

        Raises:
            OutputError: A result cannot be written; the study must stop.
            Cancelled: Out of a progress callback.
        """
        for item, read in read_ahead(pending, self._read, self._given_up):
            yield self._done(item, read, progress(item.case))

    def _done(self, item: PendingCase, read: ReadCase, progress: Progress) -> CaseEntry:
        """The entry of a case; an error fails this case only."""
        try:
            if item.entry is not None and not item.methods:
                return self.complete(read, item.entry, progress)
            methods = item.methods or self.config.methods
            return self.compute(read, methods, progress, kept=item.entry)[0]
        except (OutputError, Cancelled, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a network of the user's may raise anything
            stage = "explaining" if item.entry is None or item.methods else EVALUATION_STAGE
            return (item.entry or read.entry()).failing(failure(item.case, stage, error))

    def _read(self, item: PendingCase) -> tuple[PendingCase, ReadCase]:
        return item, self.read(item.case)

    def _given_up(self, item: PendingCase, seconds: float) -> tuple[PendingCase, ReadCase]:
        read = ReadCase(item.case)
        read.fail("reading the image", late(seconds))
        return item, read

    def read(self, case: Case) -> ReadCase:
        """Reads a case's images and segmentation; what fails is in its failures."""
        started = time.perf_counter()
        result = ReadCase(case)
        try:
            result.image = read_input(self.classifier, case.images, series=case.series)
        except (KeyboardInterrupt, Cancelled):
            raise
        except BaseException as error:  # noqa: BLE001 - a damaged file makes readers raise anything
            result.fail("reading the image", error)
        if result.image is not None and case.segmentations:
            try:
                result.segmentation, result.segmentation_notes = read_ground_truths(
                    case.segmentations, result.image
                )
            except (KeyboardInterrupt, Cancelled):
                raise
            except BaseException as error:  # noqa: BLE001 - likewise
                result.fail("reading the segmentation", error)
        # A file that is gone has failed above; without a digest the case is tried again.
        with contextlib.suppress(InputError):
            result.source = source_digest(case)
        result.seconds = time.perf_counter() - started
        return result

    def compute(
        self,
        read: ReadCase,
        methods: Sequence[Method],
        progress: Progress = silent,
        announce: Callable[[Estimate], None] | None = None,
        kept: CaseEntry | None = None,
        explanation: Explanation | None = None,
    ) -> tuple[CaseEntry, CaseRecord | None]:
        """Explains, compares and writes a case that was read, and its scene if requested.

        Args:
            read: What :meth:`read` gave.
            methods: The methods whose maps are computed.
            progress: Told after each batch.
            announce: Called with the cost before the first method starts.
            kept: The journal's entry of a case whose other maps stay; None: nothing stays.
            explanation: Of these methods, where they have run already.

        Returns:
            The journal's entry, and the case's record; None where nothing was written.

        Raises:
            OutputError: A result cannot be written; the study must stop.
            Cancelled: Out of the progress callback.
        """
        had_scene = kept is not None and has_scene(self.config.out / read.case.case)
        entry, record = self._computed(read, methods, progress, announce, kept, explanation)
        if record is None and kept is not None:
            failures = merged_failures(kept, entry.failures)
            return dataclasses.replace(kept, failures=failures), None
        if record is None:
            return entry, None
        # The scene that was there, which has not all maps, is gone.
        return self.add_scene(read, entry, wanted=had_scene), record

    def _computed(
        self,
        read: ReadCase,
        methods: Sequence[Method],
        progress: Progress,
        announce: Callable[[Estimate], None] | None,
        kept: CaseEntry | None,
        explanation: Explanation | None,
    ) -> tuple[CaseEntry, CaseRecord | None]:
        """The journal's entry and the case's record, once the maps are written.

        Where they are not, the entry has the failures of these methods alone.
        """
        case, entry = read.case, read.entry()
        if read.image is None:
            return entry, None
        failures = MethodFailures()
        try:
            explanation = explanation or explain(
                self._prepared(read, self._target(case), progress),
                methods,
                seed=self.config.spec.seed,
                progress=progress,
                announce=announce,
                failures=failures,
            )
        except (SaliencyExplainError, *UNFORESEEN) as error:
            if kept is not None and failures.found:
                # The image was explained before: it is these methods that cannot.
                return entry.failing(*failures_of_methods(case, failures.found)), None
            return entry.failing(failure(case, "explaining", error)), None
        return self._written(read, read.image, explanation, kept, entry)

    def _written(
        self,
        read: ReadCase,
        image: MetaTensor,
        explanation: Explanation,
        kept: CaseEntry | None,
        entry: CaseEntry,
    ) -> tuple[CaseEntry, CaseRecord | None]:
        """Entry and record of an explanation, once it is compared and its files are in place."""
        case = read.case
        explanation = dataclasses.replace(
            explanation,
            failures=tuple(
                dataclasses.replace(one, reason=case.public(one.reason))
                for one in explanation.failures
            ),
        )
        entry = entry.failing(*failures_of_methods(case, explanation.failures))
        started = time.perf_counter()
        compared: list[Row] = []
        if read.segmentation is not None:
            try:
                compared = list(
                    compare_attributions(
                        case.case,
                        explanation.attributions,
                        image,
                        read.segmentation,
                        seed=self.config.spec.seed,
                    )
                )
            except (SaliencyExplainError, *UNFORESEEN) as error:
                entry = entry.failing(failure(case, "comparing", error))
        seconds = {"read": read.seconds, "compare": time.perf_counter() - started}
        notes = [*case.notes, *read.segmentation_notes]
        if read.segmentation is not None:
            notes += unseen_notes(read.segmentation, explanation.attributions[0].field_of_view)
        notes = [case.public(note) for note in dict.fromkeys([*explanation.notes, *notes])]
        explanation = dataclasses.replace(
            explanation, notes=tuple(notes), timings={**explanation.timings, **seconds}
        )
        try:
            self._check_out()
            record = write_case(
                self.config.out,
                case.case,
                explanation,
                image,
                segmentation=read.segmentation,
                rows=compared,
                files=origin_of(case, self.config.out),
                keep_identifiers=self.config.keep_identifiers,
                held=self.config.held,
                order=None if kept is None else [method.name for method in self.config.methods],
            )
            folder = self.config.out / case.case
            sizes = sizes_of(folder / name for name in record.file_names)
        except OutputError:
            raise
        except (SaliencyExplainError, *UNFORESEEN) as error:
            return entry.failing(failure(case, "writing", error)), None
        entry = dataclasses.replace(entry, result=CaseResult.of(record, sizes))
        if kept is None:
            return entry, record
        computed = {one.method for one in explanation.attributions}
        computed |= {one.method for one in explanation.failures}
        return merged_entry(kept, entry, computed), record

    def complete(self, read: ReadCase, entry: CaseEntry, progress: Progress = silent) -> CaseEntry:
        """Makes the requested files that are missing beside a case's maps: scene and evaluation.

        Existing files are not computed again. A failure of one does not affect the others.

        Args:
            read: What :meth:`read` gave.
            entry: The journal's entry of the case.
            progress: Called with the evaluation's forward passes.

        Returns:
            The entry, as it is after that.

        Raises:
            OutputError: A result cannot be written; the study must stop.
            Cancelled: Out of the progress callback.
        """
        return self.add_evaluation(read, self.add_scene(read, entry), progress)

    def add_scene(self, read: ReadCase, entry: CaseEntry, *, wanted: bool = False) -> CaseEntry:
        """Makes the scene, if it is requested and missing; see :meth:`complete`."""
        if not (self.config.scene or wanted) or has_scene(self.config.out / read.case.case):
            return entry
        self._check_case(entry)
        return entry.failing(*self._write_scene(read), stages=[SCENE_STAGE])

    def add_evaluation(
        self, read: ReadCase, entry: CaseEntry, progress: Progress = silent
    ) -> CaseEntry:
        """Evaluates the maps, if requested and missing; see :meth:`complete`."""
        passes, folder = self.config.spec.limits.passes, self.config.out / read.case.case
        if (
            entry.result is None
            or not self.config.evaluate
            or has_evaluation(folder, entry, passes)
        ):
            return entry
        self._check_case(entry)
        try:
            evaluation = self._evaluate_maps(read, entry, entry.result.target, progress)
        except OutputError:
            raise
        except (SaliencyExplainError, *UNFORESEEN) as error:
            return entry.failing(failure(read.case, EVALUATION_STAGE, error))
        result = dataclasses.replace(entry.result, evaluation=evaluation)
        return dataclasses.replace(entry.failing(stages=[EVALUATION_STAGE]), result=result)

    def _check_out(self) -> None:
        """Raises OutputError if the output folder is no longer the one that the run locked."""
        if self.config.held is not None:
            self.config.held.check()

    def _check_case(self, entry: CaseEntry) -> None:
        """Raises OutputError where the maps beside which something is to be written are gone."""
        self._check_out()
        folder = self.config.out / entry.case
        if not are_there(folder, entry):
            raise OutputError(
                ErrorCode.STUDY_INCOMPLETE,
                f"{folder}: the case's files were deleted or truncated during the run. Start "
                "the run again to compute the case again.",
            )

    def _evaluate_maps(
        self, read: ReadCase, entry: CaseEntry, target: str, progress: Progress
    ) -> EvaluationSummary:
        prepared = read.prepared
        if prepared is None or prepared.target_name != target:
            prepared = self._prepared(read, Target.parse(target), progress)
        return write_case_evaluation(
            self.config.out / read.case.case,
            read.case,
            prepared,
            [method for method in self.config.methods if method.name in entry.methods],
            seed=self.config.spec.seed,
            passes=self.config.spec.limits.passes,
            progress=progress,
        )

    def _prepared(self, read: ReadCase, target: Target, progress: Progress) -> PreparedCase:
        """The case's image before the classifier; kept for the evaluation of its maps."""
        if read.image is None:
            raise read.errors[0]
        references = LoadedReferences(read.segmentation, self._backgrounds)
        read.prepared = prepare(
            read.image,
            self.classifier,
            target,
            self.config.compute,
            references,
            progress,
            self.config.spec.region,
        )
        return read.prepared

    def _write_scene(self, read: ReadCase) -> list[StageFailure]:
        """Writes a case's scene beside its other results; a failure affects only the scene."""
        try:
            if read.image is None:
                raise read.errors[0]
            write_scene(
                self.config.out / read.case.case,
                read.image,
                self.classifier.channels,
                read.segmentation,
            )
        except OutputError:
            raise
        except (SaliencyExplainError, *UNFORESEEN) as error:
            return [failure(read.case, SCENE_STAGE, error)]
        return []

    def _target(self, case: Case) -> Target:
        target = self.config.spec.target
        if target.kind != LABEL:
            return target
        own = true_class(case.label, self.classifier.classes)
        return Target(CLASS, own, unit=target.unit) if own else Target(unit=target.unit)
