"""Checks of the size in an image's header against the file and the memory, before reading."""

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

#: DEFLATE (gzip, zlib) expands 2 bits to at most 258 bytes (RFC 1951), one byte to 1032.
DEFLATED = 1032
#: Additional bytes per voxel while a file is read: float64 after the scaling, then float32.
_WORKING_BYTES = 12
#: Share of the free memory that reading one image may use.
_SHARE = 0.8
#: No scan compresses by this factor, because noise does not compress. A larger file that does is
#: nearly constant. Label maps are, and have one or two bytes per voxel.
_MOST_GROWTH = 250
_LARGE_BYTES = 128 * 1024**2
_LARGE_LABELS_BYTES = 2 * 1024**3
#: Largest number of voxels along an axis; the largest scans have some ten thousand.
_LONGEST = 2**31 - 1


def check_sizes(path: Path, sizes: Sequence[int]) -> int:
    """Checks the sizes in a header.

    Args:
        path: The file, for messages.
        sizes: Voxels along each axis by the header.

    Returns:
        The number of voxels.

    Raises:
        InputError: A size is invalid.
    """
    if not sizes or any(not 1 <= size <= _LONGEST for size in sizes):
        said = " x ".join(str(size)[:24] for size in sizes[:16]) or "none"
        raise InputError(
            ErrorCode.IMAGE_AXES,
            f"{path}: the sizes in its header, {said}, are invalid; it may be damaged. Copy it "
            "again.",
        )
    return math.prod(sizes)


def check_stored(path: Path, wanted: int, stored: int, growth: int = 1) -> None:
    """Checks that a file can hold the bytes that its header announces.

    Args:
        path: The file, for messages.
        wanted: Bytes of the voxels, unpacked.
        stored: Bytes of the voxels in the file.
        growth: Largest number of bytes that one stored byte unpacks to; 1 without compression.

    Raises:
        InputError: The file is too short.
    """
    if stored < 0 or wanted > stored * growth:
        raise InputError(
            ErrorCode.FILE_DAMAGED,
            f"{path}: cannot be read, it may be damaged or cut off (its header announces {wanted} "
            f"bytes of voxels, and {max(stored, 0)} are there). Copy it again.",
        )


def check_memory(
    path: Path, voxels: int, voxel_bytes: int, *, stored: int | None = None, labels: bool = False
) -> None:
    """Checks that an image can be read within the free memory.

    Args:
        path: The file, for messages.
        voxels: Number of voxels of all layers.
        voxel_bytes: Bytes per voxel in the file.
        stored: Bytes of the file if it is compressed.
        labels: Whether it may be a label map, which compresses far better.

    Raises:
        InputError: It does not fit; or it is a large file that is nearly constant.
    """
    unpacked = voxels * voxel_bytes
    large = _LARGE_LABELS_BYTES if labels else _LARGE_BYTES
    if stored is not None and unpacked > max(large, _MOST_GROWTH * stored):
        raise InputError(
            ErrorCode.IMAGE_VALUES,
            f"{path}: its {stored} bytes would unpack to {unpacked}, so it is nearly constant, "
            "unlike a scan. Crop it" + (", or store one byte per voxel." if labels else "."),
        )
    needed, free = voxels * (voxel_bytes + _WORKING_BYTES), memory_free()
    if needed > _SHARE * free:
        raise InputError(
            ErrorCode.MEMORY,
            f"{path}: its header announces {voxels} voxels, which need {needed / 1024**3:.1f} GiB "
            f"of memory, and {free / 1024**3:.1f} GiB are free. Crop it, or close other programs.",
        )


def memory_free() -> int:
    """Free memory in bytes: the minimum of the machine's, the container's and the own limit."""
    free = [psutil.virtual_memory().available]
    with suppress(OSError, ValueError, KeyError):
        # Files cached by the kernel count as used, but are released on demand.
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
