"""Damaged files of every format: read, or refused in one line; see ``python -m Testing.fuzz``."""

from __future__ import annotations

import os

import pytest

from Testing.fuzz.fuzzer import Limits, fuzz, write
from Testing.fuzz.planted import PLANTED
from Testing.fuzz.seeds import all_seeds
from Testing.fuzz.targets import TARGETS

pytestmark = pytest.mark.slow

FILES = int(os.environ.get("SALIENCY_EXPLAIN_FUZZ_FILES", "1500"))
SEED = int(os.environ.get("SALIENCY_EXPLAIN_FUZZ_SEED", "0"))


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    return all_seeds(tmp_path_factory.mktemp("seeds"))


def test_the_files_that_are_damaged_are_good(seeds, tmp_path):
    # Else every damaged one is refused for a reason that has nothing to do with the damage.
    for index, seed in enumerate(seeds):
        for name, content in (*seed.beside, (seed.name, seed.content)):
            path = tmp_path / str(index) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        TARGETS[seed.reader](path)


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
