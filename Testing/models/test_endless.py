"""Bundles of a few lines that ask for a network, an input or a preprocessing without an end."""

from __future__ import annotations

import json
import shutil
import stat
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError
from SaliencyExplain.memory_limit import memory_limited
from SaliencyExplain.models import building
from SaliencyExplain.models.building import building_limited
from SaliencyExplain.models.loading import load_classifier
from Testing.models.conftest import make_bundle

INFERENCE, METADATA = "configs/inference.json", "configs/metadata.json"
REFUSED, WRONG = ErrorCode.MODEL_REFUSED, ErrorCode.MODEL_CONFIGURATION


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("original") / "small-densenet")


@pytest.fixture
def bundle(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / original.name)


def network(**arguments: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["network_def"].update(arguments)


def linear(inputs: int, outputs: int) -> Callable[[dict[str, Any]], None]:
    target = {"_target_": "torch.nn.Linear", "in_features": inputs, "out_features": outputs}
    return lambda content: content.update(network_def=target)


def image_says(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["network_data_format"]["inputs"]["image"].update(values)


def classes(*names: Any) -> Callable[[dict[str, Any]], None]:
    numbered = {str(number): name for number, name in enumerate(names)}
    return lambda content: content["network_data_format"]["outputs"]["pred"].update(
        channel_def=numbered
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (network(block_config=[10**6, 10**6]), REFUSED),
        (network(init_features=10**9), WRONG),
        (network(growth_rate=2**62), WRONG),
        (linear(10**6, 10**6), WRONG),
        (linear(2**40, 2), WRONG),
    ],
)
def test_a_network_without_an_end_is_refused(bundle, edit_json, monkeypatch, change, code) -> None:
    # The usual limit takes some seconds to reach.
    monkeypatch.setattr(building, "_MOST_MODULES", 500)
    edit_json(bundle / INFERENCE, change)
    with pytest.raises(ClassifierError) as error:
        load_classifier(bundle)
    assert error.value.code is code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (image_says(num_channels=10**12, channel_def={}), REFUSED),
        (image_says(spatial_shape=[10**6] * 3), REFUSED),
        (image_says(spatial_shape=[2**62] * 3), REFUSED),
        (classes(*map(str, range(20_000))), REFUSED),
        (classes("\x1b[31mred", "b", "c"), WRONG),
        (classes("\u202egpj", "b", "c"), WRONG),
        (classes("a\nb", "b", "c"), WRONG),
        (classes("x" * 10**6, "b", "c"), WRONG),
        (classes({"a": [1]}, "b", "c"), WRONG),
        (classes("", "b", "c"), WRONG),
    ],
)
def test_metadata_without_an_end_or_with_names_that_act_are_refused(
    bundle, edit_json, change, code
) -> None:
    edit_json(bundle / METADATA, change)
    with pytest.raises(ClassifierError) as error:
        load_classifier(bundle)
    assert error.value.code is code
    assert METADATA in str(error.value)
    assert len(str(error.value)) < 400
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize(
    "step",
    [
        {"_target_": "Spacingd", "pixdim": [1e-4] * 3},
        {"_target_": "SpatialPadd", "spatial_size": [10**6] * 3},
        {"_target_": "RepeatChanneld", "repeats": 10**12},
    ],
)
def test_a_preprocessing_without_an_end_is_one_error(bundle, edit_json, image, step) -> None:
    edit_json(
        bundle / INFERENCE,
        lambda content: content["preprocessing"].update(transforms=[{**step, "keys": "image"}]),
    )
    edit_json(bundle / METADATA, image_says(spatial_shape=["*"] * 3))
    with pytest.raises(InputError) as error:
        load_classifier(bundle).predict(image)
    assert error.value.code in (ErrorCode.MEMORY, ErrorCode.MODEL_PREPROCESSING)
    assert "\n" not in str(error.value)


def test_layers_are_counted_for_the_block_alone(monkeypatch) -> None:
    monkeypatch.setattr(building, "_MOST_MODULES", 500)
    others = []
    with building_limited("x"):
        thread = threading.Thread(
            target=lambda: others.append(nn.Sequential(*(nn.ReLU() for _ in range(1_000))))
        )
        thread.start()
        thread.join()
        with pytest.raises(ClassifierError) as error:
            nn.Sequential(*(nn.ReLU() for _ in range(1_000)))
    assert error.value.code is REFUSED
    assert len(others[0]) == 1_000
    assert len(nn.Sequential(*(nn.ReLU() for _ in range(1_000)))) == 1_000


def test_memory_beyond_the_limit_is_an_error_and_the_limit_ends_with_the_block() -> None:
    with memory_limited(64 * 1024**2), pytest.raises((RuntimeError, MemoryError)):
        torch.empty(256 * 1024**2)
    with memory_limited(64 * 1024**2), pytest.raises(MemoryError):
        np.empty(2**28)
    assert torch.empty(256 * 1024**2).numel()


def test_a_link_in_a_zip_is_refused(bundle, tmp_path) -> None:
    zipped = tmp_path / "linked.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        for path in bundle.rglob("*"):
            if path.is_file() and path.name != "model.pt":
                archive.write(path, path.relative_to(bundle))
        link = zipfile.ZipInfo("models/model.pt")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ClassifierError) as error:
        load_classifier(zipped)
    assert error.value.code is REFUSED
    assert "models/model.pt" in str(error.value)
    assert json.loads((bundle / METADATA).read_text())
