"""A finished study as it lies in its folder: cases, metrics, evaluations, maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation_parts import EVALUATION_FILE
from SaliencyExplain.records.agreement_row import Row
from SaliencyExplain.records.case_entry import CaseEntry, CaseResult, true_class
from SaliencyExplain.records.case_record import read_case
from SaliencyExplain.records.journal_file import JournalFile, journal_digest
from SaliencyExplain.results.image_evaluation import Evaluation, read_evaluation
from SaliencyExplain.studies.case import Case
from SaliencyExplain.studies.origins import case_of


@dataclass(frozen=True)
class FinishedCase:
    """A case that a study has explained.

    Attributes:
        case: Its name.
        folder: Where its results lie.
        target: Name of the class that its maps explain.
        probability: What the classifier gave that class, [0, 1].
        predicted: Name of the likeliest class.
        label: The true class; None where it is not known.
        shape: ``(*S)`` of the image, and so of the maps.
        affine: 4x4 of the image, voxel indices to RAS millimetres.
        maps: ``{label of the map: its file}``.
        rows: The agreement of the maps and the control maps with the segments.
        evaluation: Of its maps; None where they were not evaluated.
        source: Digest of the files that it was made of.
        origin: Its files, where the journal names them.
    """

    case: str
    folder: Path
    target: str
    probability: float
    predicted: str
    label: str | None
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    maps: Mapping[str, Path]
    rows: tuple[Row, ...]
    evaluation: Evaluation | None
    source: str
    origin: Case | None

    @property
    def voxel_size(self) -> float:
        """Volume of a voxel in ml; area of a pixel in cm² for an image of two axes."""
        columns = self.affine[:3, : len(self.shape)]
        measure = math.sqrt(float(np.linalg.det(columns.T @ columns)))
        return measure / (1000 if len(self.shape) == 3 else 100)

    def read_map(self, label: str) -> NDArray[np.float32]:
        """The map of that label, ``(*S)``.

        Raises:
            InputError: Its file is missing, damaged, or holds another grid or values that are
                not finite.
        """
        path = self.maps[label]
        try:
            values = np.asarray(nibabel.load(path).dataobj, np.float32)
        except FileNotFoundError:
            raise InputError(
                ErrorCode.STUDY_INCOMPLETE,
                f"{path}: it is missing, although the case is finished. Run the study again.",
            ) from None
        except (ImageFileError, OSError, EOFError, ValueError) as error:
            raise InputError(
                ErrorCode.STUDY_INCOMPLETE, f"{path}: it is damaged ({error}). Run the study again."
            ) from None
        if values.shape != self.shape:
            raise InputError(
                ErrorCode.GRID_MISMATCH,
                f"{path}: its shape is {values.shape}, and that of the image is {self.shape}. Run "
                "the study again.",
            )
        if not np.isfinite(values).all():
            raise InputError(
                ErrorCode.MAP_NOT_FINITE,
                f"{path}: it has values that are not finite. Run the study again.",
            )
        return values


@dataclass(frozen=True)
class FinishedStudy:
    """A study with at least one explained case.

    Attributes:
        folder: Its output folder.
        configuration: The journal's first line.
        cases: The explained cases, in the journal's order.
        failed: Cases that have no explanation.
        journal_sha256: What it was when this was read.
    """

    folder: Path
    configuration: Mapping[str, Any]
    cases: tuple[FinishedCase, ...]
    failed: int
    journal_sha256: str

    @property
    def labels(self) -> list[str]:
        """Labels of all maps, as they first occur."""
        return list(dict.fromkeys(label for case in self.cases for label in case.maps))

    @property
    def segments(self) -> list[str]:
        """Names of all segments that a map was compared with, as they first occur."""
        return list(dict.fromkeys(row.segment for case in self.cases for row in case.rows))

    @property
    def origins(self) -> dict[str, Case] | None:
        """The cases' files by case; None where some are not named or no longer there."""
        found = {}
        for case in self.cases:
            origin = case.origin
            if origin is None:
                return None
            files = origin.files
            if not all(path.exists() for path in files):
                return None
            found[case.case] = origin
        return found

    @property
    def targets(self) -> list[str]:
        """The explained classes, in the classifier's order."""
        found = {case.target for case in self.cases}
        return [name for name in self.configuration["classes"] if name in found]


def read_study(folder: Path) -> FinishedStudy:
    """Reads a study's folder; the maps stay on the disk.

    Raises:
        InputError: The folder holds no study, none of its cases is done, or a file of a case is
            missing or damaged.
    """
    journal = JournalFile.read(folder)
    if journal.damaged:
        raise InputError(
            ErrorCode.STUDY_INCOMPLETE,
            f"{journal.path}: {journal.damaged} of its lines are damaged, so cases would be "
            "missing. Run the study again.",
        )
    cases, failed = [], 0
    for entry in journal.entries():
        if entry.result is not None:
            cases.append(_case(folder / entry.case, entry, entry.result, journal.classes))
        else:
            failed += 1
    if not cases:
        raise InputError(
            ErrorCode.CASES_MISSING,
            f"{folder}: no case of the study is explained yet. Run the study first.",
        )
    return FinishedStudy(
        folder, journal.configuration, tuple(cases), failed, journal_digest(folder)
    )


def _case(
    folder: Path, entry: CaseEntry, result: CaseResult, classes: Sequence[str]
) -> FinishedCase:
    image = read_case(folder).image
    if result.target not in classes:
        raise InputError(
            ErrorCode.TARGET_KIND,
            f"{folder}: the maps explain {result.target}, and a study is evaluated for classes "
            "only.",
        )
    return FinishedCase(
        case=entry.case,
        folder=folder,
        target=result.target,
        probability=result.probabilities[classes.index(result.target)],
        predicted=result.predicted(classes),
        label=true_class(entry.label, classes),
        shape=image.shape,
        affine=np.array(image.affine_ras_mm, dtype=np.float64),
        maps={one.label: folder / one.files.map for one in result.maps},
        rows=result.rows,
        evaluation=read_evaluation(folder) if (folder / EVALUATION_FILE).is_file() else None,
        source=entry.source,
        origin=case_of(entry, image.files, folder.parent),
    )
