"""Headers of DICOM files: the kind of a file, and checks before its pixels are read."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path
from typing import Literal

from pydicom.datadict import dictionary_has_tag
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)
from pydicom.valuerep import VR

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.dicom_file import read_dicom

# Warnings and log messages of pydicom and highdicom quote values of the header, which may identify
# a patient.
warnings.filterwarnings("ignore", module=r"(pydicom|highdicom)\b")
for _name in ("pydicom", "highdicom"):
    # Without a handler Python writes them to standard error.
    logging.getLogger(_name).addHandler(logging.NullHandler())

#: Modalities whose objects describe images and are not images themselves.
NOT_IMAGES: tuple[str, ...] = (
    *("SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "RTRECORD", "SR", "PR", "KO", "REG", "FID"),
    *("RWV", "DOC", "PLAN", "ECG", "AU", "HD", "EPS", "SMR", "STAIN"),
)

#: Exceptions of pydicom and highdicom for files that are cut off or damaged.
DAMAGED = (
    InvalidDicomError,
    BytesLengthException,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    NotImplementedError,
    RecursionError,
)

#: Ending of the standard's names of SOP classes of images.
_IMAGE = "Image Storage"
#: NumberOfImagesInMosaic, of Siemens' private group 0019.
_MOSAIC_IMAGES = 0x0A

#: File name endings of DICOM files.
DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")

_VR_NAMES = frozenset(vr.value.encode() for vr in VR if len(vr.value) == 2)
#: Types whose length has four bytes, after two empty ones.
_LONG_VR_NAMES = frozenset((b"OB", b"OW", b"OF", b"OD", b"SQ", b"UN", b"UT", b"UC", b"UR"))


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its first bytes, independent of its name.

    Old files without the preamble of 128 bytes begin with an element of group 0002 or 0008.
    """
    with path.open("rb") as file:
        head = file.read(264)
    # An empty .dcm file is the result of a failed copy.
    empty = not head and path.suffix.lower() in DICOM_SUFFIXES
    return empty or head[128:132] == b"DICM" or _begins_with_an_element(head)


def _begins_with_an_element(head: bytes) -> bool:
    """Whether the bytes are a possible first data element of a file without preamble."""
    orders: tuple[Literal["little", "big"], ...] = ("little", "big")
    for order in orders if len(head) >= 132 else ():
        group, element = _tag(head, 0, order)
        if group not in (2, 8):
            continue
        explicit = head[4:6] in _VR_NAMES
        if not explicit and (order == "big" or not dictionary_has_tag((group << 16) | element)):
            continue
        if explicit and head[4:6] in _LONG_VR_NAMES:
            following = 12 + int.from_bytes(head[8:12], order)
        else:
            following = 8 + int.from_bytes(head[6:8] if explicit else head[4:8], order)
        # The next element has a larger tag, in this group or one of the next few.
        if following + 4 <= len(head):
            after = _tag(head, following, order)
            if (group, element) < after and after[0] <= 0x10:
                return True
        elif explicit:
            return True
    return False


def _tag(head: bytes, place: int, order: Literal["little", "big"]) -> tuple[int, int]:
    element = place + 2
    return (
        int.from_bytes(head[place:element], order),
        int.from_bytes(head[element : element + 2], order),
    )


def damaged(path: Path, error: Exception) -> InputError:
    """The error for a DICOM file that cannot be read, without values of its header."""
    return InputError(
        ErrorCode.FILE_DAMAGED,
        f"{path}: cannot be read as DICOM, it may be damaged or cut off ({type(error).__name__}).",
    )


def read_header(path: Path, tags: list[str] | None = None) -> Dataset:
    """Reads a header without its pixels.

    Args:
        path: The file, with or without preamble.
        tags: Keywords of the elements to read; all by default.

    Raises:
        InputError: The file is damaged.
    """
    try:
        header = read_dicom(path, force=True, stop_before_pixels=True, specific_tags=tags)
        # Values are decoded on access, which is when damaged ones raise.
        for keyword in tags or ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"):
            header.get(keyword)
    except DAMAGED as error:
        raise damaged(path, error) from error
    return header


def text(header: Dataset, keyword: str) -> str:
    """The value of an element as text, empty where it is absent or empty."""
    value = header.get(keyword)
    return "" if value is None else str(value)


def code(header: Dataset, keyword: str) -> str:
    """The value of an element that is a code, for messages.

    In a damaged file an element may extend over those that identify the patient.
    """
    value = text(header, keyword)
    return value if re.fullmatch(r"[\w /%.\-\\]{0,16}", value) else "an unreadable value"


def number(header: Dataset, keyword: str) -> float | None:
    """The value of an element that holds one number; None where it is absent or empty.

    Raises:
        ValueError: It does not hold one number.
    """
    value = header.get(keyword)
    if value is None or value == "":
        return None
    return float(value)


def is_index(header: Dataset) -> bool:
    """Whether a file is a DICOMDIR, the index of a medium, and not an object."""
    meta = getattr(header, "file_meta", None)
    kind = meta.get("MediaStorageSOPClassUID") if meta else None
    return kind == MediaStorageDirectoryStorage or "DirectoryRecordSequence" in header


def is_cut_off(header: Dataset) -> bool:
    """Whether a header ends before the file's SOP class, or before the image's size."""
    if header.get("Rows") or is_index(header):
        return False
    meta = getattr(header, "file_meta", None)
    sop_class = text(header, "SOPClassUID")
    if not sop_class and meta:
        sop_class = text(meta, "MediaStorageSOPClassUID")
    if not text(header, "Modality"):
        return not sop_class or _IMAGE in UID(sop_class).name
    return not text(header, "SeriesInstanceUID") and _IMAGE in UID(sop_class).name


def is_other_object(header: Dataset) -> bool:
    """Whether the SOP class is a standard one that is not for images."""
    name = UID(text(header, "SOPClassUID")).name
    return name.endswith("Storage") and not name.endswith(_IMAGE)


def kind_of(header: Dataset) -> str:
    """The kind of an object, for messages: its modality, or the name of its SOP class."""
    modality = code(header, "Modality")
    sop_class = UID(text(header, "SOPClassUID"))
    return modality or (sop_class.name if sop_class.name != sop_class else "of no known kind")


def has_place(header: Dataset) -> bool:
    """Whether an image has a position in the patient."""
    return bool(header.get("ImagePositionPatient")) or any(
        header.get(keyword)
        for keyword in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
    )


def is_mosaic(header: Dataset) -> bool:
    """Whether the slices of a volume lie side by side in one 2D image (Siemens)."""
    if "MOSAIC" in (header.get("ImageType") or []):
        return True
    try:
        count = header.private_block(0x0019, "SIEMENS MR HEADER")[_MOSAIC_IMAGES].value
    except KeyError:
        return False
    return count not in (None, "", b"", 0, 1)


def check_image(path: Path, header: Dataset) -> None:
    """Raises InputError if an object is not an image that can be read as grey values."""
    if is_index(header):
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{path}: is a DICOMDIR, the index of a medium, and holds no image. Give the folder of "
            "the images.",
        )
    modality = text(header, "Modality")
    if modality in NOT_IMAGES:
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{path}: this DICOM file is a {modality} object and not an image. Give the file or "
            "folder of an image.",
        )
    if not header.get("Rows") or not header.get("Columns"):
        raise InputError(
            ErrorCode.IMAGE_AXES,
            f"{path}: this DICOM file ({kind_of(header)}) holds no image, or is cut off. Give the "
            "file or folder of an image.",
        )
    _check_size(path, header)
    if is_mosaic(header):
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{path}: is a Siemens mosaic, one 2D image with all slices of a volume side by side. "
            "Convert it to a volume first, for example with dcm2niix.",
        )
    try:
        stored, high = number(header, "BitsStored"), number(header, "HighBit")
    except DAMAGED as error:
        raise damaged(path, error) from error
    if stored is not None and high is not None and high != stored - 1:
        raise InputError(
            ErrorCode.IMAGE_VOXEL_TYPE,
            f"{path}: the {stored:g} bits of its pixels end at bit {high:g} instead of "
            f"{stored - 1:g} (HighBit), which is not supported. Convert it first.",
        )


def _check_size(path: Path, header: Dataset) -> None:
    """Refuses a file that is smaller than its pixels, before memory is allocated for them."""
    meta = getattr(header, "file_meta", None)
    syntax = UID(text(meta, "TransferSyntaxUID")) if meta else UID("")
    if syntax not in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, ""):
        return
    samples, bits, frames = (
        int(number(header, keyword) or 1)
        for keyword in ("SamplesPerPixel", "BitsAllocated", "NumberOfFrames")
    )
    if text(header, "PhotometricInterpretation") == "YBR_FULL_422":
        samples = 2
    stated = int(header.Rows) * int(header.Columns) * samples * frames * bits // 8
    held = path.stat().st_size
    if held < stated:
        raise InputError(
            ErrorCode.FILE_DAMAGED,
            f"{path}: is cut off or damaged: its header states {stated} bytes of pixels, and the "
            f"file has {held} bytes. Copy it again.",
        )
