"""Images of any library and networks with any preprocessing give the same map, in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.networks.nets import DenseNet121
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    Flip,
    LoadImaged,
    NormalizeIntensity,
    NormalizeIntensityd,
    Orientation,
    Orientationd,
    RandFlip,
    Spacing,
    Spacingd,
)
from torch import Tensor, nn

import SaliencyExplain as se
from SaliencyExplain.errors import ErrorCode, SaliencyExplainError
from SaliencyExplain.models.classifier import Classifier

#: Turned by 20 degrees about the head's axis, with voxels of 1.5 x 2 x 3 mm.
TURNED = np.eye(4)
_COS, _SIN = np.cos(np.radians(20)), np.sin(np.radians(20))
TURNED[:3, :3] = np.array([[_COS, -_SIN, 0], [_SIN, _COS, 0], [0, 0, 1]]) @ np.diag([1.5, 2, 3])
TURNED[:3, 3] = -20, -30, 12
# As NIfTI stores it.
TURNED = TURNED.astype(np.float32).astype(np.float64)
SHAPE = (30, 26, 18)
LABELS = (("L", "R"), ("P", "A"), ("I", "S"))


class Linear(nn.Module):
    """The score of the second class is the inner product of weights and image."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.weights).flatten(1).sum(dim=1)
        return torch.stack([torch.zeros_like(score), score], dim=1)


class RightHalf(nn.Module):
    """The mean of the half with the larger first index, after a convolution that keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(1, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        half = images.shape[2] // 2
        score = self.convolution(images)[:, :, half:].mean(dim=(1, 2, 3, 4))
        return torch.stack([torch.zeros_like(score), score], dim=1)


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return np.random.default_rng(0).random(SHAPE, dtype=np.float32)


@pytest.fixture(scope="module")
def file(values: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "head.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, TURNED), path)
    return path


@pytest.fixture(scope="module")
def right_half() -> Classifier:
    torch.manual_seed(0)
    return se.Model(RightHalf(), ["other", "right"], spacing=(2, 2, 2), intensity="zscore")


def test_a_linear_networks_gradient_is_its_weights_on_the_images_own_turned_grid(
    values: np.ndarray,
) -> None:
    weights = torch.from_numpy(np.random.default_rng(1).normal(size=(1, *SHAPE))).float()
    model = se.Model(Linear(weights), ["no", "yes"], spatial_dims=3, size=SHAPE, orientation="none")
    found = se.explain((values, TURNED), model, se.GradientTimesInput(), target="yes")[0]
    np.testing.assert_allclose(found.values, weights[0].numpy() * values, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.affine, TURNED)


def test_a_map_comes_back_through_resampling_to_where_the_network_looked(
    values: np.ndarray, right_half: Classifier
) -> None:
    found = se.explain((values, TURNED), right_half, se.Gradient(), target="right")[0]
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    prepared = right_half.prepare(MetaTensor(torch.from_numpy(values[None]), affine=TURNED))
    to_network = np.linalg.inv(prepared.affine.numpy()) @ TURNED
    place = index @ to_network[0, :3] + to_network[0, 3]
    half = prepared.shape[1] // 2
    assert np.abs(found.values[(place > half + 1) & (place < prepared.shape[1] - 1)]).min() > 0
    assert np.abs(found.values[place < half - 2]).max() == 0


@pytest.mark.parametrize("kind", ["MetaTensor", "no channel axis", "nibabel", "SimpleITK", "numpy"])
def test_each_kind_of_image_gives_the_map_of_the_file(
    kind: str, values: np.ndarray, file: Path, right_half: Classifier
) -> None:
    given: dict[str, Callable[[], Any]] = {
        "MetaTensor": lambda: MetaTensor(torch.from_numpy(values[None]), affine=TURNED),
        "no channel axis": lambda: MetaTensor(torch.from_numpy(values), affine=TURNED),
        "nibabel": lambda: nibabel.load(file),
        "SimpleITK": lambda: sitk.ReadImage(str(file)),
        "numpy": lambda: (values, TURNED),
    }
    from_file, other = (
        se.explain(one, right_half, ["gradient"], target=1)[0] for one in (file, given[kind]())
    )
    np.testing.assert_allclose(other.affine, from_file.affine, atol=1e-5)
    np.testing.assert_allclose(
        other.values, from_file.values, atol=1e-4 * np.abs(from_file.values).max()
    )


def test_a_map_goes_back_to_nibabel_and_simpleitk_in_its_place(
    file: Path, right_half: Classifier
) -> None:
    found = se.explain(file, right_half, "gradient")[0]
    nifti, itk = found.to_nibabel(), found.to_sitk()
    np.testing.assert_array_equal(nifti.get_fdata(dtype=np.float32), found.values)
    np.testing.assert_allclose(nifti.affine, TURNED, atol=1e-5)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(itk).T, found.values)
    lps = np.diag([-1, -1, 1]) @ TURNED[:3, :3] @ [3, 4, 5] + np.diag([-1, -1, 1]) @ TURNED[:3, 3]
    np.testing.assert_allclose(itk.TransformIndexToPhysicalPoint((3, 4, 5)), lps, atol=1e-5)


@pytest.mark.parametrize(
    "preprocessing",
    [
        Compose(
            [
                LoadImaged("image"),
                EnsureChannelFirstd("image"),
                Orientationd("image", "RAS", labels=LABELS),
                Spacingd("image", (2.0, 2.0, 2.0)),
                NormalizeIntensityd("image", channel_wise=True),
            ]
        ),
        Compose(
            [
                Orientation("RAS", labels=LABELS),
                Spacing((2.0, 2.0, 2.0)),
                NormalizeIntensity(channel_wise=True),
            ]
        ),
        lambda image: NormalizeIntensity(channel_wise=True)(
            Spacing((2.0, 2.0, 2.0))(Orientation("RAS", labels=LABELS)(image))
        ),
    ],
    ids=["dictionary transforms", "array transforms", "a function"],
)
def test_the_same_preprocessing_as_an_object_gives_the_same_map(
    preprocessing: Any, file: Path, right_half: Classifier
) -> None:
    torch.manual_seed(0)
    model = se.Model(RightHalf(), ["other", "right"], preprocessing=preprocessing)
    same, found = (se.explain(file, one, "gradient", target=1)[0] for one in (right_half, model))
    np.testing.assert_allclose(found.values, same.values, rtol=1e-4, atol=1e-9)
    assert model.identity != right_half.identity


def _shifted(image: MetaTensor) -> MetaTensor:
    return MetaTensor(image.as_tensor().roll(3, dims=2), affine=image.affine)


@pytest.mark.parametrize(
    "preprocessing",
    [
        _shifted,
        lambda image: image.as_tensor(),
        lambda image: image + torch.rand(1),
        Compose([RandFlip(0.5, 0)]),
        Compose([Flip(0), NormalizeIntensityd("image")]),
        lambda image: image[:, :2],
        "RAS",
    ],
)
def test_a_preprocessing_that_cannot_be_undone_is_refused(preprocessing: Any) -> None:
    with pytest.raises(SaliencyExplainError) as refusal:
        se.Model(RightHalf(), ["other", "right"], preprocessing=preprocessing)
    assert refusal.value.code is ErrorCode.MODEL_PREPROCESSING


def test_the_users_network_stays_as_it_is_and_may_be_trained_on() -> None:
    network = RightHalf().train()
    model = se.Model(network, ["other", "right"])
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    before = model.network.network.convolution.weight.clone()
    with torch.no_grad():
        network.convolution.weight += 1
    assert torch.equal(model.network.network.convolution.weight, before)
    assert se.Model(network, ["other", "right"]).identity != model.identity


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (np.zeros(SHAPE, np.float32), ErrorCode.VALUE_FORM),
        ((np.zeros(SHAPE, np.float32), TURNED), ErrorCode.IMAGE_VALUES),
        ((np.full(SHAPE, np.nan), TURNED), ErrorCode.IMAGE_VALUES),
        ((np.zeros(SHAPE[:2]), TURNED), ErrorCode.IMAGE_AXES),
        ((np.ones((4, *SHAPE)), np.zeros((4, 4))), ErrorCode.IMAGE_GEOMETRY),
        ([(np.ones(SHAPE), TURNED)] * 2, ErrorCode.CHANNELS),
        (Path("nowhere.nii.gz"), ErrorCode.FILE_MISSING),
        (3, ErrorCode.VALUE_FORM),
    ],
)
def test_what_is_no_image_is_refused(given: Any, code: ErrorCode, right_half: Classifier) -> None:
    with pytest.raises(SaliencyExplainError) as refusal:
        se.explain(given, right_half, "gradient")
    assert refusal.value.code is code


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"classes": ["a", "a"]}, ErrorCode.NAME_DUPLICATE),
        ({"classes": ["a", "b", "c"]}, ErrorCode.MODEL_CLASSES),
        ({"intensity": "zscor"}, ErrorCode.NAME_UNKNOWN),
        ({"preprocessing": NormalizeIntensity(), "size": (8, 8, 8)}, ErrorCode.OPTION_CONFLICT),
        ({"activation": "relu"}, ErrorCode.VALUE_FORM),
    ],
)
def test_arguments_of_a_model_that_do_not_fit_are_refused(
    arguments: dict[str, Any], code: ErrorCode
) -> None:
    with pytest.raises(SaliencyExplainError) as refusal:
        se.Model(RightHalf(), **{"classes": ["other", "right"], **arguments})
    assert refusal.value.code is code


def test_weights_in_a_file_predict_as_the_network_in_memory(tmp_path: Path) -> None:
    network = DenseNet121(spatial_dims=2, in_channels=2, out_channels=2)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    settings: dict[str, Any] = {
        "classes": ["a", "b"], "channels": ["flair", "t1"], "size": (64, 64), "intensity": "zscore"
    }  # fmt: skip
    opened = se.load_model(tmp_path / "weights.pth", network="DenseNet121", **settings)
    drawn = np.random.default_rng(0)
    flair, t1 = ((drawn.random((80, 70)), np.diag([-1.0, -1.0, 1.0, 1.0])) for _ in range(2))
    by_name = se.predict({"t1": t1, "flair": flair}, opened)
    assert by_name == pytest.approx(se.predict([flair, t1], se.Model(network, **settings)))
    assert opened.source is None
