"""Reading the unchanged voxels of any format, without torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.apart import apart
from SaliencyExplain.images.dicom_header import is_dicom
from SaliencyExplain.images.dicom_series import choose_series
from SaliencyExplain.images.dicom_slices import read_slices
from SaliencyExplain.images.file_suffixes import image_suffixes
from SaliencyExplain.images.input_file import check_exists
from SaliencyExplain.images.reader_registry import find_reader
from SaliencyExplain.images.volume import Volume


def short_name(path: Path) -> str:
    """A name for an image: the file's name without the format's suffix, or the folder's name."""
    name = path.name or path.resolve().name
    for suffix in (".seg.nrrd", *sorted(image_suffixes(), key=len, reverse=True), ".dcm", ".ima"):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


@apart
def read_volume(
    path: Path, *, series: str | None = None, several: bool = False, colour: bool = False
) -> Volume:
    """Reads any format without checks of its values.

    Args:
        path: A file, or a folder of DICOM slices (including subfolders).
        series: SeriesInstanceUID, if a folder holds several series.
        several: Whether several layers may be returned (label maps).
        colour: Whether a picture's colours are returned as three layers.

    Raises:
        InputError: It is missing, of unknown format, unreadable or ambiguous.
    """
    check_exists(path)
    if path.is_dir():
        chosen = choose_series(path, series)
        volume = read_slices(path, chosen.files)
        return replace(volume, notes=(*volume.notes, *chosen.notes))
    if is_dicom(path):
        return read_slices(path, [path])
    found = find_reader(path)
    if found is None:
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{path}: is not an image of a supported format. Use {', '.join(image_suffixes())} or "
            "DICOM.",
        )
    return found.read(path, several=several, colour=colour)
