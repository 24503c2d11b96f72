"""One case of a study: its images, its segmentation, its label."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.volume_reading import SUFFIXES, short_name

#: Longest file name part in bytes; with a method, a layer and a suffix the whole
#: name stays below the 255 bytes that common file systems allow.
_LONGEST_NAME = 100
_ID = re.compile(r"^(?=.*[\d^]).{5,}$")
_WINDOWS_DEVICES = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)}
)


#: The target of a study that explains each case for its own label.
LABEL = "label"


@dataclass(frozen=True)
class Case:
    """One case of a study.

    Attributes:
        case: Its name: unique in the study, safe as a folder name. Cases of DICOM
            trees are named ``case-001`` and on, because DICOM folders are often
            named by patient IDs.
        images: ``(channel name or None, path)`` for each channel, in the classifier's
            order where it is known. A path is a file, or a folder of DICOM slices.
        segmentation: The segmentation's file, if there is one.
        label: The true class, if it is known.
        series: SeriesInstanceUID of the image where its folder holds several series.
        private: Whether paths of this case may hold a patient's name or ID: they then
            appear in no output.
        notes: What discovery guessed or left out, to be said aloud.
        patient: Whose images these are, where it is known: only to keep a patient's cases in
            one part of a split; it appears in no output.
        split: The part of a split that the case is for, where its table or folder says it.
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
        for path in [*self.paths, *([self.segmentation] if self.segmentation else [])]:
            word = _public_word(path, self)
            if len(path.parent.parts) > 1:
                spelled[str(path.parent)] = f"the folder of {self.case}"
            # A folder's bare name only where it looks like an ID rather than like a word.
            if _ID.search(path.name) or not path.is_dir():
                spelled[path.name] = word
            spelled |= {str(path): word, **_files_within(path, word)}
        # Longest first: a folder's path is the start of its files' paths. Whole names only:
        # the folder "." or the file "1" is a part of many a number.
        for name in sorted(spelled, key=len, reverse=True):
            text = re.sub(rf"(?<![\w.]){re.escape(name)}(?!\w)", spelled[name], text)
        return text


def _public_word(path: Path, case: Case) -> str:
    kind = "segmentation" if path == case.segmentation else "image"
    return f"the {kind} of {case.case}"


def _files_within(folder: Path, word: str) -> dict[str, str]:
    """What stands for the files of a DICOM folder, whose names often hold the patient's."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    spelled = {str(file): f"file {n} of {word}" for n, file in enumerate(files, start=1)}
    return spelled | {
        file.name: f"file {n}"
        for n, file in enumerate(files, start=1)
        if len(file.name) > 4 or not file.name.isdecimal()
    }


def may_name_patient(paths: Iterable[Path]) -> bool:
    """Whether one of the paths is DICOM, whose files and folders are often named by patients.

    Whatever has no image format's ending is a DICOM file or folder.
    """
    return any(not path.name.lower().endswith(SUFFIXES) for path in paths)


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
            IDs; a second DICOM case in the same output folder needs a name of its own.
        series: SeriesInstanceUID of the image where its folder holds several series.
        keep_identifiers: Name DICOM cases by their files, too.
    """
    paths = [path for _, path in images]
    private = may_name_patient(paths) and not keep_identifiers
    if name is None:
        name = "case-001" if private else short_name(paths[0])
    return Case(safe_name(name), tuple(images), segmentation, series=series, private=private)


def safe_name(text: str) -> str:
    """Makes a case's, class's or layer's name safe as part of a file name.

    Letters and digits of any script and ``. _ - + @ =`` stay; everything else
    (spaces, slashes, colons, control characters) becomes ``_``. Dots and
    underscores at the ends go, so that no name is hidden or climbs out of its
    folder. Names that Windows keeps for devices get an underscore. Names over
    100 bytes are cut and end in eight digits of their SHA-256.

    Args:
        text: Any text.

    Returns:
        The name; the same text gives the same name.
    """
    text = unicodedata.normalize("NFC", text)
    name = "".join(c if c.isalnum() or c in "._-+@=" else "_" for c in text)
    while "__" in name:
        name = name.replace("__", "_")
    name = name.strip("._ ") or "unnamed"
    if name.split(".")[0].lower() in _WINDOWS_DEVICES:
        name = f"{name}_"
    if len(name.encode()) > _LONGEST_NAME:
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        name = f"{name.encode()[: _LONGEST_NAME - 9].decode(errors='ignore')}-{digest}"
    return name


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


def csv_advice(columns: Iterable[str] = ("image",)) -> str:
    """How a CSV of cases solves what discovery cannot, as the end of a message."""
    header = ",".join(("case", *columns, "segmentation", "label"))
    return f"A CSV with the columns {header} says which files belong together."


def _where(case: Case) -> str:
    return case.case if case.private else case.paths[0].name


def describe_cases(cases: Sequence[Case], *, paths: bool = False) -> list[str]:
    """One line for each case: what a study of them would read.

    Args:
        cases: The cases.
        paths: Whether to show the files' paths, also those that may name patients.
    """
    lines = []
    for case in cases:
        names = case.channels
        parts = [f"{len(case.images)} channels" if len(case.images) > 1 else "1 image"]
        if names:
            parts[0] += f" ({', '.join(names)})"
        parts.append("segmentation" if case.segmentation else "no segmentation")
        if case.label is not None:
            parts.append(f"label {case.label}")
        parts += case.notes
        if paths:
            files = [*case.paths, *([case.segmentation] if case.segmentation else [])]
            parts += [str(path) for path in files]
        lines.append(f"{case.case}: {'; '.join(parts)}")
    return lines
