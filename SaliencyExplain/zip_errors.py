"""What unpacking a damaged zip archive raises."""

from __future__ import annotations

import zipfile
import zlib

#: Of archives that are damaged, encrypted, cut off or packed in an unknown way. RuntimeError has
#: NotImplementedError below it: an encryption or a compression that Python does not have. OSError
#: is not among them, as it may be of the disk.
DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)
