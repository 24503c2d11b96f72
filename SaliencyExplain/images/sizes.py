"""Whether an image that a header announces can be there and fits the memory, before it is read."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from SaliencyExplain.errors import ErrorCode, InputError

if sys.platform != "win32":
    import resource

#: DEFLATE (gzip, zlib) makes at most 258 bytes of 2 bits (RFC 1951): 1032 of one byte.
DEFLATED = 1032
#: Bytes that a voxel takes besides the file's own while it is read: float64 after the scaling,
#: then float32.
_WORKING_BYTES = 12
#: Share of the memory that is free which one image may take while it is read.
_SHARE = 0.8
#: No scan shrinks to this part of its bytes: noise does not compress. A file that claims to,
#: and more than so many bytes, is nearly all one value. Label maps are, and have a byte or two
#: at each voxel.
_MOST_GROWTH = 250
_LARGE_BYTES = 128 * 1024**2
_LARGE_LABELS_BYTES = 2 * 1024**3
#: No grid has more voxels along an axis; the largest scans have some ten thousand.
_LONGEST = 2**31 - 1


def check_sizes(path: Path, sizes: Sequence[int]) -> int:
    """Makes sure of the sizes that a header gives.

    Args:
        path: The file, for messages.
        sizes: Voxels along each axis, as the header has them.

    Returns:
        The number of voxels.

    Raises:
        InputError: A size is none.
    """
    if not sizes or any(not 1 <= size <= _LONGEST for size in sizes):
        said = " x ".join(str(size)[:24] for size in sizes[:16]) or "none"
        raise InputError(
            ErrorCode.IMAGE_AXES,
            f"{path}: its header gives the sizes {said}, which are no sizes of an image; it may "
            "be damaged.",
        )
    return math.prod(sizes)


def check_stored(path: Path, wanted: int, stored: int, growth: int = 1) -> None:
    """Makes sure that a file can hold the bytes that its header announces.

    Args:
        path: The file, for messages.
        wanted: Bytes of the voxels, unpacked.
        stored: Bytes that there are in the file for them.
        growth: Most bytes that one stored byte may unpack to; 1 where nothing is compressed.

    Raises:
        InputError: It cannot.
    """
    if stored < 0 or wanted > stored * growth:
        raise InputError(
            ErrorCode.FILE_DAMAGED,
            f"{path}: cannot be read, it may be damaged or cut off (its header announces {wanted} "
            f"bytes of voxels, and {max(stored, 0)} are there).",
        )


def check_memory(
    path: Path, voxels: int, voxel_bytes: int, *, stored: int | None = None, labels: bool = False
) -> None:
    """Makes sure that an image can be read within the memory that is free.

    Args:
        path: The file, for messages.
        voxels: How many it has, those of all layers counted.
        voxel_bytes: Bytes of each, as the file has them.
        stored: Bytes of the file where it is compressed.
        labels: Whether it may be a label map, which compresses far better.

    Raises:
        InputError: It does not fit; or it is a large file that is nearly all one value.
    """
    unpacked = voxels * voxel_bytes
    large = _LARGE_LABELS_BYTES if labels else _LARGE_BYTES
    if stored is not None and unpacked > max(large, _MOST_GROWTH * stored):
        raise InputError(
            ErrorCode.IMAGE_VALUES,
            f"{path}: its {stored} bytes would unpack to {unpacked}: nearly all of it is one "
            "value. Crop it to what it shows"
            + (", or store a byte for each voxel." if labels else "; no scan is like that."),
        )
    needed, free = voxels * (voxel_bytes + _WORKING_BYTES), memory_free()
    if needed > _SHARE * free:
        raise InputError(
            ErrorCode.MEMORY,
            f"{path}: its header announces {voxels} voxels; to read them takes "
            f"{needed / 1024**3:.1f} GiB of memory, and {free / 1024**3:.1f} GiB are free.",
        )


def memory_free() -> int:
    """Bytes that this process can still take: of the machine, its container and its own limit."""
    free = [psutil.virtual_memory().available]
    with suppress(OSError, ValueError, KeyError):
        # Files that the kernel keeps in memory count as used and are given back when wanted.
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text())
        lines = (group / "memory.stat").read_text().splitlines()
        kept = {name: int(value) for name, value in (line.split() for line in lines)}["file"]
        free.append(most - int((group / "memory.current").read_text()) + kept)
    if sys.platform != "win32":
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            free.append(limit - psutil.Process().memory_info().vms)
    return max(min(free), 0)
