"""One case of a study: its images, its segmentation, its label."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.dicom_header import is_dicom
from SaliencyExplain.images.file_suffixes import suffix_of
from SaliencyExplain.images.volume_reading import short_name
from SaliencyExplain.safe_names import safe_name as safe_name
from SaliencyExplain.safe_names import with_digest
from SaliencyExplain.studies.file_names import csv_advice

_ID = re.compile(r"^(?=.*[\d^]).{5,}$")

#: The target of a study that explains each case for its own label.


@dataclass(frozen=True)
class Case:
    """One case of a study.

    Attributes:
        case: Its name: unique in the study, safe as a folder name. Cases of DICOM
            trees are named ``case-001`` and on, because DICOM folders are often
            named by patient IDs.
        images: ``(channel name or None, path)`` for each channel, in the classifier's
            order where it is known. A path is a file, or a folder of DICOM slices.
        segmentation: The segmentation's file, if there is one; of several the first.
        label: The true class, if it is known.
        series: SeriesInstanceUID of the image where its folder holds several series.
        private: Whether paths of this case may hold a patient's name or ID: they then
            appear in no output.
        notes: What discovery guessed or left out, for the user.
        patient: The patient, if known: used only to keep a patient's cases in one part of a split;
            it appears in no output.
        split: The part of a split that the table or folder assigns the case to.
        further_segmentations: Of an image that has a file for each lesion or structure, the
            files after the first.
    """

    case: str
    images: tuple[tuple[str | None, Path], ...]
    segmentation: Path | None = None
    label: str | None = None
    series: str | None = None
    private: bool = False
    notes: tuple[str, ...] = ()
    patient: str | None = field(default=None, repr=False)
    split: str | None = None
    further_segmentations: tuple[Path, ...] = ()

    @property
    def segmentations(self) -> tuple[Path, ...]:
        """The files of the segmentation; empty where there is none."""
        first = () if self.segmentation is None else (self.segmentation,)
        return (*first, *self.further_segmentations)

    @property
    def files(self) -> list[Path]:
        """The paths of the images and of the segmentation."""
        return [*self.paths, *self.segmentations]

    @property
    def paths(self) -> list[Path]:
        """The images' paths in the order of the channels."""
        return [path for _, path in self.images]

    @property
    def channels(self) -> list[str] | None:
        """The channels' names, None where the images have no names."""
        names = [name for name, _ in self.images if name is not None]
        return names if len(names) == len(self.images) else None

    def public(self, text: str) -> str:
        """The text without this case's paths, where they may name the patient."""
        if not self.private:
            return text
        spelled: dict[str, str] = {}
        for path in self.files:
            word = _public_word(path, self)
            if len(path.parent.parts) > 1:
                spelled[str(path.parent)] = f"the folder of {self.case}"
            # A folder's bare name only if it looks like an ID rather than a word.
            if _ID.search(path.name) or not path.is_dir():
                spelled[path.name] = word
            spelled |= {str(path): word, **_files_within(path, word)}
        # Longest first: a folder's path is the start of its files' paths. Whole names only:
        # the folder "." or the file "1" is a part of many a number.
        for name in sorted(spelled, key=len, reverse=True):
            text = re.sub(rf"(?<![\w.]){re.escape(name)}(?!\w)", spelled[name], text)
        return text


def _public_word(path: Path, case: Case) -> str:
    kind = "segmentation" if path in case.segmentations else "image"
    return f"the {kind} of {case.case}"


def _files_within(folder: Path, word: str) -> dict[str, str]:
    """Names without patient names that replace the files' names of a DICOM folder."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    spelled = {str(file): f"file {n} of {word}" for n, file in enumerate(files, start=1)}
    return spelled | {
        file.name: f"file {n}"
        for n, file in enumerate(files, start=1)
        if len(file.name) > 4 or not file.name.isdecimal()
    }


def may_name_patient(paths: Iterable[Path]) -> bool:
    """Whether one of the paths is DICOM, whose files and folders are often named by patients.

    Whatever has no image format's ending is a DICOM file or folder; so is a file that begins as
    DICOM does, and one that cannot be opened may be.
    """
    return any(not suffix_of(path) or _begins_as_dicom(path) for path in paths)


def _begins_as_dicom(path: Path) -> bool:
    try:
        return path.is_file() and is_dicom(path)
    except OSError:
        return True


def single_case(
    images: Sequence[tuple[str | None, Path]],
    segmentation: Path | None = None,
    *,
    name: str | None = None,
    series: str | None = None,
    keep_identifiers: bool = False,
) -> Case:
    """The case of images that were named one by one.

    Args:
        images: ``(channel name or None, path)`` for each channel.
        segmentation: The segmentation's file, if there is one.
        name: The case's name. Without one the first image's name stands for it, and for
            DICOM ``case-001``, because DICOM files and folders are often named by patient
            IDs; a second DICOM case in the same output folder needs another name.
        series: SeriesInstanceUID of the image where its folder holds several series.
        keep_identifiers: Name DICOM cases by their files, too.
    """
    paths = [path for _, path in images]
    private = may_name_patient(paths) and not keep_identifiers
    if name is None:
        name = "case-001" if private else short_name(paths[0])
    return Case(safe_name(name), tuple(images), segmentation, series=series, private=private)


def check_unique(cases: Sequence[Case]) -> list[Case]:
    """The cases, after checking that no two would share an output folder.

    Raises:
        InputError: Two cases have the same name, or names that differ by upper
            and lower case only (the same folder on macOS and Windows).
    """
    seen: dict[str, Case] = {}
    for case in cases:
        other = seen.setdefault(case.case.casefold(), case)
        if other is not case:
            raise InputError(
                ErrorCode.NAME_DUPLICATE,
                f"Two cases are named '{case.case}' ({_where(other)} and {_where(case)}). "
                f"{csv_advice()}",
            )
    return list(cases)


def unlike(cases: Sequence[Case], origins: Sequence[str]) -> list[Case]:
    """The cases with names that differ, where different ones became one when they were made safe.

    Args:
        cases: The cases.
        origins: What each was named by, different for each; the same origins give the same names.

    Returns:
        The first of a name keeps it; the others get eight digits of their origin's SHA-256, and
        a note.
    """
    taken = {case.case.casefold() for case in cases}
    seen: set[str] = set()
    found = []
    for case, origin in zip(cases, origins, strict=True):
        name, count = case.case, 0
        while name.casefold() in seen or (count and name.casefold() in taken):
            name = with_digest(case.case, f"{origin}{count or ''}")
            count += 1
        seen.add(name.casefold())
        if name != case.case:
            note = f"called {name}, as another case's name becomes {case.case} as well"
            case = replace(case, case=name, notes=(*case.notes, note))
        found.append(case)
    return found


def _where(case: Case) -> str:
    return case.case if case.private else case.paths[0].name


def describe_cases(cases: Sequence[Case]) -> list[str]:
    """One line for each case: what a study reads, without the files' paths."""
    lines = []
    for case in cases:
        names = case.channels
        parts = [f"{len(case.images)} channels" if len(case.images) > 1 else "1 image"]
        if names:
            parts[0] += f" ({', '.join(names)})"
        count = len(case.segmentations)
        words = f"segmentation in {count} files" if count > 1 else "segmentation"
        parts.append(words if count else "no segmentation")
        if case.label is not None:
            parts.append(f"label {case.label}")
        parts += case.notes
        lines.append(f"{case.case}: {'; '.join(parts)}")
    return lines
