"""Cases from a table: ``case,image,segmentation,label`` or a column for each channel."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.study.case import Case, may_name_patient, safe_name

_KNOWN = ("case", "image", "segmentation", "label", "patient", "split")


def read_cases(
    path: Path, channels: Sequence[str] = (), *, keep_identifiers: bool = False
) -> list[Case]:
    """Reads a CSV of cases; relative paths are relative to the CSV's folder.

    Columns: ``case``; ``image`` (several channels separated by ``;``, each a path
    or ``name=path``) or, instead of ``image``, a column for each channel, named as
    the classifier names it; optionally ``segmentation`` and ``label``, and for a
    training ``patient`` (whose cases stay together) and ``split`` (train, validation
    or test). Where there is an ``image`` column further columns are not used. Comma,
    semicolon and tab all separate columns.

    Args:
        path: The table, UTF-8.
        channels: The classifier's channels; columns of these names are used, in
            this order.
        keep_identifiers: Let outputs name the files of DICOM cases, too.

    Raises:
        InputError: Missing column, duplicate case, missing file, empty cell; the
            message has the line's number.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            ErrorCode.CASES_TABLE, f"{path}: cannot be read as a table of cases ({error})."
        ) from None
    header = text.partition("\n")[0]
    delimiter = next((d for d in (",", "\t", ";") if d in header), ",")
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter, strict=True)
    columns = [(name or "").strip() for name in reader.fieldnames or []]
    reader.fieldnames = columns
    image_columns = _image_columns(path, columns, channels)
    cases: list[Case] = []
    lines: dict[str, int] = {}
    try:
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            case = _case(where, path.parent, row, image_columns, keep_identifiers)
            first = lines.setdefault(case.case.casefold(), reader.line_num)
            if first != reader.line_num:
                raise InputError(
                    ErrorCode.NAME_DUPLICATE,
                    f"{where}: the case '{case.case}' is already on line {first}; "
                    "every case needs a name of its own.",
                )
            cases.append(case)
    except csv.Error as error:
        raise InputError(
            ErrorCode.CASES_TABLE, f"{path}, line {reader.line_num}: not a CSV ({error})."
        ) from None
    if not cases:
        raise InputError(
            ErrorCode.CASES_MISSING, f"{path}: the table has no cases below its header line."
        )
    return cases


def _image_columns(path: Path, columns: Sequence[str], channels: Sequence[str]) -> list[str]:
    if "case" not in columns:
        raise InputError(
            ErrorCode.CASES_TABLE,
            f"{path}, line 1: the column 'case' is missing (found: {', '.join(columns)}); "
            "wanted are case,image,segmentation,label.",
        )
    if len(set(columns)) < len(columns):
        raise InputError(
            ErrorCode.CASES_TABLE, f"{path}, line 1: a column occurs twice ({', '.join(columns)})."
        )
    if "image" in columns:
        return ["image"]
    others = {name.casefold(): name for name in columns if name and name not in _KNOWN}
    missing = [name for name in channels if name.casefold() not in others]
    if not others or (missing and len(channels) > 1):
        wanted = f" or columns for the channels {', '.join(channels)}" if channels else ""
        raise InputError(
            ErrorCode.CASES_TABLE,
            f"{path}, line 1: the column 'image'{wanted} is missing (found: {', '.join(columns)}).",
        )
    if missing:
        return list(others.values())
    return [others[name.casefold()] for name in channels] or list(others.values())


def _case(
    where: str,
    folder: Path,
    row: Mapping[str | None, str | None],
    image_columns: Sequence[str],
    keep_identifiers: bool,
) -> Case:
    if None in row or None in row.values():
        raise InputError(
            ErrorCode.CASES_TABLE, f"{where}: the line has another number of cells than the header."
        )
    cells = {str(name): str(cell).strip() for name, cell in row.items()}
    if not cells["case"]:
        raise InputError(ErrorCode.CASES_TABLE, f"{where}: the cell 'case' is empty.")
    images: list[tuple[str | None, Path]] = []
    for column in image_columns:
        if not cells[column]:
            raise InputError(ErrorCode.CASES_TABLE, f"{where}: the cell '{column}' is empty.")
        if column == "image":
            images += [_named(where, folder, item) for item in cells[column].split(";") if item]
        else:
            images.append((column, _existing(where, folder, cells[column])))
    if len(image_columns) == 1 and len(images) == 1 and image_columns[0] != "image":
        images = [(None, images[0][1])]
    segmentation = cells.get("segmentation", "")
    return Case(
        case=safe_name(cells["case"]),
        images=tuple(images),
        segmentation=_existing(where, folder, segmentation) if segmentation else None,
        label=cells.get("label") or None,
        patient=cells.get("patient") or None,
        split=cells.get("split") or None,
        private=may_name_patient(path for _, path in images) and not keep_identifiers,
    )


def _named(where: str, folder: Path, item: str) -> tuple[str | None, Path]:
    name, separator, path = item.partition("=")
    # A path may hold '=' itself: then it exists as it stands.
    if not separator or (folder / item.strip()).exists():
        return None, _existing(where, folder, item)
    return name.strip(), _existing(where, folder, path)


def _existing(where: str, folder: Path, text: str) -> Path:
    path = folder / Path(text.strip()).expanduser()
    if not path.exists():
        raise InputError(ErrorCode.FILE_MISSING, f"{where}: {path} does not exist.")
    return path
