"""TIFF pictures of one page, with the stored values.

Pillow returns wrong values for some kinds of TIFF: unsigned 32-bit values as signed ones, 16-bit
colours in planes cut to 8 bits, 16-bit MinIsWhite inverted, and a rotated picture of one strip in
the wrong order. Therefore the tags are interpreted here (TIFF 6.0), and Pillow only decompresses;
deflate is decompressed by zlib, since libtiff stops before the checksum. Samples of less than 8
bits, JPEG and fax are decoded by Pillow as a whole.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.decoded import CMYK_NOTE, TURNED_NOTE, Raster, upright
from SaliencyExplain.images.sizes import check_memory, memory_free
from SaliencyExplain.images.tiff_tags import Page, Tag, only_page

#: Largest picture, in bytes of pixels.
_MOST_BYTES = 1 << 32

#: Bytes per value while a picture is converted to an image (float64).
_PIXEL_BYTES = 8

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
#: Photometric interpretations that are refused, by their names.
_REFUSED = {4: "a transparency mask", 8: "CIELab", 9: "ICCLab", 10: "ITULab"}
_REFUSED |= {32803: "a colour filter array", 32844: "LogL", 32845: "LogLuv", 34892: "linear raw"}
_COMPONENTS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
#: Lossless compressions: LZW, deflate (two numbers), PackBits, LZMA, Zstandard.
_UNCOMPRESSED = 1
_PACK_BITS = 32773
_DEFLATED = (8, 32946)
_LOSSLESS = (5, *_DEFLATED, _PACK_BITS, 34925, 50000)
#: JPEG in its older and newer form, and WebP.
_LOSSY = (6, 7, 50001)
_UNASSOCIATED = 2
_ASSOCIATED = 1


def decode_tiff(path: Path, keep_palette: bool) -> Raster:
    """Decodes a TIFF of one page.

    Args:
        path: The file; :func:`SaliencyExplain.images.tiff_tags.is_tiff` is true for it.
        keep_palette: Return palette indices instead of colours.

    Returns:
        The picture, columns first, upright, MinIsWhite inverted.

    Raises:
        InputError: It holds several pages, or unsupported numbers or colours.
        Exception: The file is damaged; Pillow and struct raise errors of many kinds.
    """
    size = path.stat().st_size
    if size > min(_MOST_BYTES, memory_free()):
        raise InputError(
            ErrorCode.MEMORY,
            f"{path}: has {size / 1024**3:.1f} GiB, which exceeds the limit for pictures or the "
            "free memory. Save a stack as NIfTI or NRRD.",
        )
    content = path.read_bytes()
    page = only_page(path, content)
    return _raster(path, page, _samples(path, page, content, keep_palette), keep_palette)


def _samples(path: Path, page: Page, content: bytes, labels: bool) -> NDArray[Any]:
    """The stored numbers, (rows, columns, samples), not yet upright."""
    width, height = page.one(Tag.WIDTH, 0), page.one(Tag.HEIGHT, 0)
    samples, bits = page.one(Tag.SAMPLES, 1), page.all(Tag.BITS, [1])
    if min(width, height, samples) <= 0:
        raise ValueError("its tags lack width, height or number of samples")
    photometric = page.one(Tag.PHOTOMETRIC, _BLACK_IS_ZERO)
    compression = page.one(Tag.COMPRESSION, _UNCOMPRESSED)
    most = Image.MAX_IMAGE_PIXELS
    size = width * height * samples * max(bits) // 8
    if (most is not None and width * height > 2 * most) or size > _MOST_BYTES:
        raise Image.DecompressionBombError(f"{width} x {height} pixels of {samples} values")
    check_memory(path, width * height * samples, _PIXEL_BYTES, stored=len(content), labels=labels)
    if photometric not in _COMPONENTS:
        name = _REFUSED.get(photometric, f"photometric interpretation {photometric}")
        raise _no_picture(path, f"its pixels are stored as {name}")
    if len(set(bits)) != 1 or bits[0] not in (1, 2, 4, 8, 16, 32, 64):
        raise _no_picture(path, f"its samples have {', '.join(map(str, bits))} bits")
    if compression == _UNCOMPRESSED and photometric != _YCBCR and size > len(content):
        raise ValueError("it ends before its last pixel")
    kind = _kind(path, page, bits[0])
    if page.one(Tag.PREDICTOR, 1) != 1 and compression in (_UNCOMPRESSED, _PACK_BITS):
        # libtiff ignores the predictor there, and other readers apply it.
        raise _no_picture(path, "it has a predictor, but not with a compression that supports one")
    if kind is not None and photometric != _YCBCR:
        if compression == _UNCOMPRESSED or compression in _LOSSLESS:
            return _assembled(page, content, kind, width, height)
        if bits[0] != 8:
            raise _no_picture(path, f"{bits[0]} bits are compressed by method {compression}")
    if photometric in (_WHITE_IS_ZERO, _CMYK) and kind is not None:
        raise _no_picture(path, f"MinIsWhite or CMYK is compressed by method {compression}")
    if compression in _DEFLATED:
        parts = zip(
            page.all(Tag.STRIP_OFFSETS) + page.all(Tag.TILE_OFFSETS),
            page.all(Tag.STRIP_BYTES) + page.all(Tag.TILE_BYTES),
            strict=True,
        )
        for start, length in parts:
            _inflated(content[start : start + length], 4 * max(width, 256) * max(height, 256) * 4)
    return _by_pillow(page, content)


def _inflated(block: bytes, most: int) -> bytes:
    """Unpacks a strip or tile and verifies its checksum, which libtiff does not.

    Raises:
        ValueError: There is no checksum within `most` bytes.
        zlib.error: The checksum is wrong.
    """
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(block, most + 1)
    if not unpacker.eof:
        raise ValueError("a strip or tile does not end with a checksum")
    return content


def _kind(path: Path, page: Page, bits: int) -> np.dtype | None:
    """The data type of the samples; None for samples of less than a byte."""
    formats = set(page.all(Tag.SAMPLE_FORMAT, [1]))
    format = formats.pop()
    letter = {1: "u", 2: "i", 3: "f", 4: "u"}.get(format)
    if formats or letter is None or (letter == "f" and bits < 16):
        raise _no_picture(path, f"its samples are of format {format} (complex or mixed numbers)")
    if bits < 8:
        return None
    if page.one(Tag.FILL_ORDER, 1) != 1:
        raise _no_picture(path, "its bits are stored in reverse order")
    return np.dtype(f"{page.order}{letter}{bits // 8}")


def _assembled(page: Page, content: bytes, kind: np.dtype, width: int, height: int) -> NDArray[Any]:
    """Puts strips or tiles together, plane by plane."""
    samples = page.one(Tag.SAMPLES, 1)
    planes = samples if page.one(Tag.PLANAR, 1) == 2 and samples > 1 else 1
    if Tag.TILE_OFFSETS in page.numbers:
        across, down = page.one(Tag.TILE_WIDTH, 0), page.one(Tag.TILE_HEIGHT, 0)
        parts = page.all(Tag.TILE_OFFSETS), page.all(Tag.TILE_BYTES)
    else:
        across, down = width, min(page.one(Tag.ROWS_PER_STRIP, height), height)
        parts = page.all(Tag.STRIP_OFFSETS), page.all(Tag.STRIP_BYTES)
    if across <= 0 or down <= 0:
        raise ValueError("its tags lack the size of tiles or strips")
    if across * down > 4 * max(width, 256) * max(height, 256):
        raise ValueError("its tiles are far larger than the picture")
    columns, rows = -(-width // across), -(-height // down)
    tiled = Tag.TILE_OFFSETS in page.numbers
    each = samples // planes
    if not parts[1]:
        # Old writers omit the sizes of uncompressed strips.
        parts = parts[0], [len(content)] * len(parts[0])
    if len(parts[0]) < planes * columns * rows or len(parts[0]) != len(parts[1]):
        raise ValueError("its tags name too few tiles or strips")
    compression = page.one(Tag.COMPRESSION, _UNCOMPRESSED)
    deflated = compression in _DEFLATED
    found = []
    for plane in range(planes):
        some = slice(plane * columns * rows, (plane + 1) * columns * rows)
        blocks = [
            content[start : start + size]
            for start, size in zip(parts[0][some], parts[1][some], strict=True)
        ]
        row_bytes = across * each * kind.itemsize
        if deflated:
            blocks = [_inflated(block, row_bytes * down) for block in blocks]
        stored_rows = rows * down if tiled else height
        packing = _UNCOMPRESSED if deflated else compression
        data = _uncompressed(packing, blocks, row_bytes, columns, down, stored_rows)
        values = _numbers(page, data, kind, across, each)
        found.append(values[:height, :width])
    return np.concatenate(found, axis=2)


def _uncompressed(
    compression: int, blocks: list[bytes], row_bytes: int, columns: int, down: int, rows: int
) -> NDArray[np.uint8]:
    """The bytes of a plane, (rows, tiles along a row, bytes of a tile's row)."""
    if compression != _UNCOMPRESSED:
        packed = _as_bytes_picture(blocks, row_bytes, columns, down, rows, compression)
        # Not Image.open, whose limit counts pixels, while these pixels are bytes.
        with TiffImageFile(io.BytesIO(packed)) as picture:
            picture.load()
            return np.asarray(picture).reshape(rows, columns, row_bytes)
    stored = np.zeros((rows, columns, row_bytes), np.uint8)
    for number, block in enumerate(blocks):
        row, column = divmod(number, columns)
        part = stored[row * down : (row + 1) * down, column]
        if len(block) < part.size:
            raise ValueError("it ends before its last pixel")
        part[...] = np.frombuffer(block, np.uint8, part.size).reshape(part.shape)
    return stored


def _as_bytes_picture(
    blocks: list[bytes], row_bytes: int, columns: int, down: int, rows: int, compression: int
) -> bytes:
    """A grey 8-bit TIFF whose pixels are the bytes of another one, for decompression by libtiff."""
    starts = np.cumsum([8, *map(len, blocks)])
    tags: list[tuple[int, list[int]]] = [
        (Tag.WIDTH, [row_bytes * columns]),
        (Tag.HEIGHT, [rows]),
        (Tag.BITS, [8]),
        (Tag.COMPRESSION, [compression]),
        (Tag.PHOTOMETRIC, [_BLACK_IS_ZERO]),
        (Tag.SAMPLES, [1]),
    ]
    offsets, sizes = [int(start) for start in starts[:-1]], [len(block) for block in blocks]
    if columns > 1:
        tags += [(Tag.TILE_WIDTH, [row_bytes]), (Tag.TILE_HEIGHT, [down])]
        tags += [(Tag.TILE_OFFSETS, offsets), (Tag.TILE_BYTES, sizes)]
    else:
        tags += [
            (Tag.STRIP_OFFSETS, offsets),
            (Tag.ROWS_PER_STRIP, [down]),
            (Tag.STRIP_BYTES, sizes),
        ]
    tags.sort()
    body = b"".join(blocks)
    body += b"\0" * (len(body) % 2)
    at = 8 + len(body)
    after = at + 2 + 12 * len(tags) + 4
    entries, more = b"", b""
    for tag, values in tags:
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            place = struct.pack("<I", after + len(more))
            more += packed
        else:
            place = packed
        entries += struct.pack("<HHI", tag, 4, len(values)) + place
    directory = struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    return b"II*\0" + struct.pack("<I", at) + body + directory + more


def _numbers(
    page: Page, data: NDArray[np.uint8], kind: np.dtype, across: int, each: int
) -> NDArray[Any]:
    """Bytes (rows, tiles, bytes of a tile's row) as numbers (rows, columns, samples)."""
    rows, columns = data.shape[:2]
    predictor = page.one(Tag.PREDICTOR, 1)
    if predictor == 3 and kind.kind == "f":
        # TIFF Technical Note 3: bytes are differences, the highest bytes of a row come first.
        sums = np.cumsum(data.reshape(rows, columns, -1, each), axis=2, dtype=np.uint8)
        planes = sums.reshape(rows, columns, kind.itemsize, across * each)
        data = np.ascontiguousarray(np.moveaxis(planes, 2, -1)).reshape(rows, columns, -1)
        kind = kind.newbyteorder(">")
    elif predictor not in (1, 2):
        raise ValueError(f"its predictor {predictor} is unknown")
    values = np.ascontiguousarray(data).view(kind).astype(kind.newbyteorder("="))
    values = values.reshape(rows, columns, across, each)
    if predictor == 2:
        whole = values.view(f"u{kind.itemsize}")
        values = np.cumsum(whole, axis=2, dtype=whole.dtype).view(values.dtype)
    return values.reshape(rows, columns * across, each)


def _by_pillow(page: Page, content: bytes) -> NDArray[Any]:
    """Decodes the whole picture with Pillow, but without its rotation, which is inconsistent."""
    plain = bytearray(content)
    if page.orientation_at:
        struct.pack_into(f"{page.order}H", plain, page.orientation_at, 1)
    with Image.open(io.BytesIO(bytes(plain)), formats=("TIFF",)) as picture:
        picture.load()
        if picture.mode in ("YCbCr", "RGBX"):
            picture = picture.convert("RGB")
        array = np.asarray(picture)
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    return array if array.ndim == 3 else array[..., np.newaxis]


def _raster(path: Path, page: Page, stored: NDArray[Any], keep_palette: bool) -> Raster:
    orientation = page.one(Tag.ORIENTATION, 1)
    notes: tuple[str, ...] = ()
    if 2 <= orientation <= 8:
        stored = upright(stored, orientation)
        notes = (TURNED_NOTE,)
    values = stored.transpose(1, 0, 2)
    whole_bytes = page.one(Tag.BITS, 1) >= 8
    components = _COMPONENTS[page.one(Tag.PHOTOMETRIC, _BLACK_IS_ZERO)]
    if page.one(Tag.PHOTOMETRIC, _BLACK_IS_ZERO) == _PALETTE:
        return _of_palette(path, page, values, keep_palette, notes)
    values, alpha, over_black, note = _alpha(path, page, values, components)
    notes += (note,) if note else ()
    if page.one(Tag.PHOTOMETRIC, _BLACK_IS_ZERO) == _WHITE_IS_ZERO and whole_bytes:
        if values.dtype.kind != "u":
            raise _no_picture(path, f"MinIsWhite has no meaning for {values.dtype} numbers")
        values = np.iinfo(values.dtype).max - values
    if page.one(Tag.PHOTOMETRIC, _BLACK_IS_ZERO) == _CMYK and values.shape[2] == 4:
        values = _from_cmyk(path, page, values)
        notes += (CMYK_NOTE,)
    return Raster(values, alpha, None, page.one(Tag.COMPRESSION, 1) in _LOSSY, notes, over_black)


def _alpha(
    path: Path, page: Page, values: NDArray[Any], components: int
) -> tuple[NDArray[Any], NDArray[Any] | None, bool, str]:
    """Values, alpha, whether the values are premultiplied by alpha, and a note."""
    more = values.shape[2] - components
    if more == 0:
        return values, None, False, ""
    if more < 0:
        raise ValueError(f"it has {values.shape[2]} values at each pixel, {components} are needed")
    extra = page.all(Tag.EXTRA_SAMPLES, [0])[0]
    if more > 1 or (components == 1 and extra not in (_ASSOCIATED, _UNASSOCIATED)):
        raise _no_picture(path, f"it has {values.shape[2]} values per pixel")
    if extra not in (_ASSOCIATED, _UNASSOCIATED):
        return values[..., :-1], None, False, "an unspecified extra value per pixel is left out"
    return values[..., :-1], values[..., -1], extra == _ASSOCIATED, ""


def _of_palette(
    path: Path, page: Page, values: NDArray[Any], keep_palette: bool, notes: tuple[str, ...]
) -> Raster:
    bits = page.one(Tag.BITS, 1)
    table = np.array(
        page.all(
            Tag.COLOUR_MAP,
        ),
        dtype=float,
    )
    if values.shape[2] != 1 or bits > 16 or table.size != 3 * 2**bits:
        raise _no_picture(path, "its palette does not fit its pixels")
    # 16 bits each; for both ways to store 8 bits in them the high byte is right.
    palette = (table.reshape(3, -1).T // 256) / 255
    if keep_palette:
        return Raster(values, None, palette, page.one(Tag.COMPRESSION, 1) in _LOSSY, notes)
    colours = np.rint(palette * 255).astype(np.uint8)[values[..., 0]]
    return Raster(colours, None, None, page.one(Tag.COMPRESSION, 1) in _LOSSY, notes)


def _from_cmyk(path: Path, page: Page, values: NDArray[Any]) -> NDArray[Any]:
    if page.one(Tag.INK_SET, 1) != 1 or values.dtype.kind != "u":
        raise _no_picture(path, "its inks are not cyan, magenta, yellow and black")
    most = float(np.iinfo(values.dtype).max)
    light = 1 - values.astype(np.float64) / most
    return np.rint(light[..., :3] * light[..., 3:] * most).astype(values.dtype)


def _no_picture(path: Path, wrong: str) -> InputError:
    return InputError(
        ErrorCode.IMAGE_VOXEL_TYPE,
        f"{path}: {wrong}, which is not supported. Convert it to grey or RGB values of 8, 16 or "
        "32 bits, or to PNG.",
    )
