"""Pixels of DICOM files, converted to the quantities that they represent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from scipy import ndimage

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.dicom_file import read_dicom
from SaliencyExplain.images.dicom_header import DAMAGED, damaged, number, text
from SaliencyExplain.images.sizes import check_memory, check_sizes

#: Hounsfield units of air.
_AIR = -1000.0
#: Hounsfield units below which there is no tissue, and rarely noise in air.
_LEAST_HOUNSFIELD = -1100.0
#: Padding within this share of the image's range of values below it still counts as background.
_NEAR = 0.05
#: Elements that may contain pixels.
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_COLOURS = ("Red", "Green", "Blue")


def read_stored(path: Path) -> tuple[NDArray[Any], Dataset]:
    """Decodes the pixels of a file.

    Args:
        path: The file, in any transfer syntax for which a decoder is installed.

    Returns:
        (rows, columns), or (frames, rows, columns) for a multi-frame object, in stored numbers;
        for a palette or colours that are all grey, the grey values. And the whole dataset.

    Raises:
        InputError: It is damaged, no decoder is installed for its transfer syntax, its
            number of frames is not the stated one, or it holds colours.
    """
    try:
        dataset = read_dicom(path, force=True)
        syntax = _transfer_syntax(dataset)
    except DAMAGED as error:
        raise damaged(path, error) from error
    _check_described(path, dataset)
    _check_decoder(path, syntax)
    _check_size(path, dataset)
    try:
        stored = pixel_array(dataset)
        frames = int(dataset.get("NumberOfFrames") or 1)
        samples = int(dataset.get("SamplesPerPixel") or 1)
    except RuntimeError as error:
        raise InputError(
            ErrorCode.FILE_DAMAGED,
            f"{path}: its pixels ({_named(syntax)}) cannot be decoded. The file is damaged, or "
            "the installed decoders do not support it. Convert it to an uncompressed DICOM file "
            "first.",
        ) from error
    except (*DAMAGED, MemoryError) as error:
        raise damaged(path, error) from error
    held = stored.shape[0] if stored.ndim - (samples > 1) == 3 else 1
    if held != frames:
        raise InputError(
            ErrorCode.FILE_DAMAGED,
            f"{path}: its header states {frames} frames, but it has pixels of {held} frames. "
            "Export it again.",
        )
    return _grey(path, stored, dataset, samples), dataset


def _transfer_syntax(dataset: Dataset) -> UID:
    if "TransferSyntaxUID" not in dataset.file_meta:
        # Files without preamble do not state their encoding; pydicom has determined it.
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return UID(dataset.file_meta.TransferSyntaxUID)


def _check_described(path: Path, dataset: Dataset) -> None:
    """Raises InputError if the header lacks elements that the pixels require."""
    held = next((keyword for keyword in _PIXELS if keyword in dataset), None)
    needed = ["SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated"]
    needed += ["BitsStored", "PixelRepresentation"] if held == "PixelData" else []
    absent = [keyword for keyword in needed if text(dataset, keyword) == ""]
    absent += [] if held else ["PixelData"]
    if absent:
        raise InputError(
            ErrorCode.FILE_DAMAGED,
            f"{path}: its header lacks {', '.join(absent)}, which decoding the pixels requires. "
            "The file may be cut off; copy or export it again.",
        )
    bits = dataset.BitsAllocated
    if bits not in (1, 8, 16, 32, 64):
        raise InputError(
            ErrorCode.IMAGE_VOXEL_TYPE,
            f"{path}: its pixels have {bits} bits (BitsAllocated), which is not supported. "
            "Convert it first.",
        )


def _named(syntax: UID) -> str:
    """The name of a transfer syntax, for messages; a damaged UID is not shown."""
    return syntax.name if syntax.name != syntax else "an unknown transfer syntax"


def _check_decoder(path: Path, syntax: UID) -> None:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{path}: its pixels are stored as {_named(syntax)}, for which no decoder exists. "
            "Convert it to an uncompressed DICOM file first.",
        ) from error
    if not decoder.is_available:
        needed = "; or ".join(
            each.split(" - requires ")[-1].replace("gdcm>", "python-gdcm>")
            for each in decoder.missing_dependencies
        )
        raise InputError(
            ErrorCode.PACKAGE_MISSING,
            f"{path}: its pixels are stored as {_named(syntax)}, for which no decoder is "
            f"installed. Install {needed}.",
        )


def _grey(path: Path, stored: NDArray[Any], dataset: Dataset, samples: int) -> NDArray[Any]:
    if samples > 1:
        if (stored == stored[..., :1]).all():
            return stored[..., 0]
        raise _coloured(path)
    if text(dataset, "PhotometricInterpretation") == "PALETTE COLOR":
        tables = [_palette(path, dataset, colour) for colour in _COLOURS]
        if not all(np.array_equal(tables[0][1], table) for _, table in tables):
            raise _coloured(path)
        return _look_up(stored, *tables[0])
    if text(dataset, "PixelPresentation") in ("COLOR", "MIXED"):
        _check_supplemental(path, stored, dataset)
    return stored


def _check_size(path: Path, dataset: Dataset) -> None:
    """Compares the size of the pixels by the header with the file and the free memory."""
    try:
        sizes = [
            int(dataset.get(keyword) or default)
            for keyword, default in (
                ("Columns", 0),
                ("Rows", 0),
                ("NumberOfFrames", 1),
                ("SamplesPerPixel", 1),
            )
        ]
        pixel_bytes = -(-int(dataset.get("BitsAllocated") or 8) // 8)
    except DAMAGED as error:
        raise damaged(path, error) from error
    check_memory(path, check_sizes(path, sizes), pixel_bytes, stored=path.stat().st_size)


def _coloured(path: Path) -> InputError:
    return InputError(
        ErrorCode.IMAGE_VOXEL_TYPE,
        f"{path}: holds colours, and images need one number per pixel. Convert it to grey values.",
    )


def _palette(path: Path, dataset: Dataset, colour: str) -> tuple[int, NDArray[Any]]:
    """First index and entries of a colour's table (PS3.3 C.7.6.3.1.5)."""
    name = f"{colour}PaletteColorLookupTable"
    try:
        entries, first, _ = _descriptor(dataset.get(f"{name}Descriptor"), dataset)
        data = dataset.get(f"{name}Data")
        if data is None:
            raise _coloured(path)
        bits = 8 if len(data) <= entries + entries % 2 else 16
        return first, _table(data, entries, bits, dataset)
    except (ValueError, TypeError) as error:
        raise damaged(path, error) from error


def _check_supplemental(path: Path, stored: NDArray[Any], dataset: Dataset) -> None:
    """Refuses pixels that are indices of a colour table mixed with grey values (C.7.6.19)."""
    descriptor = dataset.get("RedPaletteColorLookupTableDescriptor")
    if descriptor is None:
        return
    entries, first, _ = _descriptor(descriptor, dataset)
    coloured = int(((stored >= first) & (stored < first + entries)).sum())
    if coloured:
        raise InputError(
            ErrorCode.IMAGE_VOXEL_TYPE,
            f"{path}: {coloured} of its pixels are colours of a supplemental palette and not grey "
            "values. Export it without the coloured overlay.",
        )


def _descriptor(value: object, dataset: Dataset) -> tuple[int, int, int]:
    """Entries, first stored value and bits of a lookup table."""
    entries, first, bits = (int(part) for part in value)  # type: ignore[attr-defined]
    # Two bytes that PixelRepresentation makes signed or unsigned (PS3.3 C.11.1.1.1).
    signed = bool(dataset.get("PixelRepresentation"))
    first = (first + (1 << 15)) % (1 << 16) - (1 << 15) if signed else first % (1 << 16)
    return entries % (1 << 16) or 1 << 16, first, bits


def _table(data: object, entries: int, bits: int, dataset: Dataset) -> NDArray[Any]:
    if isinstance(data, bytes):
        little = UID(dataset.file_meta.TransferSyntaxUID).is_little_endian
        kind = np.dtype(np.uint8 if bits == 8 else "<u2" if little else ">u2")
        table = np.frombuffer(data, dtype=kind, count=min(entries, len(data) // kind.itemsize))
    else:
        table = np.atleast_1d(np.asarray(data, dtype=np.int64)) % (1 << 16)
    if len(table) < entries:
        raise ValueError("a lookup table is cut off")
    return table[:entries]


def _look_up(stored: NDArray[Any], first: int, table: NDArray[Any]) -> NDArray[Any]:
    return table[np.clip(stored.astype(np.int64) - first, 0, len(table) - 1)]


def rescaled(
    path: Path, stored: NDArray[Any], frame: Dataset, dataset: Dataset
) -> NDArray[np.float64]:
    """Converts stored numbers to the quantity that they represent (PS3.3 C.11.1).

    Args:
        path: The file, for messages.
        stored: (rows, columns).
        frame: Contains the frame's own slope and intercept, or its ModalityLUTSequence.
        dataset: The whole file.

    Raises:
        InputError: The lookup table or the numbers are unusable.
    """
    try:
        if frame.get("ModalityLUTSequence"):
            item = frame.ModalityLUTSequence[0]
            entries, first, _ = _descriptor(item.LUTDescriptor, dataset)
            table = _table(item.LUTData, entries, 16, dataset)
            return _look_up(stored, first, table).astype(np.float64)
        slope, intercept = number(frame, "RescaleSlope"), number(frame, "RescaleIntercept")
    except DAMAGED as error:
        raise damaged(path, error) from error
    slope = 1.0 if slope is None else slope
    if slope == 0 or not np.isfinite([slope, intercept or 0.0]).all():
        raise InputError(
            ErrorCode.IMAGE_VALUES,
            f"{path}: its RescaleSlope and RescaleIntercept ({slope:g}, {intercept}) are invalid. "
            "Correct the header.",
        )
    quantities = stored.astype(np.float64)
    quantities *= slope
    quantities += intercept or 0.0
    return quantities


def padding_of(path: Path, stored: NDArray[Any], header: Dataset) -> NDArray[np.bool_]:
    """The pixels that the header declares as padding (PS3.3 C.7.5.1.1.2).

    Args:
        path: The file, for messages.
        stored: (rows, columns) in stored numbers.
        header: May contain PixelPaddingValue and PixelPaddingRangeLimit.

    Raises:
        InputError: The value is unusable.
    """
    try:
        value, limit = number(header, "PixelPaddingValue"), number(header, "PixelPaddingRangeLimit")
    except DAMAGED as error:
        raise damaged(path, error) from error
    # For a palette only grey values are available here, and padding is stated as an index.
    if value is None or not text(header, "PhotometricInterpretation").startswith("MONOCHROME"):
        return np.zeros(stored.shape, dtype=bool)
    # Many devices write it as signed or unsigned regardless of the pixels.
    bounds = [value, value if limit is None else limit]
    if header.get("PixelRepresentation"):
        bounds = [bound - 65536 if bound > 32767 else bound for bound in bounds]
    else:
        bounds = [bound + 65536 if bound < 0 else bound for bound in bounds]
    return np.asarray((stored >= min(bounds)) & (stored <= max(bounds)))


def without_padding(
    values: NDArray[np.float32], padding: NDArray[np.bool_], modality: str
) -> tuple[NDArray[np.float32], str]:
    """Sets padding to the background's value: the smallest one of the image, or that of air.

    Padding just below the image's values, where background lies, is not changed. If its value
    also occurs in the image, only regions that touch the border of a slice are padding.

    Args:
        values: (columns, rows[, slices]); changed in place.
        padding: Mask of the same shape.
        modality: DICOM modality.

    Returns:
        The values, and a note or "".
    """
    if not padding.any():
        return values, ""
    below_tissue = modality == "CT" and bool(values[padding].max() < _LEAST_HOUNSFIELD)
    if below_tissue:
        # Lossy compression changes the values of padding as well.
        padding = padding | (values < _LEAST_HOUNSFIELD)
    if padding.all():
        return values, ""
    picture, padded = values[~padding], values[padding]
    low, high = float(picture.min()), float(picture.max())
    near = _NEAR * (high - low)
    if low - near <= padded.min() and padded.max() <= low:
        return values, ""
    apart = below_tissue or padded.max() < low - near or padded.min() > high + near
    if not apart:
        padding = _reaching_the_border(padding)
        if not padding.any():
            return values, ""
        low = float(values[~padding].min())
    background = min(low, _AIR) if modality == "CT" else low
    values[padding] = background
    meaning = "air" if modality == "CT" and background == _AIR else "the image's smallest value"
    return values, (
        f"{_percent(float(padding.mean()))} of the pixels are padding (PixelPaddingValue) outside "
        f"the field of view; they are set to {background:g}, {meaning}"
    )


def below_air(values: NDArray[np.float32]) -> list[str]:
    """A note on Hounsfield units below air, which may be undeclared padding.

    Args:
        values: Values of a CT.
    """
    share = float((values < _LEAST_HOUNSFIELD).mean())
    if not share:
        return []
    return [
        f"{_percent(share)} of the voxels are below the value of air, down to "
        f"{float(values.min()):g} Hounsfield units; they may be padding outside the field of view"
    ]


def _percent(share: float) -> str:
    """A share in per cent; a small share is "under 0.1 %" and not 0."""
    return f"{100 * share:.1f} %" if share >= 0.0005 else "under 0.1 %"


def _reaching_the_border(padding: NDArray[np.bool_]) -> NDArray[np.bool_]:
    reaching = np.zeros_like(padding)
    slices = padding[..., np.newaxis] if padding.ndim == 2 else padding
    found = reaching[..., np.newaxis] if padding.ndim == 2 else reaching
    for index in range(slices.shape[2]):
        regions, _ = ndimage.label(slices[..., index])
        rim = [regions[0], regions[-1], regions[:, 0], regions[:, -1]]
        numbers = np.unique(np.concatenate(rim))
        found[..., index] = np.isin(regions, numbers[numbers > 0])
    return reaching
