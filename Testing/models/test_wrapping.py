"""Bundles that are written here work here, and in MONAI without us."""

from __future__ import annotations

import json
from pathlib import Path

import monai.bundle
import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import DenseNet

from SaliencyExplain.errors import ClassifierError, InputError, OutputError
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.models.configuration import Configuration
from SaliencyExplain.models.intensity import intensity_transforms
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.preprocessing import build_preprocessing
from SaliencyExplain.models.wrapping import wrap
from Testing.models.conftest import (
    CLASSES,
    affine_of,
    image_of,
    make_bundle,
    small_network,
)


def test_monai_alone_reads_the_bundle_and_gives_the_same_scores(bundle, tmp_path) -> None:
    file = tmp_path / "scan.nii.gz"
    values = np.random.default_rng(0).random((30, 28, 12)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, affine_of(3, "oblique")), file)

    parser = ConfigParser()
    parser.read_config(str(bundle / "configs/inference.json"))
    parser.read_meta(str(bundle / "configs/metadata.json"))
    network = parser.get_parsed_content("network").eval()
    network.load_state_dict(torch.load(bundle / "models/model.pt", weights_only=True))
    prepared = parser.get_parsed_content("preprocessing")({"image": str(file)})["image"]
    with torch.no_grad():
        scores = parser.get_parsed_content("inferer")(prepared[None], network)[0]
    probabilities = parser.get_parsed_content("postprocessing")({"pred": scores})["pred"]

    classifier = load_classifier(bundle)
    image = read_image(file)
    ours = classifier.prepare(image)
    np.testing.assert_allclose(ours.numpy(), prepared.numpy(), atol=1e-5)
    np.testing.assert_allclose(ours.affine.numpy(), prepared.affine.numpy(), atol=1e-6)
    np.testing.assert_allclose(classifier.scores(ours).numpy(), scores.numpy(), atol=1e-5)
    # Activationsd acts along the first axis, which for one image's scores is the classes.
    np.testing.assert_allclose(classifier.predict(image), probabilities.numpy(), atol=1e-5)


def test_monais_bundle_load_returns_the_trained_network(bundle) -> None:
    network = monai.bundle.load(
        bundle.name, bundle_dir=str(bundle.parent), workflow_type="inference", device="cpu"
    )
    noise = torch.rand(2, 1, 16, 18, 20)
    ours = load_classifier(bundle).network
    with torch.no_grad():
        np.testing.assert_allclose(network.eval()(noise).numpy(), ours(noise).numpy(), atol=1e-6)


def test_the_metadata_follows_monais_vocabulary(bundle) -> None:
    content = json.loads((bundle / "configs/metadata.json").read_text())
    required = {"version", "monai_version", "pytorch_version", "numpy_version", "task"}
    assert required <= set(content)
    pred = content["network_data_format"]["outputs"]["pred"]
    assert pred["channel_def"] == {str(i): name for i, name in enumerate(CLASSES)}


def test_the_same_arguments_write_the_same_bytes(tmp_path) -> None:
    first, second = make_bundle(tmp_path / "a" / "net"), make_bundle(tmp_path / "b" / "net")
    names = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def prepared_by(words: str, values: np.ndarray) -> np.ndarray:
    steps = intensity_transforms(words, len(values))
    configuration = Configuration({"preprocessing": steps}, trust=False)
    compose = build_preprocessing(configuration, values.ndim - 1)
    return compose({"image": image_of(values, np.eye(4))})["image"].numpy()


def test_the_intensity_words_do_what_they_say() -> None:
    values = np.random.default_rng(0).normal(50, 20, (2, 9, 8, 7)).astype(np.float32)
    values[:, :3] = 0
    flat = values.reshape(2, -1).T
    np.testing.assert_array_equal(prepared_by("none", values), values)

    def compare(words: str, expected: np.ndarray, tolerance: float = 1e-5) -> None:
        found = prepared_by(words, values).reshape(2, -1).T
        np.testing.assert_allclose(found, expected, atol=tolerance)

    compare("zscore", (flat - flat.mean(0)) / flat.std(0))
    masked = np.ma.masked_equal(flat, 0)
    nonzero = ((masked - masked.mean(0)) / masked.std(0)).filled(0)
    compare("zscore-nonzero", nonzero)
    compare("scale", (flat - flat.min(0)) / (flat.max(0) - flat.min(0)))
    compare("window:20,70", np.clip((flat - 20) / 50, 0, 1))
    for words, low, high in (("percentile", 1, 99), ("percentile:5,95", 5, 95)):
        ends = np.percentile(flat, [low, high], axis=0)
        compare(words, np.clip((flat - ends[0]) / (ends[1] - ends[0]), 0, 1), 1e-4)


def test_imagenet_scaling_is_torchvisions() -> None:
    values = np.random.default_rng(0).uniform(0, 255, (3, 9, 8)).astype(np.float32)
    mean = np.array([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    deviation = np.array([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    found = prepared_by("imagenet", values)
    np.testing.assert_allclose(found, (values / 255 - mean) / deviation, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"intensity": "zscor"}, "Did you mean 'zscore'"),
        ({"intensity": "window"}, "window:-100,240"),
        ({"intensity": "window:5,1"}, "lower number first"),
        ({"intensity": "percentile:-1,101"}, "percentiles from 0 to 100"),
        ({"intensity": "imagenet"}, "red,green,blue"),
        ({"orientation": "RAX"}, "3 letters"),
        ({"orientation": "RLS"}, "3 letters"),
        ({"spacing": [1, 1]}, "3 positive numbers"),
        ({"size": [16, 16, 0]}, "3 positive numbers"),
        ({"fit": "squash"}, "squash"),
        ({"activation": "tanh"}, "softmax, sigmoid or none"),
        ({"channels": ["t1", "t1"]}, "each channel once"),
        ({"channels": ["t1", "t2"]}, "cannot take an image of 2 channels"),
        ({"network_args": {"growth": 3}}, "cannot be built"),
    ],
)
def test_arguments_that_make_no_sense_write_nothing(tmp_path, changes, says) -> None:
    with pytest.raises(InputError, match=says):
        make_bundle(tmp_path / "bundle", **changes)
    assert list(tmp_path.iterdir()) == []


def test_class_names_must_fit_the_network(tmp_path) -> None:
    network = small_network(2).state_dict()
    for classes, says in (
        (["a", "b"], "does not exist in the inst"),
        (["a", "a"], "once"),
    ):
        with pytest.raises(InputError, match=says):
            wrap("monai.networks.nets.Nothing", network, classes, tmp_path / "x")
    bundle = make_bundle(tmp_path / "fits")
    state = torch.load(bundle / "models/model.pt", weights_only=True)
    arguments = json.loads((bundle / "configs/inference.json").read_text())["network_def"]
    arguments.pop("_target_")
    with pytest.raises(ClassifierError, match="gives 3 scores and 2 classes are named"):
        wrap(
            "monai.networks.nets.DenseNet",
            state,
            ["a", "b"],
            tmp_path / "two",
            network_args=arguments,
            size=[16, 16, 16],
        )


def test_an_existing_folder_is_not_overwritten(bundle) -> None:
    before = (bundle / "models/model.pt").read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        make_bundle(bundle)
    assert (bundle / "models/model.pt").read_bytes() == before


def test_a_missing_weight_file_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match=r"absent\.pt cannot be read: No such file"):
        wrap(
            "monai.networks.nets.DenseNet121",
            tmp_path / "absent.pt",
            ["a", "b"],
            tmp_path / "out",
            network_args={"spatial_dims": 2, "in_channels": 1, "out_channels": 2},
        )
    with pytest.raises(OutputError, match="cannot be written"):
        make_bundle(Path("/proc/nowhere/bundle"))


def test_a_network_that_ends_in_a_softmax_is_noticed(tmp_path) -> None:
    file = tmp_path / "ends.py"
    file.write_text(
        "from torch import nn\n"
        "class Ends(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Softmax(1))\n"
    )
    from torch import nn

    state = nn.Sequential(nn.Conv2d(1, 3, 3)).state_dict()
    with pytest.raises(ClassifierError, match="set the activation to none"):
        wrap(
            f"{file}:Ends",
            state,
            CLASSES,
            tmp_path / "twice",
            size=[8, 8],
            activation="softmax",
            trust=True,
        )
    path = wrap(
        f"{file}:Ends",
        state,
        CLASSES,
        tmp_path / "once",
        size=[8, 8],
        activation="none",
        trust=True,
    )
    classifier = load_classifier(path, trust=True)
    image = image_of(np.random.default_rng(0).random((1, 8, 8)), affine_of(2, "straight"))
    assert classifier.predict(image).sum() == pytest.approx(1)
    assert sorted(p.name for p in (path / "scripts").iterdir()) == ["__init__.py", "ends.py"]


def test_two_bundles_with_scripts_of_the_same_name_do_not_mix(tmp_path) -> None:
    classifiers = []
    for channels in (2, 5):
        folder = tmp_path / str(channels)
        folder.mkdir()
        file = folder / "network.py"
        file.write_text(
            "from torch import nn\n"
            "class Network(nn.Sequential):\n"
            "    def __init__(self):\n"
            f"        super().__init__(nn.Conv2d(1, {channels}, 3), nn.AdaptiveAvgPool2d(1),\n"
            f"                         nn.Flatten(), nn.Linear({channels}, 2))\n"
        )
        from torch import nn

        state = nn.Sequential(
            nn.Conv2d(1, channels, 3), nn.Identity(), nn.Identity(), nn.Linear(channels, 2)
        ).state_dict()
        path = wrap(
            f"{file}:Network", state, ["a", "b"], folder / "bundle", size=[8, 8], trust=True
        )
        classifiers.append(load_classifier(path, trust=True))
    found = [c.network.network[0].out_channels for c in classifiers]
    assert found == [2, 5]


def test_a_window_pads_with_its_lower_end_and_the_rest_with_zero(tmp_path) -> None:
    # A CT's padding of 0 HU would be water.
    classifier = load_classifier(
        make_bundle(tmp_path / "ct", intensity="window:-100,240", size=[40, 40, 40])
    )
    image = image_of(np.full((1, 8, 8, 8), 70.0) + np.eye(8)[None, None], np.diag([2.0, 2, 2, 1]))
    prepared = classifier.prepare(image).numpy()
    assert prepared[0, 0, 0, 0] == 0
    assert prepared[0, 20, 20, 20] == pytest.approx(0.5, abs=0.01)


def test_an_image_outside_the_intensity_window_is_refused(tmp_path: Path) -> None:
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "block_config": [1]}
    path = wrap(
        "monai.networks.nets.DenseNet",
        DenseNet(**arguments).state_dict(),
        ["a", "b"],
        tmp_path / "windowed",
        network_args=arguments,
        size=[16, 16, 16],
        intensity="window:1000,2000",
    )
    noise = np.random.default_rng(0).random((16, 16, 16)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), tmp_path / "scan.nii.gz")
    with pytest.raises(InputError, match=r"leaves nothing of this image: all voxels.* are 0"):
        load_classifier(path).prepare(read_image(tmp_path / "scan.nii.gz"))
