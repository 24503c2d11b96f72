"""The evaluation of a finished study and its results."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation.study.biomarkers import Correlation, biomarker_table
from SaliencyExplain.evaluation.study.case_selection import select_cases, smallest_differences
from SaliencyExplain.evaluation.study.clusters import LEAST_MAPS, Clusters, cluster_methods
from SaliencyExplain.evaluation.study.energy_places import PlaceSummary, summarise_places
from SaliencyExplain.evaluation.study.finished_study import FinishedStudy, read_study
from SaliencyExplain.evaluation.study.fixed_places import (
    FixedPlace,
    find_fixed_places,
    told_from_anatomy,
)
from SaliencyExplain.evaluation.study.paired_comparison import Pair, compare_methods
from SaliencyExplain.evaluation.study.study_curves import (
    MeanCurve,
    StudyMetric,
    mean_curves,
    study_metrics_table,
)
from SaliencyExplain.evaluation.study.study_metrics import metric_values
from SaliencyExplain.evaluation.study.survey import Survey, survey
from SaliencyExplain.evaluation_parts import STUDY_EVALUATION_FORMAT
from SaliencyExplain.library_versions import versions
from SaliencyExplain.progress import Progress, part_of, silent

#: Per cent of the time after which all maps of a study are read, and after which the fixed
#: places are known; large images take longer to read and leave less for the rest.
_READ, _PLACED = 50, 85


@dataclass(frozen=True)
class StudyEvaluation:
    """The results of the evaluation of a study's maps.

    Attributes:
        study: What was evaluated.
        compared: Names of the cases on which methods are compared.
        survey: What was read off the maps, for the pictures.
        segments_known: Whether a segment was read beside any of the maps.
        seed: Random seed.
        pairs: Methods held against each other.
        places: The shares of the energy in each place.
        fixed_places: For each method and class the place in which its maps agree most.
        clusters: Groups of maps by method; empty with too few cases.
        biomarkers: Correlates of the energy in the segments.
        metrics: The metrics of the cases' evaluations; empty where there are none.
        curves: Their mean curves.
        notes: Notes for the user.
    """

    study: FinishedStudy
    compared: tuple[str, ...]
    survey: Survey
    segments_known: bool
    seed: int
    pairs: tuple[Pair, ...]
    places: tuple[PlaceSummary, ...]
    fixed_places: tuple[FixedPlace, ...]
    clusters: tuple[Clusters, ...]
    biomarkers: tuple[Correlation, ...]
    metrics: tuple[StudyMetric, ...]
    curves: tuple[MeanCurve, ...]
    notes: tuple[str, ...]

    @property
    def evaluated(self) -> int:
        """Cases whose maps' faithfulness was evaluated."""
        return max((one.cases for one in self.curves), default=0)

    def as_json(self) -> dict[str, Any]:
        """All metrics, for :func:`SaliencyExplain.json_text.json_text`."""
        document: dict[str, Any] = {
            "format": STUDY_EVALUATION_FORMAT,
            "journal_sha256": self.study.journal_sha256,
            "classifier": self.study.configuration["classifier"],
            "classifier_sha256": self.study.configuration["classifier_sha256"],
            "cases": len(self.study.cases),
            "compared": len(self.compared),
            "failed": self.study.failed,
            "evaluated": self.evaluated,
            "segments_known": self.segments_known,
            "fixed_segments": list(self.survey.fixed),
            "sides": self.survey.sides,
            "seed": self.seed,
            "notes": list(self.notes),
            "versions": versions(),
        }
        for name in ("pairs", "places", "fixed_places", "biomarkers", "metrics", "curves"):
            document[name] = [dataclasses.asdict(one) for one in getattr(self, name)]
        document["clusters"] = [
            {
                "method": one.method,
                "gap": one.gap,
                "p_corrected": one.p_corrected,
                "eigenvalues": one.eigenvalues,
                "groups": [
                    {"cases": group.cases, "targets": group.targets} for group in one.groups
                ],
            }
            for one in self.clusters
        ]
        return document


def evaluate_study(
    folder: Path,
    *,
    cases: Path | None = None,
    all_cases: bool = False,
    smallest_difference: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
) -> StudyEvaluation:
    """Evaluates a finished study; neither its classifier nor a GPU is needed.

    Args:
        folder: The study's output folder.
        cases: The folder or CSV that it was made from; None: the files that its journal names,
            if they are all still there. Without them the segments and the body are not
            known, and evidence in a finding at the same place in all cases cannot be distinguished
            from a shortcut.
        all_cases: Compare methods on all cases, also on those whose explained class is not their
            own (:func:`~SaliencyExplain.evaluation.study.case_selection.select_cases`).
        smallest_difference: Smallest differences of interest where they are not the default:
            ``VALUE``, or ``METRIC=VALUE``.
        seed: Of bootstraps, shuffles and clustering.
        progress: Called with per cent; may raise Cancelled.

    Raises:
        InputError: The folder holds no study with two explained cases or more, one of its files
            is missing or damaged, the cases do not belong to it, or a smallest difference is
            none.
        Cancelled: Out of ``progress``.
    """
    study = read_study(folder)
    if len(study.cases) < 2:
        raise InputError(
            ErrorCode.CASES_MISSING,
            f"{folder}: it has a single explained case, and an evaluation needs two or more. For "
            "one image use saliency-explain evaluate image IMAGE --classifier … --method ….",
        )
    chosen = select_cases(study.cases, all_cases=all_cases)
    values = metric_values(chosen.cases)
    smallest = smallest_differences(smallest_difference, values)
    found, notes = _survey(study, cases, part_of(progress, 0, _READ, 100))
    if chosen.note:
        notes.append(chosen.note)
    if study.failed:
        notes.append(f"{study.failed} cases of the study have no explanation and are left out.")
    fixed_places = find_fixed_places(
        found.placed,
        found.fixed,
        seed=seed,
        progress=part_of(progress, _READ, _PLACED, 100),
    )
    fixed_places = told_from_anatomy(fixed_places, found.segmented, found.body)
    pairs = compare_methods(
        values, smallest=smallest, progress=part_of(progress, _PLACED, 100, 100)
    )
    return StudyEvaluation(
        study=study,
        compared=tuple(case.case for case in chosen.cases),
        survey=found,
        segments_known=bool(found.segmented),
        seed=seed,
        pairs=tuple(pairs),
        places=tuple(summarise_places(found.shares, seed=seed)),
        fixed_places=tuple(fixed_places),
        clusters=tuple(_clusters(study, found, seed, notes)),
        biomarkers=tuple(biomarker_table(chosen.cases)),
        metrics=tuple(study_metrics_table(study.cases, seed=seed)),
        curves=tuple(mean_curves(study.cases)),
        notes=tuple(notes),
    )


def _survey(
    study: FinishedStudy, cases: Path | None, progress: Progress
) -> tuple[Survey, list[str]]:
    """What is read off the maps, with the cases' segments and bodies where they are known."""
    why = "the journal does not name all of their files, or some of them do not exist"
    if cases is not None or study.origins is not None:
        try:
            found = survey(study, cases, with_cases=True, progress=progress)
        except InputError as error:
            if cases is not None:
                raise
            why = str(error)
        else:
            return found, [*found.notes]
    found = survey(study, progress=progress)
    return found, [
        *found.notes,
        f"The study's cases were not read ({why}), so segments and body are unknown, and a finding "
        "or organ at a fixed position cannot be distinguished from a shortcut. Give the folder or "
        "CSV that the study was made from with --cases.",
    ]


def _clusters(study: FinishedStudy, found: Survey, seed: int, notes: list[str]) -> list[Clusters]:
    own = {label: [one for one in found.placed if one.method == label] for label in study.labels}
    enough = {label: maps for label, maps in own.items() if len(maps) >= LEAST_MAPS}
    clusters = cluster_methods(enough, seed=seed)
    if not clusters:
        notes.append(
            f"Groups of maps need at least {LEAST_MAPS} cases; the study has {len(study.cases)}."
        )
    return clusters
