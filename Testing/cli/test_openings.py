"""A command opens its classifier once, and hands it to all that compute with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from SaliencyExplain.models import loading
from Testing.cli.conftest import Command


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were opened as classifiers."""
    paths: list[Path] = []
    load = loading._load

    def counted(path, **rest):  # type: ignore[no-untyped-def]
        paths.append(path)
        return load(path, **rest)

    monkeypatch.setattr(loading, "_load", counted)
    return paths


def test_each_command_opens_its_classifier_once(
    command: Command, pictures: Path, honest_2d: Path, tmp_path: Path, opened: list[Path]
) -> None:
    first, second = sorted(pictures.glob("*_image.png"))
    mask = first.with_name(first.name.replace("image.png", "mask.seg.nrrd"))
    healthy = ("--background", second)
    runs = {
        "predict": ("predict", first),
        "explain": ("explain", first, "-s", mask, "-m", "deepshap", *healthy),
        "evaluate": ("evaluate", "image", first, "-m", "gradient", "--part", "stability"),
        "probe": ("probe", first, "-s", mask),
        "study": ("study", pictures, "-m", "deepshap", *healthy),
    }
    for name, words in runs.items():
        opened.clear()
        out = () if name in ("predict", "probe") else ("-o", tmp_path / name)
        few = ("--passes", 1) if name == "evaluate" else ()
        ended = command(*words, "-c", honest_2d, *out, *few)
        assert ended.status == 0, ended.err
        assert len(opened) == 1, name
