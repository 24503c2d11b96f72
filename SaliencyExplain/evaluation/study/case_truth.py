"""The ground truth of a case: its segments and its body."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation.study.finished_study import FinishedCase, FinishedStudy
from SaliencyExplain.geometry import same_grid
from SaliencyExplain.images.body import body_mask
from SaliencyExplain.images.reading import read_channels
from SaliencyExplain.images.segmentation_files import read_ground_truths
from SaliencyExplain.studies.case import Case
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.journal import source_digest


@dataclass(frozen=True)
class Truth:
    """The ground truth of one case.

    Attributes:
        segments: ``{name: (*S)}``; empty without a segmentation.
        body: ``(*S)``; None if it cannot be determined from the image.
        anatomy: ``(*S)``, the image's first channel.
    """

    segments: dict[str, NDArray[np.bool_]]
    body: NDArray[np.bool_] | None
    anatomy: NDArray[np.float32]


class TruthReader:
    """Finds the images and segmentations of a study's cases, which are not in its folder.

    Args:
        study: The study.
        cases: The folder or CSV that the study was made from; None: the files that the journal
            names (:attr:`~SaliencyExplain.evaluation.study.finished_study.FinishedStudy.origins`).
        step: Called after each case whose files were compared with the study's; may raise
            Cancelled.

    Attributes:
        notes: Notes for the user.

    Raises:
        InputError: The folder or CSV cannot be read, or lacks one of the study's cases.
    """

    def __init__(
        self, study: FinishedStudy, cases: Path | None, step: Callable[[], None] = lambda: None
    ) -> None:
        self._channels: Sequence[str] = study.configuration["channels"]
        self._cases = (study.origins or {}) if cases is None else self._found(study, cases)
        missing = [case.case for case in study.cases if case.case not in self._cases]
        if missing:
            raise InputError(
                ErrorCode.STUDY_INCOMPLETE,
                f"{cases or study.folder} has no case {missing[0]}"
                + (f" and {len(missing) - 1} more of the study's" if len(missing) > 1 else "")
                + ". Give the folder or CSV that the study was made from.",
            )
        self.notes = self._changes(study, step)

    def _found(self, study: FinishedStudy, cases: Path) -> dict[str, Case]:
        found = discover(
            cases,
            channels=self._channels,
            keep_identifiers=bool(study.configuration.get("keep_identifiers")),
        )
        return {case.case: case for case in found}

    def of(self, case: FinishedCase) -> Truth:
        """The ground truth of one case, as far as it is known.

        Raises:
            InputError: A file is missing or unreadable, or the image is not the one that was
                explained.
        """
        source = self._cases[case.case]
        with _without_paths(source):
            image = self._image(source)
        affine = image.affine.numpy().astype(np.float64)
        if not same_grid(tuple(image.shape[1:]), affine, case.shape, case.affine):
            raise InputError(
                ErrorCode.GRID_MISMATCH,
                f"{case.case}: its image is on another grid than its maps. Give the folder or CSV "
                "that the study was made from.",
            )
        return Truth(self.segments(case), body_mask(image), image[0].numpy().astype(np.float32))

    def segments(self, case: FinishedCase) -> dict[str, NDArray[np.bool_]]:
        """The segments of one case, ``{name: (*S)}``; empty where there is no segmentation.

        Raises:
            InputError: The segmentation cannot be read, or does not fit the image.
        """
        source = self._cases[case.case]
        if not source.segmentations:
            return {}
        grid = MetaTensor(torch.zeros((1, *case.shape)), affine=torch.from_numpy(case.affine))
        with _without_paths(source):
            found, _ = read_ground_truths(source.segmentations, grid)
        if found is None:
            return {}
        return {segment.name: segment.mask for segment in found.segments}

    def _image(self, case: Case) -> MetaTensor:
        if len(case.paths) == 1 and len(self._channels) == 3:
            return read_channels(case.paths, series=case.series, colour=True)
        return read_channels(case.paths[:1], series=case.series)

    def _changes(self, study: FinishedStudy, step: Callable[[], None]) -> list[str]:
        changed = []
        for case in study.cases:
            source = self._cases[case.case]
            with _without_paths(source):
                if case.source and case.source != source_digest(source):
                    changed.append(case.case)
            step()
        if not changed:
            return []
        return [
            f"The files of {len(changed)} cases have changed since the study (such as "
            f"{changed[0]}). Segments and body are from the current files."
        ]


@contextlib.contextmanager
def _without_paths(case: Case) -> Iterator[None]:
    """Replaces paths that may identify the patient by the case's name in errors."""
    try:
        yield
    except InputError as error:
        raise InputError(error.code, case.public(str(error))) from None
