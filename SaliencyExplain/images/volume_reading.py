"""Reading the voxels of any format as they are; needs no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images import matlab, meta_image, nrrd, raster
from SaliencyExplain.images.apart import apart
from SaliencyExplain.images.dicom_header import is_dicom
from SaliencyExplain.images.dicom_series import choose_series
from SaliencyExplain.images.dicom_slices import read_slices
from SaliencyExplain.images.input_file import check_exists
from SaliencyExplain.images.volume import Volume
from SaliencyExplain.images.volume_files import NIBABEL_SUFFIXES, read_nibabel

#: What an image file may end in; DICOM files may end in anything.
SUFFIXES = (
    *NIBABEL_SUFFIXES,
    *nrrd.SUFFIXES,
    *meta_image.SUFFIXES,
    *raster.SUFFIXES,
    matlab.SUFFIX,
)


def short_name(path: Path) -> str:
    """A name for an image: its file's without the format's ending, or its folder's."""
    name = path.name or path.resolve().name
    for suffix in (".seg.nrrd", *sorted(SUFFIXES, key=len, reverse=True), ".dcm", ".ima"):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


@apart
def read_volume(
    path: Path, *, series: str | None = None, several: bool = False, colour: bool = False
) -> Volume:
    """Reads any format as it is, before any check of its values.

    Args:
        path: A file, or a folder of DICOM slices (folders within included).
        series: SeriesInstanceUID, where a folder holds several series.
        several: Whether several layers may come back (label maps).
        colour: Whether a picture's colours are kept as three layers.

    Raises:
        InputError: It is missing, of no known format, unreadable or ambiguous.
    """
    check_exists(path)
    if path.is_dir():
        chosen = choose_series(path, series)
        volume = read_slices(path, chosen.files)
        return replace(volume, notes=(*volume.notes, *chosen.notes))
    if is_dicom(path):
        return read_slices(path, [path])
    name = path.name.lower()
    if name.endswith(NIBABEL_SUFFIXES):
        return read_nibabel(path, several)
    if name.endswith(nrrd.SUFFIXES):
        return nrrd.read_nrrd(path, several)
    if name.endswith(meta_image.SUFFIXES):
        return meta_image.read_meta_image(path, several)
    if name.endswith(raster.SUFFIXES):
        return raster.read_raster(path, colour)
    if name.endswith(matlab.SUFFIX):
        return matlab.read_slice(path, colour)
    raise InputError(
        ErrorCode.FILE_FORMAT,
        f"{path}: is no image of a known format. Known: {', '.join(SUFFIXES)} and DICOM.",
    )
