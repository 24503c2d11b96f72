"""The MATLAB files of the brain tumour set: a slice, its class and the tumour's mask in one.

The set is Cheng, "brain tumor dataset", figshare 1512427: 3,064 contrast-enhanced T1 slices
of 233 patients (Cheng et al. 2015, PLoS ONE 10(10): e0140381). Each file is MATLAB 7.3, which
is HDF5, with a structure ``cjdata`` of image, label, PID, tumorBorder and tumorMask.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import LPS_TO_RAS
from SaliencyExplain.images.apart import apart
from SaliencyExplain.images.image_reader import ImageReader
from SaliencyExplain.images.label_types import Label, LabelMap
from SaliencyExplain.images.sizes import DEFLATED, check_memory, check_sizes, check_stored
from SaliencyExplain.images.volume import Volume
from SaliencyExplain.images.volume_files import unreadable

SUFFIX = ".mat"
#: What ``cjdata/label`` means, by the set's own description.
CLASSES = {1: "meningioma", 2: "glioma", 3: "pituitary"}
#: Field of view in mm: Cheng et al. 2015 give 512 pixels of 0.49 mm, and the files nothing.
_FIELD_MM = 512 * 0.49
_STRUCTURE = "cjdata"
_HDF5 = b"\x89HDF\r\n\x1a\n"
#: MATLAB puts a header of its own before the HDF5 file.
_OFFSETS = (0, 512, 1024, 2048)


@dataclass(frozen=True)
class TumourSlice:
    """What a file says besides its voxels.

    Attributes:
        label: ``meningioma``, ``glioma`` or ``pituitary``.
        patient: Whose slice it is; for keeping slices of a patient together, and no output.
    """

    label: str
    patient: str


class TumourSliceReader(ImageReader):
    """Reads a file of the set as an image, or as a segmentation."""

    def read(self, path: Path, *, several: bool = False, colour: bool = False) -> Volume:
        """Reads the slice; see :func:`read_slice`."""
        return read_slice(path, colour)

    def read_labels(self, path: Path) -> LabelMap | None:
        """Reads the tumour's mask; see :func:`read_tumour`."""
        return read_tumour(path)


@apart
def read_slice(path: Path, colour: bool = False) -> Volume:
    """Reads the image: axes (columns, rows), taken to run to the patient's left and back.

    Args:
        path: The file.
        colour: Three equal layers, for a classifier of colour pictures.

    Raises:
        InputError: It is damaged, of another kind, or the package h5py is missing.
    """
    image = _array(path, "image")
    spacing = _FIELD_MM / max(image.shape)
    affine = LPS_TO_RAS @ np.diag([spacing, spacing, 1.0, 1.0])
    note = (
        f"the file says neither its plane nor the size of its pixels: {spacing:.2f} mm is taken, "
        "from the description of the set"
    )
    layers = np.repeat(image[np.newaxis].astype(np.float64), 3 if colour else 1, axis=0)
    return Volume(layers, affine, (note,), modality="MR", colour=colour)


@apart
def read_tumour(path: Path) -> LabelMap:
    """Reads the tumour's mask, on the grid of :func:`read_slice`.

    Raises:
        InputError: As :func:`read_slice`, or mask and image differ in size.
    """
    mask, volume = _array(path, "tumorMask"), read_slice(path)
    if mask.shape != volume.values.shape[1:]:
        raise InputError(
            ErrorCode.GRID_MISMATCH,
            f"{path}: its tumour mask has {mask.shape[0]} x {mask.shape[1]} pixels, and its image "
            f"{' x '.join(map(str, volume.values.shape[1:]))}.",
        )
    return LabelMap((mask != 0)[np.newaxis], volume.affine, (Label("tumour", None, 0, 1),))


@apart
def read_description(path: Path) -> TumourSlice:
    """Reads class and patient.

    Raises:
        InputError: As :func:`read_slice`, or the label is none of :data:`CLASSES`.
    """
    values = _fields(path, ("label", "PID"))
    label = values["label"].reshape(-1)
    if label.size != 1 or int(label[0]) not in CLASSES:
        known = ", ".join(f"{number} {name}" for number, name in CLASSES.items())
        raise InputError(
            ErrorCode.LABELS, f"{path}: its label is {label.tolist()}, which is none of {known}."
        )
    # Text is an array of UTF-16 code units in MATLAB.
    patient = "".join(chr(int(unit)) for unit in values["PID"].reshape(-1))
    return TumourSlice(CLASSES[int(label[0])], patient)


@apart
def is_tumour_slice(path: Path) -> bool:
    """Whether the file has the structure of the set; False for other MATLAB files.

    Raises:
        InputError: It cannot be opened, or the package h5py is missing.
    """
    with _opened(path) as file:
        return _STRUCTURE in file


def _array(path: Path, field: str) -> NDArray[Any]:
    # MATLAB stores columns first, and HDF5 names its axes the other way round: what h5py gives
    # is (columns, rows), the axes of a picture here.
    values = _fields(path, (field,))[field]
    if values.ndim != 2 or min(values.shape) < 2 or values.dtype.kind not in "buif":
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{path}: its {_STRUCTURE}/{field} is an array of {values.shape}, and no picture.",
        )
    return values


def _fields(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    with _opened(path) as file:
        found = file.get(_STRUCTURE)
        if found is None or not hasattr(found, "keys"):
            raise InputError(
                ErrorCode.FILE_FORMAT,
                f"{path}: is no file of the brain tumour set; it has no structure '{_STRUCTURE}' "
                f"(it holds {', '.join(list(file.keys())[:5]) or 'nothing'}).",
            )
        missing = [name for name in names if name not in found]
        if missing:
            raise InputError(
                ErrorCode.FILE_FORMAT, f"{path}: its '{_STRUCTURE}' lacks {', '.join(missing)}."
            )
        return {name: _values(path, found, name) for name in names}


def _values(path: Path, group: Any, name: str) -> NDArray[Any]:
    """The values of a dataset that lies in the file itself and fits the memory."""
    h5py = importlib.import_module("h5py")
    dataset = group[name]
    outside = isinstance(group.get(name, getlink=True), h5py.ExternalLink)
    # A structure that links elsewhere has the other file.
    outside = outside or Path(dataset.file.filename).resolve() != path.resolve()
    if outside or not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{path}: its {_STRUCTURE}/{name} is no array in the file itself, and what lies in "
            "other files is not read.",
        )
    size = dataset.dtype.itemsize
    check_sizes(path, dataset.shape or (1,))
    check_memory(path, dataset.size, size, stored=path.stat().st_size)
    # 1032: what DEFLATE, the only filter of MATLAB's files, makes of a byte at most.
    check_stored(path, dataset.size * size, path.stat().st_size, DEFLATED)
    return np.asarray(dataset)


def _opened(path: Path) -> Any:
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        raise InputError(
            ErrorCode.PACKAGE_MISSING,
            f"{path}: MATLAB files are read with the package h5py: pip install h5py.",
        ) from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        try:
            with path.open("rb") as file:
                start = file.read(max(_OFFSETS) + len(_HDF5))
        except OSError as other:
            raise InputError(
                ErrorCode.FILE_UNREADABLE, f"{path}: cannot be opened ({other.strerror})."
            ) from other
        if any(start[offset:].startswith(_HDF5) for offset in _OFFSETS):
            raise unreadable(path, error) from error
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{path}: is no MATLAB 7.3 file. Older ones are converted by MATLAB: load it, then "
            "save with -v7.3.",
        ) from error
