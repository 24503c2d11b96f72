"""The meaning of the columns of a table of cases, under various names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from SaliencyExplain.csv_text import Table
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.plain_text import some_of
from SaliencyExplain.studies.file_names import image_suffix, parse_name, stem

#: The columns that a table of cases may have, each with its other names.
_ALIASES: dict[str, frozenset[str]] = {
    "case": frozenset({"case", "caseid", "casename"}),
    "image": frozenset({"image", "images", "img", "imagepath", "imagefile", "imagefilename"}),
    "segmentation": frozenset(
        {"segmentation", "segmentations", "seg", "segs", "mask", "masks", "labelmap", "gt"}
        | {"groundtruth", "segmentationpath", "segmentationfile", "segpath", "maskpath"}
        | {"maskfile", "maskfilename", "labelpath", "labelfile", "labelfilename"}
    ),
    "label": frozenset(
        {"label", "labels", "class", "classname", "classlabel", "diagnosis", "target", "category"}
        | {"dx", "truelabel", "trueclass"}
    ),
    "patient": frozenset(
        {"patient", "patientid", "subject", "subjectid", "participant", "participantid"}
    ),
    "split": frozenset({"split", "partition"}),
}
#: Names that mean these where no other column does.
_WEAK = {
    "segmentation": frozenset({"roi", "rois", "annotation", "annotations"}),
    "label": frozenset({"y", "group", "finding", "findings"}),
}
#: What the column of the cases is called where none is called so, those that go first first.
_CASE_NAMES = (
    frozenset({"id", "imageid", "study", "studyid", "scan", "scanid", "name", "sample"})
    | frozenset({"sampleid", "identifier"}),
    _ALIASES["patient"],
)
#: All names, for detecting the delimiter of a table.
KNOWN = tuple(
    sorted(
        {
            *_ALIASES,
            *(
                name
                for names in (*_ALIASES.values(), *_WEAK.values(), *_CASE_NAMES)
                for name in names
            ),
        }
    )
)


@dataclass(frozen=True)
class Columns:
    """The table's own names of the columns that are used.

    Attributes:
        case: Of the cases' names; None where they are named after their images' files.
        images: Of the images: one column, or one for each channel.
        by_channel: Whether there is one for each channel.
        segmentation: None where there is none, as for the following.
        label: Of the true classes.
        patient: Of the patients.
        split: Of the parts of a split.
        unused: The others.
    """

    case: str | None
    images: tuple[str, ...]
    by_channel: bool
    segmentation: str | None
    label: str | None
    patient: str | None
    split: str | None
    unused: tuple[str, ...]


def find_columns(where: str, table: Table, channels: Sequence[str]) -> Columns:
    """Assigns a meaning to the columns of a table.

    Case, ``_``, ``-`` and blanks do not count; the plain name (``label``) goes before
    others (``diagnosis``).

    Args:
        where: The table's file and line, for messages.
        table: The table.
        channels: The classifier's channels.

    Raises:
        InputError: There is no column of images, or two columns could be the same.
    """
    names = table.columns
    plain = {name: _plain(name) for name in names}
    wanted = {_plain(channel) for channel in channels}
    image = _the(where, names, plain, "image", frozenset())
    # Without an image column, a column 'mask' or 'target' may be a channel of that name.
    taken = frozenset() if image else frozenset(wanted)
    case = _the(where, names, plain, "case", taken)
    others = {
        meaning: _the(where, names, plain, meaning, taken)
        for meaning in ("segmentation", "label", "patient", "split")
    }
    for meaning in _WEAK:
        others[meaning] = others[meaning] or _weak(table, plain, meaning, taken)
    case = case or _case_column(table, plain, taken)
    images = (image,) if image else _channel_columns(where, names, plain, channels, case, others)
    used = {case, *images, *others.values()}
    return Columns(
        case=case,
        images=tuple(images),
        by_channel=image is None,
        unused=tuple(name for name in names if name not in used),
        **others,
    )


def case_names(table: Table, columns: Columns) -> dict[int, str]:
    """What the case of each line is called: its cell, else the file of its first image.

    The files' names where they differ, else the paths.
    """
    if columns.case is not None:
        return {line: cells[columns.case] for line, cells in table.rows}
    paths = {
        line: next(iter(items(cells[columns.images[0]])), "").rpartition("=")[2].replace("\\", "/")
        for line, cells in table.rows
    }
    stems = {line: parse_name(Path(path)).key or stem(Path(path)) for line, path in paths.items()}
    return stems if len({one.casefold() for one in stems.values()}) == len(stems) else paths


def items(cell: str) -> list[str]:
    """The files that a cell names, separated by ``;``."""
    return [item.strip() for item in cell.split(";") if item.strip()]


def _the(
    where: str,
    names: Sequence[str],
    plain: dict[str, str],
    meaning: str,
    taken: frozenset[str],
) -> str | None:
    found = [n for n in names if plain[n] in _ALIASES[meaning] and plain[n] not in taken]
    exact = [n for n in found if plain[n] == meaning]
    if len(exact or found) > 1:
        raise InputError(
            ErrorCode.CASES_TABLE,
            f"{where}: {some_of(exact or found, 20)} could each be the column '{meaning}'; name "
            f"one of them '{meaning}'.",
        )
    return next(iter(exact or found), None)


def _weak(table: Table, plain: dict[str, str], meaning: str, taken: frozenset[str]) -> str | None:
    """The one column whose name may mean this, and whose cells do not contradict it."""
    found = [n for n in table.columns if plain[n] in _WEAK[meaning] and plain[n] not in taken]
    if len(found) != 1 or (plain[found[0]] == "y" and "x" in plain.values()):
        return None
    cells = [row[found[0]] for _, row in table.rows]
    files = [cell for cell in cells if _is_file(cell)]
    if meaning == "segmentation":
        return found[0] if files else None
    return None if files else found[0]


def _case_column(table: Table, plain: dict[str, str], taken: frozenset[str]) -> str | None:
    """The one column that usually names cases, where its cells are different from each other.

    The column of the patients is the one of the cases, too, where each has one case.
    """
    for known in _CASE_NAMES:
        found = [n for n in table.columns if plain[n] in known and plain[n] not in taken]
        if len(found) == 1:
            cells = [row[found[0]] for _, row in table.rows]
            if all(cells) and len(set(cells)) == len(cells):
                return found[0]
    return None


def _channel_columns(
    where: str,
    names: Sequence[str],
    plain: dict[str, str],
    channels: Sequence[str],
    case: str | None,
    others: dict[str, str | None],
) -> list[str]:
    free = [name for name in names if name != case and name not in others.values()]
    by_plain = {plain[name]: name for name in free}
    missing = [channel for channel in channels if _plain(channel) not in by_plain]
    if not free or (missing and len(channels) > 1):
        words = f" or columns for the channels {', '.join(channels)}" if channels else ""
        raise InputError(
            ErrorCode.CASES_TABLE,
            f"{where}: the column 'image'{words} is missing (found: {some_of(names, 20)}).",
        )
    if channels and not missing:
        return [by_plain[_plain(channel)] for channel in channels]
    return free


def _is_file(cell: str) -> bool:
    return bool(image_suffix(Path(cell))) or cell.lower().endswith(".dcm")


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-.]+", "", name).casefold()
