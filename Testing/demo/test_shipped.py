"""The names of shipped classifiers where a path could stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from SaliencyExplain.demo.shipped import DEMO, classifier_path, shipped_classifiers
from SaliencyExplain.errors import ErrorCode, InputError


def test_a_shipped_name_is_a_folder_unless_a_file_has_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, folder = next(iter(shipped_classifiers().items()))
    text = f"{DEMO}{name}"
    assert classifier_path(text) == folder
    Path(text).mkdir()
    assert classifier_path(text) == Path(text)
    with pytest.raises(InputError) as error:
        classifier_path(f"{DEMO}no-such")
    assert error.value.code is ErrorCode.NAME_UNKNOWN
    assert "no-such" in str(error.value)
