"""The reader of each suffix: those of the formats that are read here, and plugins."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from SaliencyExplain.images import meta_image, nrrd, raster
from SaliencyExplain.images.file_suffixes import plugin_suffixes, suffix_of
from SaliencyExplain.images.image_reader import ImageReader
from SaliencyExplain.images.label_types import LabelMap
from SaliencyExplain.images.mask_pictures import from_picture
from SaliencyExplain.images.volume import Volume, checked_affine, one_number
from SaliencyExplain.images.volume_files import NIBABEL_SUFFIXES, read_nibabel
from SaliencyExplain.plugins import Plugin


def find_reader(path: Path) -> ImageReader | None:
    """The reader of a file by its name; None: no format is known by this suffix.

    Raises:
        InputError: The plugin that reads this suffix cannot be used.
    """
    suffix = suffix_of(path)
    if suffix in _BUILT_IN:
        return _BUILT_IN[suffix]
    return _PluginReader(plugin_suffixes()[suffix]) if suffix else None


class _NibabelReader(ImageReader):
    def read(self, path: Path, *, several: bool = False, colour: bool = False) -> Volume:
        return read_nibabel(path, several)


class _NrrdReader(ImageReader):
    def read(self, path: Path, *, several: bool = False, colour: bool = False) -> Volume:
        return nrrd.read_nrrd(path, several)


class _MetaImageReader(ImageReader):
    def read(self, path: Path, *, several: bool = False, colour: bool = False) -> Volume:
        return meta_image.read_meta_image(path, several)


class _PictureReader(ImageReader):
    def read(self, path: Path, *, several: bool = False, colour: bool = False) -> Volume:
        return raster.read_raster(path, colour)

    def read_labels(self, path: Path) -> LabelMap | None:
        return from_picture(path)


_BUILT_IN: dict[str, ImageReader] = {
    **dict.fromkeys(NIBABEL_SUFFIXES, _NibabelReader()),
    **dict.fromkeys(nrrd.SUFFIXES, _NrrdReader()),
    **dict.fromkeys(meta_image.SUFFIXES, _MetaImageReader()),
    **dict.fromkeys(raster.SUFFIXES, _PictureReader()),
}


class _PluginReader(ImageReader):
    """The reader of a plugin, with checks of what it returns."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin
        self._reader = _loaded(plugin)

    def read(self, path: Path, *, several: bool = False, colour: bool = False) -> Volume:
        volume = self._reader.read(path, several=several, colour=colour)
        if not isinstance(volume, Volume):
            raise self._plugin.refused(f"it returns a {type(volume).__name__} and no Volume")
        values, affine = np.asarray(volume.values), np.asarray(volume.affine)
        if values.dtype.kind not in "buif" or values.ndim not in (3, 4) or not values.size:
            raise self._plugin.refused(
                f"it returns values of {values.shape} in {values.dtype}, and no numbers of "
                "(layers, *axes) with 2 or 3 axes"
            )
        if affine.shape != (4, 4):
            raise self._plugin.refused(f"it returns an affine of {affine.shape} and not of (4, 4)")
        checked_affine(path, affine)
        if not (colour and volume.colour and len(values) == 3):
            sizes = (*values.shape[1:], *(1,) * (4 - values.ndim), len(values))
            one_number(path, 1, sizes, several)
        return replace(volume, values=values, affine=affine.astype(np.float64))

    def read_labels(self, path: Path) -> LabelMap | None:
        labels = self._reader.read_labels(path)
        if labels is not None and not isinstance(labels, LabelMap):
            raise self._plugin.refused(f"it returns a {type(labels).__name__} and no LabelMap")
        return labels


@cache
def _loaded(plugin: Plugin) -> ImageReader:
    kind = plugin.load()
    known = isinstance(kind, type) and issubclass(kind, ImageReader)
    if not known or inspect.isabstract(kind):
        raise plugin.refused(f"{plugin.target} is no class derived from ImageReader with a read()")
    try:
        reader: ImageReader = kind()
    except Exception as error:
        raise plugin.refused(f"{plugin.target}(): {type(error).__name__}: {error}") from error
    return reader
