"""Damaged files of every format: read, or refused in one line; see ``python -m Testing.fuzz``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from SaliencyExplain.images.segmentation import Segmentation
from Testing.fuzz.fuzzer import Limits, fuzz, write
from Testing.fuzz.planted import PLANTED
from Testing.fuzz.seeds import all_seeds
from Testing.fuzz.targets import TARGETS

pytestmark = pytest.mark.slow

FILES = int(os.environ.get("SALIENCY_EXPLAIN_FUZZ_FILES", "1500"))
SEED = int(os.environ.get("SALIENCY_EXPLAIN_FUZZ_SEED", "0"))


def has_segments(segmentation: Segmentation) -> bool:
    return all(segment.mask.any() for segment in segmentation.segments) and bool(
        segmentation.segments
    )


#: Whether what a reader makes of a good file is what the file holds.
READ_WELL: dict[str, Callable[[Any], bool]] = {
    "image": lambda image: bool(image.std() > 0),
    "folder": lambda image: image.shape[1:] == (12, 10, 4),
    "segmentation": has_segments,
    "picture mask": has_segments,
    "tumour mask": has_segments,
    "tumour description": lambda slice_: slice_.label == "meningioma",
    "cases": lambda cases: len(cases) == 1,
    "weights": lambda checkpoint: bool(checkpoint.groups),
    "bundle": lambda classifier: classifier.classes == ("healthy", "tumour"),
    "table": lambda cases: len(cases) == 2,
}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    return all_seeds(tmp_path_factory.mktemp("seeds"))


def test_the_files_that_are_damaged_are_good(seeds, tmp_path):
    assert {seed.reader for seed in seeds} == set(READ_WELL) == set(TARGETS)
    # Else every damaged one is refused for a reason that has nothing to do with the damage.
    for index, seed in enumerate(seeds):
        for name, content in (*seed.beside, (seed.name, seed.content)):
            path = tmp_path / str(index) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        assert READ_WELL[seed.reader](TARGETS[seed.reader](path)), seed.name


def test_a_number_and_a_seed_give_the_same_damage(seeds, tmp_path):
    for index in range(0, len(seeds), 9):
        one = write(seeds[index], index, SEED, tmp_path / f"{index}a").read_bytes()
        assert one == write(seeds[index], index, SEED, tmp_path / f"{index}b").read_bytes()


def test_what_readers_must_not_do_is_found():
    limits = Limits(seconds=3.0, waiting_seconds=3.0, large_bytes=1 << 27)
    result = fuzz(range(len(PLANTED)), limits=limits, planted=True)
    assert [finding.what for finding in result.findings] == list(PLANTED)


def test_damaged_files_are_read_or_refused_in_one_line():
    result = fuzz(range(FILES), seed=SEED)
    assert result.files == FILES
    assert not result.findings, "\n".join(map(str, result.findings[:5]))
