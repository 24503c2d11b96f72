"""The tags of a TIFF file's one page (TIFF 6.0 and BigTIFF)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from SaliencyExplain.images.decoded import several_pages

#: First four bytes, and for each the byte order and whether offsets have 8 bytes.
_STARTS = {
    b"II*\0": ("<", False),
    b"MM\0*": (">", False),
    b"II+\0": ("<", True),
    b"MM\0+": (">", True),
}
#: Largest number of pages that are counted.
_MOST_PAGES = 10_000
#: Letters of the module struct for the types of whole numbers.
_WHOLE = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_TEXT = 2


class Tag(IntEnum):
    """The tags that determine the pixels."""

    NEW_SUBFILE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    DESCRIPTION = 270
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTES = 279
    PLANAR = 284
    PREDICTOR = 317
    COLOUR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_BYTES = 325
    INK_SET = 332
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    DEPTH = 32997


@dataclass(frozen=True)
class Page:
    """The tags of a page.

    Attributes:
        numbers: The whole numbers of each tag.
        description: ImageDescription, empty where there is none.
        order: ``<`` or ``>``, the file's byte order.
        orientation_at: Offset of the value of Orientation in the file; 0 if absent.
    """

    numbers: dict[int, tuple[int, ...]]
    description: str
    order: str
    orientation_at: int

    def one(self, tag: Tag, default: int) -> int:
        """The tag's only or first number."""
        return (self.numbers.get(tag) or (default,))[0]

    def all(self, tag: Tag, default: Sequence[int] = ()) -> list[int]:
        """The tag's numbers."""
        return list(self.numbers.get(tag, default))


def is_tiff(path: Path) -> bool:
    """Whether the first bytes are those of a TIFF file, independent of its name."""
    with path.open("rb") as file:
        return file.read(4) in _STARTS


def only_page(path: Path, content: bytes) -> Page:
    """The page of a file that holds one picture.

    Smaller copies of a page, and masks, do not count as pages.

    Args:
        path: The file, for messages.
        content: Its bytes.

    Raises:
        InputError: It holds several pages, or a stack in one directory.
        ValueError: The directories are damaged (:class:`struct.error` likewise).
    """
    order, big = _STARTS[content[:4]]
    (offset,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", content, 8 if big else 4)
    pages: list[Page] = []
    walked: set[int] = set()
    while offset and offset not in walked and len(walked) < _MOST_PAGES:
        walked.add(offset)
        page, offset = _directory(content, offset, order, big)
        if not page.one(Tag.NEW_SUBFILE, 0) & 5:
            pages.append(page)
    if not pages:
        raise ValueError("it has no page")
    number = max(len(pages), _stacked(pages[0]))
    if number > 1:
        raise several_pages(path, number)
    return pages[0]


def _directory(content: bytes, offset: int, order: str, big: bool) -> tuple[Page, int]:
    """A page, and the offset of the next one's directory; 0 after the last."""
    counter, size, inline, pointer = ("Q", 20, 8, "Q") if big else ("H", 12, 4, "I")
    (count,) = struct.unpack_from(f"{order}{counter}", content, offset)
    offset += struct.calcsize(f"={counter}")
    end = offset + count * size
    if end > len(content):
        raise ValueError("it ends within its tags")
    numbers: dict[int, tuple[int, ...]] = {}
    description, orientation_at = "", 0
    for entry in range(offset, end, size):
        tag, kind, many = struct.unpack_from(f"{order}HH{pointer}", content, entry)
        letter = "s" if kind == _TEXT else _WHOLE.get(kind, "")
        if tag not in _KNOWN or not letter:
            continue
        length = many * struct.calcsize(f"={letter}")
        at = entry + size - inline
        if length > inline:
            (at,) = struct.unpack_from(f"{order}{pointer}", content, at)
        if at + length > len(content):
            raise ValueError(f"it ends before the values of its tag {tag}")
        if kind == _TEXT:
            description = content[at : at + length].decode("latin-1") if tag == 270 else description
            continue
        numbers[tag] = struct.unpack_from(f"{order}{many}{letter}", content, at)
        if tag == Tag.ORIENTATION and letter == "H" and many == 1:
            orientation_at = at
    (following,) = struct.unpack_from(f"{order}{pointer}", content, end)
    return Page(numbers, description, order, orientation_at), following


_KNOWN = frozenset(int(tag) for tag in Tag)


def _stacked(page: Page) -> int:
    """Number of images in one directory: ImageJ's large stacks, and volumes."""
    count = page.one(Tag.DEPTH, 1)
    if page.description.startswith("ImageJ="):
        for line in page.description.splitlines():
            key, _, value = line.partition("=")
            if key == "images" and value.strip().isdecimal():
                count = max(count, int(value))
    return count
