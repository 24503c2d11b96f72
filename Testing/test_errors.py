"""Each error has a code, which reaches whoever asked."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name

_PAGE = Path(__file__).parent.parent / "docs" / "ERRORS.md"


def test_codes_are_distinct_and_of_one_form():
    codes = [one.value for one in ErrorCode]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"SE-[A-Z]+(-[A-Z]+)*", code) for code in codes)


def test_an_error_of_a_worker_process_keeps_its_code():
    error = pickle.loads(pickle.dumps(InputError(ErrorCode.WINDOW, "The window is too large.")))
    assert isinstance(error, InputError)
    assert error.code is ErrorCode.WINDOW
    assert str(error) == "The window is too large."


def test_an_unknown_name_is_named_with_the_nearest_one():
    error = unknown_name("method", "gradcan", ["gradcam", "occlusion"])
    assert error.code is ErrorCode.NAME_UNKNOWN
    assert "gradcan" in str(error)
    assert "'gradcam'?" in str(error)


@pytest.mark.parametrize("code", [ErrorCode.WINDOW, ErrorCode.ENGINE_LIMIT])
def test_a_code_is_found_by_its_text(code: ErrorCode):
    assert ErrorCode.of(code.value) is code


def test_a_code_of_another_version_is_a_failed_job():
    assert ErrorCode.of("SE-OF-THE-FUTURE") is ErrorCode.JOB_FAILED


def test_the_page_lists_every_code_with_its_meaning():
    listed = dict(re.findall(r"^\| `(SE-[A-Z-]+)` \| (.+) \|$", _PAGE.read_text(), re.MULTILINE))
    assert listed == {one.value: one.meaning for one in ErrorCode}
