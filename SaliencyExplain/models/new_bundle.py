"""The folder of a bundle that is being written: there whole, or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from SaliencyExplain.confinement import DeniedError
from SaliencyExplain.errors import ErrorCode, OutputError


@contextmanager
def new_bundle(out: Path) -> Iterator[Path]:
    """Yields the path of a folder that becomes ``out`` at the end of the block.

    The folder does not exist yet. After an error nothing is left.

    Args:
        out: Must not exist; folders above it are made.

    Raises:
        OutputError: It exists or cannot be written.
    """
    if out.exists():
        raise OutputError(
            ErrorCode.OUTPUT_EXISTS, f"{out} exists already: name a new folder for the bundle."
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Beside the final place, so that the last step is a rename on the same disk.
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
            bundle = Path(folder) / out.name
            yield bundle
            bundle.rename(out)
    except DeniedError:
        raise
    except OSError as error:
        raise OutputError(
            ErrorCode.OUTPUT_UNWRITABLE, f"The bundle {out} cannot be written: {error.strerror}."
        ) from error
