"""The suffixes of image files: those that are read here, and those that plugins read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from SaliencyExplain.plugins import IMAGE_READERS, Plugin, plugins

VOLUME_SUFFIXES = (
    *(".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh"),
    *(".hdr", ".img"),
)
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_BUILT_IN = (*VOLUME_SUFFIXES, *PICTURE_SUFFIXES)


@cache
def plugin_suffixes() -> Mapping[str, Plugin]:
    """The suffixes in lower case that plugins read, each with its plugin.

    The log names plugins whose name is no suffix, or one that is read without a plugin.
    """
    found: dict[str, Plugin] = {}
    for name, plugin in plugins(IMAGE_READERS).items():
        suffix = name.lower()
        if not suffix.startswith(".") or len(suffix) < 2:
            reason = "its name is no file suffix such as .npz"
        elif suffix.endswith(_BUILT_IN):
            reason = "files of this suffix are read without a plugin"
        elif suffix in found:
            reason = f"{found[suffix].package} has one of the same name"
        else:
            found[suffix] = plugin
            continue
        logging.getLogger(__name__).warning("%s", plugin.refused(reason))
    return found


def image_suffixes() -> tuple[str, ...]:
    """What the name of an image file may end in; the names of DICOM files may end in anything."""
    return (*_BUILT_IN, *plugin_suffixes())


def suffix_of(path: Path) -> str:
    """The longest suffix of an image file in the path's name, in lower case; empty: none."""
    name = path.name.lower()
    found = [suffix for suffix in image_suffixes() if name.endswith(suffix)]
    return max(found, key=len, default="")
