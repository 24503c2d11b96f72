"""A preprocessing that is given as a file of MONAI's transforms."""

from __future__ import annotations

import json
from pathlib import Path

import monai.transforms as mt
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.wrapping import wrap
from Testing.expected_errors import error_with

CLASSES = ["a", "b"]
STEPS = [
    {"_target_": "LoadImaged", "keys": ["image", "label"]},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "NormalizeIntensityd", "keys": "image", "subtrahend": 3.0, "divisor": 2.0},
    {"_target_": "Resized", "keys": "image", "spatial_size": [12, 10], "mode": "bilinear"},
]
PYTHON = """
from monai.transforms import (
    Compose, EnsureChannelFirstd, LoadImaged, NormalizeIntensityd, RandFlipd, Resized)

train_transforms = Compose([RandFlipd("image", prob=0.5)])

def make():
    return Compose([LoadImaged("image"), EnsureChannelFirstd("image"),
                    NormalizeIntensityd("image", subtrahend=3.0, divisor=2.0),
                    Resized("image", spatial_size=(12, 10), mode="bilinear")])

val_transforms = make()
"""


@pytest.fixture
def bundle_with(tmp_path):
    """Makes and loads a bundle of a small network with the transforms of a file."""

    def make(transforms: str | Path, *, trust: bool = False, **words):
        torch.manual_seed(0)
        from monai.networks.nets import DenseNet

        arguments = {"init_features": 4, "growth_rate": 4, "block_config": [1]}
        network = DenseNet(2, 1, 2, **arguments)
        path = wrap(
            "monai.networks.nets.DenseNet", network.state_dict(), CLASSES, tmp_path / "bundle",
            network_args=arguments, spatial_dims=2, transforms=transforms, trust=trust, **words,
        )  # fmt: skip
        return load_classifier(path, trust=trust)

    return make


def image() -> MetaTensor:
    values = torch.rand((1, 30, 25), generator=torch.Generator().manual_seed(2)) * 9
    return MetaTensor(values, affine=torch.diag(torch.tensor([1.0, 1.5, 1.0, 1.0])))


def check(classifier) -> None:
    """Asserts that the model's input is what MONAI's own transforms give."""
    steps = mt.Compose(
        [
            mt.NormalizeIntensity(subtrahend=3.0, divisor=2.0),
            mt.Resize((12, 10), mode="bilinear"),
        ]
    )
    expected = steps(image()).numpy()
    np.testing.assert_allclose(classifier.prepare(image()).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("form", ["list", "compose", "alone"])
def test_transforms_in_json_need_no_trust(bundle_with, tmp_path, form):
    compose = {"_target_": "Compose", "transforms": STEPS}
    content = {"list": {"val_transforms": STEPS}, "compose": {"preprocessing": compose}}
    file = tmp_path / "transforms.json"
    file.write_text(json.dumps(content.get(form, compose)))
    classifier = bundle_with(file)
    check(classifier)
    assert not classifier.trusted
    assert {(one.name, one.value) for one in classifier.settings} >= {
        ("preprocessing", "transforms.json")
    }


@pytest.mark.parametrize("name", ["", ":val_transforms", ":make"])
def test_transforms_in_python_come_with_trust_and_are_copied(bundle_with, tmp_path, name):
    file = tmp_path / "mine.py"
    file.write_text(PYTHON)
    classifier = bundle_with(f"{file}{name}", trust=True)
    check(classifier)
    assert (tmp_path / "bundle" / "scripts" / "mine.py").is_file()
    assert classifier.trusted


@pytest.mark.parametrize(
    ("file", "text", "code", "named"),
    [
        ("t.py", PYTHON, ErrorCode.MODEL_UNTRUSTED, "t.py"),
        ("t.py", "x = 1", ErrorCode.NAME_UNKNOWN, "t.py"),
        ("t.py", "x = (", ErrorCode.FILE_FORMAT, "t.py"),
        ("t.txt", "", ErrorCode.FILE_FORMAT, "t.txt"),
        ("t.json", "{}", ErrorCode.NAME_UNKNOWN, "preprocessing"),
        ("t.json", '{"transforms": 3}', ErrorCode.FILE_FORMAT, "t.json"),
        ("t.json", "{", ErrorCode.MODEL_CONFIGURATION, "t.json"),
        (
            "t.json",
            '{"transforms": [], "val_transforms": []}',
            ErrorCode.NAME_DUPLICATE,
            "val_transforms",
        ),
        (
            "t.json",
            json.dumps({"transforms": [{"_target_": "RandFlipd", "keys": "image"}]}),
            ErrorCode.MODEL_PREPROCESSING,
            "RandFlipd",
        ),
        (
            "t.json",
            json.dumps({"transforms": [{"_target_": "os.system", "command": "true"}]}),
            ErrorCode.MODEL_REFUSED,
            "os.system",
        ),
    ],
)
def test_what_is_no_usable_file_is_refused_and_leaves_nothing(
    bundle_with, tmp_path, file, text, code, named
):
    (tmp_path / file).write_text(text)
    with error_with(code, named):
        bundle_with(tmp_path / file)
    assert not (tmp_path / "bundle").exists()


def test_a_file_that_is_absent_and_one_beside_words_are_refused(bundle_with, tmp_path):
    with error_with(ErrorCode.FILE_UNREADABLE, "absent.json"):
        bundle_with(tmp_path / "absent.json")
    with error_with(ErrorCode.OPTION_CONFLICT, "t.json"):
        bundle_with(tmp_path / "t.json", size=[8, 8])
