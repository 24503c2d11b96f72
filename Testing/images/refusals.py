"""What reading a file that cannot be read right must say."""

from __future__ import annotations

from pathlib import Path

import pytest

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.reading import read_image


def refused(path: Path, code: ErrorCode, *named: str) -> str:
    """The one line of a refusal, which has the code and names the file and these words."""
    with pytest.raises(InputError) as error:
        read_image(path)
    message = str(error.value)
    assert error.value.code is code, message
    # Of a series a file in its folder may be named.
    assert message.startswith(str(path)), message
    assert "\n" not in message
    for one in named:
        assert one in message
    return message
