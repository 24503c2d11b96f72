"""The images that a network learns from: which they are, and how the network sees them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.errors import ErrorCode, InputError, SaliencyExplainError
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.inputs import read_input
from SaliencyExplain.plain_text import some_of
from SaliencyExplain.progress import Progress, silent
from SaliencyExplain.records.case_entry import StageFailure
from SaliencyExplain.studies.case import Case
from SaliencyExplain.studies.case_reading import UNFORESEEN, failure, late, read_ahead
from SaliencyExplain.studies.file_names import natural
from SaliencyExplain.studies.found import Found
from SaliencyExplain.studies.journal import source_digest
from SaliencyExplain.training.equal_images import groups_of

_NAMED = 5
#: A case, its values on the network's grid, digests of its image, and what has failed.
_Read = tuple[Case, NDArray[np.float32] | None, tuple[str, ...], StageFailure | None]


@dataclass(frozen=True)
class Labelled:
    """Cases whose class is known.

    Attributes:
        cases: The cases.
        labels: Name of the class of each.
        classes: All classes, in the order of the network's scores.
        notes: What was left out, to be said aloud.
    """

    cases: tuple[Case, ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def only(self, places: Sequence[int]) -> Labelled:
        """The cases at these places, with the same classes."""
        return Labelled(
            tuple(self.cases[place] for place in places),
            tuple(self.labels[place] for place in places),
            self.classes,
            self.notes,
        )

    @property
    def indices(self) -> NDArray[np.int64]:
        """Index of each case's class, ``(N,)``."""
        return np.array([self.classes.index(label) for label in self.labels], dtype=np.int64)

    @property
    def digest(self) -> str:
        """A digest of the cases' files, labels, patients and parts."""
        digest = hashlib.sha256("\0".join(self.classes).encode())
        for case, label in zip(self.cases, self.labels, strict=True):
            try:
                source = source_digest(case)
            except InputError:
                source = "gone"
            digest.update(f"{case.case}\0{label}\0{case.patient}\0{case.split}\0{source}".encode())
        return digest.hexdigest()


def labelled_cases(cases: Sequence[Case], classes: Sequence[str] = ()) -> Labelled:
    """The cases that have a label.

    Args:
        cases: As :func:`SaliencyExplain.studies.discovery.discover` found them.
        classes: Names of the classes that are wanted; where empty, all labels in natural
            order (2 before 10).

    Returns:
        Those with a label among the classes; the notes name the others.

    Raises:
        InputError: No case has a label, there are not two classes, or a class that is wanted
            has no case.
    """
    given = [case for case in cases if case.label is not None]
    if not given:
        raise InputError(
            ErrorCode.LABELS,
            "Labels: no case has one. Put the images into one folder per class, or give a CSV with "
            "the columns case, image, label.",
        )
    names = list(classes) or sorted({str(c.label) for c in given}, key=lambda n: natural(Path(n)))
    spelled: dict[str, str] = {}
    for name in names:
        other = spelled.setdefault(name.casefold(), name)
        if other != name:
            raise InputError(
                ErrorCode.LABELS,
                f"Labels '{other}' and '{name}': they differ only in case. Use one spelling.",
            )
    if len(names) < 2:
        raise InputError(
            ErrorCode.LABELS,
            f"Labels: all cases have '{names[0]}', and a classifier needs two or more classes. Add "
            "cases of another class.",
        )
    kept = [case for case in given if str(case.label).casefold() in spelled]
    found = {str(case.label).casefold() for case in kept}
    missing = [name for name in names if name.casefold() not in found]
    if missing:
        known = ", ".join(sorted({str(case.label) for case in given})[:10])
        raise InputError(
            ErrorCode.LABELS,
            f"No case has the label {', '.join(missing)}. The labels there are: {known}.",
        )
    notes = cases.sentences() if isinstance(cases, Found) else []
    for others, why in (
        ([case for case in cases if case.label is None], "have no label"),
        (
            [case for case in given if case not in kept],
            "have a label that is not among the classes",
        ),
    ):
        if others:
            left_out = some_of([case.case for case in others], _NAMED)
            notes.append(f"{len(others)} cases {why} and are left out: {left_out}.")
    return Labelled(
        tuple(kept),
        tuple(spelled[str(case.label).casefold()] for case in kept),
        tuple(names),
        tuple(notes),
    )


@dataclass(frozen=True)
class Prepared:
    """The prepared images in a file, since they may exceed the memory.

    Attributes:
        path: float32, ``(N, C, *S)``, without a header.
        shape: ``(N, C, *S)``.
    """

    path: Path
    shape: tuple[int, ...]

    def batch(self, places: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """The images at these places, ``(B, C, *S)``."""
        images = np.memmap(self.path, dtype=np.float32, mode="r", shape=self.shape)
        return torch.from_numpy(np.stack([images[place] for place in places]))

    def deviation(self, places: Sequence[int] | NDArray[np.int64]) -> float:
        """Standard deviation of the intensities, the root of the mean variance of the images."""
        images = np.memmap(self.path, dtype=np.float32, mode="r", shape=self.shape)
        return float(np.sqrt(np.mean([images[place].var(dtype=np.float64) for place in places])))


def prepare_images(
    cases: Sequence[Case],
    classifier: Classifier,
    path: Path,
    progress: Progress = silent,
) -> tuple[Prepared, list[int], list[int], list[dict[str, str]]]:
    """Reads the images and brings them to the network's grid, by the classifier's own steps.

    An image that cannot be read costs only itself.

    Args:
        cases: The cases.
        classifier: Gives the preprocessing.
        path: The file to write; whole or not at all.
        progress: Told after each image.

    Returns:
        The images, the places of their cases, for each image the place among the images of the
        first one that it equals, and case and reason of those left out. Images are equal where
        all their pixels are, or all that the network sees of them.

    Raises:
        InputError: No image can be read, or they differ in size on the network's grid.
        OutputError: The disk is full, or the file cannot be written.
        Cancelled: Out of ``progress``.
    """

    def read(case: Case) -> _Read:
        try:
            image = read_input(classifier, case.images, series=case.series)
            values = classifier.prepare(image).numpy()
            return case, values, (_digest("image", image.numpy()), _digest("seen", values)), None
        except (SaliencyExplainError, *UNFORESEEN) as error:
            return case, None, (), failure(case, "reading the image", error)

    def given_up(case: Case, seconds: float) -> _Read:
        return case, None, (), failure(case, "reading the image", late(seconds))

    kept: list[int] = []
    digests: list[tuple[str, ...]] = []
    left_out: list[dict[str, str]] = []
    shape: tuple[int, ...] = ()
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        for place, (case, values, own, failed) in enumerate(read_ahead(cases, read, given_up)):
            if failed is not None:
                left_out.append({"case": case.case, "reason": failed.reason})
            elif values is not None:
                shape = shape or values.shape
                if values.shape != shape:
                    raise InputError(
                        ErrorCode.GRID_MISMATCH,
                        f"{case.case} has {_sizes(values.shape)} voxels on the network's grid, and "
                        f"{cases[kept[0]].case} has {_sizes(shape)}. Give one --size for all.",
                    )
                file.write(values.astype(np.float32).tobytes())
                kept.append(place)
                digests.append(own)
            progress(place + 1, len(cases))
        if not kept:
            raise InputError(
                ErrorCode.CASES_MISSING, f"No image can be read. The first: {left_out[0]['reason']}"
            )
    return Prepared(path, (len(kept), *shape)), kept, groups_of(digests), left_out


def _digest(what: str, values: NDArray[np.generic]) -> str:
    """Of an image's values and their arrangement; of nothing else, such as where it lies."""
    content = np.ascontiguousarray(values, dtype=np.float32)
    digest = hashlib.sha256(f"{what} {content.shape}".encode())
    digest.update(content.tobytes())
    return digest.hexdigest()


def _sizes(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape[1:]))
