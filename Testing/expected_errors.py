"""An error that a test expects: its code, and the names and values in its message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from SaliencyExplain.errors import ErrorCode, SaliencyExplainError


@contextmanager
def error_with(
    code: ErrorCode, *named: str
) -> Iterator[pytest.ExceptionInfo[SaliencyExplainError]]:
    """Expects an error with this code.

    Args:
        code: The error's code.
        named: Files, names, values or options that the message has to contain.

    Yields:
        The error, as :func:`pytest.raises` does.
    """
    with pytest.raises(SaliencyExplainError) as caught:
        yield caught
    message = str(caught.value)
    assert caught.value.code is code, message
    for part in named:
        assert part in message
