"""Thousands of damaged and hostile weight files and bundles: each is read, or is one clear error.

``SALIENCY_EXPLAIN_MUTANTS`` says how many of each kind; a few hundred run by default.
"""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from SaliencyExplain.errors import InputError
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.weights import load_into, read_weights
from Testing.models import mutants
from Testing.models.conftest import make_bundle, small_network

COUNT = int(os.environ.get("SALIENCY_EXPLAIN_MUTANTS", "60"))
FIRST = int(os.environ.get("SALIENCY_EXPLAIN_FIRST_MUTANT", "0"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("mutants") / "small-densenet")


def saved(zipped: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(small_network(2).state_dict(), stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def complaint(call: Callable[[], object], seed: int) -> str:
    """What is said of a mutant; empty where it is read."""
    try:
        call()
    except InputError as error:
        return str(error)
    except Exception as error:
        raise AssertionError(f"mutant {seed}: {type(error).__name__}") from error
    return ""


def read(content: bytes) -> None:
    load_into(small_network(2), read_weights(content, "mutant.pt"), "mutant.pt")


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "state"])
def test_weights_are_read_or_refused_by_name(kind) -> None:
    zipped, legacy = saved(zipped=True), saved(zipped=False)
    state = small_network(2).state_dict()
    for seed in range(FIRST, FIRST + COUNT):
        if kind == "zip":
            content = mutants.of_bytes(zipped, seed)
        elif kind == "legacy":
            content = mutants.of_bytes(legacy, seed)
        elif kind == "pickle":
            content = mutants.of_pickle(zipped, seed)
        else:
            content = mutants.of_state(state, seed)
        said = complaint(functools.partial(read, content), seed)
        assert not said or "mutant.pt" in said, seed
        assert "\n" not in said, seed
        assert len(said) < 1000, seed


@pytest.mark.slow
def test_bundles_are_loaded_or_refused_by_name(bundle, tmp_path) -> None:
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    for seed in range(FIRST, FIRST + COUNT):
        path = mutants.of_bundle(bundle, tmp_path / f"mutant-{seed}", seed)
        said = complaint(functools.partial(load_classifier, path), seed)
        assert "\n" not in said, seed
        assert len(said) < 1500, seed
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert not list(tmp_path.iterdir())
    assert {path: path.read_bytes() for path in before} == before
    assert json.loads((bundle / "configs/metadata.json").read_text())
