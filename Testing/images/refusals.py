"""The error that reading an invalid file has to raise."""

from __future__ import annotations

from pathlib import Path

import pytest

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.reading import read_image


def refused(path: Path, code: ErrorCode, *named: str, colour: bool = False) -> str:
    """The message of a refused file: one line with this code, the file and these values."""
    with pytest.raises(InputError) as error:
        read_image(path, colour=colour)
    message = str(error.value)
    assert error.value.code is code, message
    # For a series the message may name a file in its folder.
    assert message.startswith(str(path)), message
    assert "\n" not in message
    for one in named:
        assert one in message
    return message
