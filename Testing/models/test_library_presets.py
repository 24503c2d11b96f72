"""A preset prepares an image as the library's own inference code does."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType

import monai.transforms as mt
import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image
from torch import nn

import SaliencyExplain as se
from SaliencyExplain.cli.model_commands import add
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.library_presets import PRESETS
from SaliencyExplain.models.torchvision_operators import load_torchvision
from Testing.expected_errors import error_with


def model_like(library: str, dims: int = 2, channels: int = 1, **words) -> Classifier:
    """A model of any network with a library's preprocessing."""
    kind = nn.Conv3d if dims == 3 else nn.Conv2d
    pool = nn.AdaptiveAvgPool3d if dims == 3 else nn.AdaptiveAvgPool2d
    network = nn.Sequential(kind(channels, 2, 1), pool(1), nn.Flatten())
    names = ("red", "green", "blue") if channels == 3 else ("image",)
    return se.Model(network, ["a", "b"], channels=names, like=library, **words)


def picture(path: Path, height: int, width: int, *, colour: bool = True) -> np.ndarray:
    """A smooth picture with some noise, written as PNG; ``(H, W[, 3])``."""
    random = np.random.default_rng(3)
    rows, columns = np.mgrid[:height, :width]
    smooth = 120 + 80 * np.sin(rows / 11) * np.cos(columns / 17)
    noisy = smooth[..., None] + random.normal(scale=25, size=(height, width, 3))
    values = np.clip(noisy, 0, 255).astype(np.uint8)
    values = values if colour else values[..., 0]
    Image.fromarray(values).save(path)
    return values


def read(path: Path, *, colour: bool) -> MetaTensor:
    return read_image(path, colour=colour)


@pytest.mark.parametrize("shape", [(300, 411), (411, 300), (180, 233)])
def test_torchvision(torchvision: ModuleType, tmp_path, shape):
    values = picture(tmp_path / "p.png", *shape)
    tv = load_torchvision().transforms
    steps = tv.Compose(
        [
            tv.Resize(256, antialias=True),
            tv.CenterCrop(224),
            tv.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    expected = steps(torch.from_numpy(values).permute(2, 0, 1) / 255.0)
    found = model_like("torchvision", channels=3).prepare(read(tmp_path / "p.png", colour=True))
    torch.testing.assert_close(found.as_tensor(), expected, atol=1e-4, rtol=0)


def test_timm_to_the_rounding_of_its_eight_bit_picture(timm: ModuleType, tmp_path):
    picture(tmp_path / "p.png", 300, 411)
    data = pytest.importorskip("timm.data")
    steps = data.create_transform(224, interpolation="bicubic", crop_pct=0.875)
    expected = steps(Image.open(tmp_path / "p.png"))
    found = model_like("timm", channels=3).prepare(read(tmp_path / "p.png", colour=True))
    # Pillow rounds to whole grey levels after each of two passes, and cuts off what overshoots.
    level = 1 / 255 / 0.224
    difference = (found.as_tensor() - expected).abs()
    assert float(difference.flatten().quantile(0.999)) < 2 * level
    assert float(difference.mean()) < 0.5 * level


def test_hugging_face_to_the_rounding_of_its_eight_bit_picture(torchvision: ModuleType, tmp_path):
    transformers = pytest.importorskip("transformers")
    picture(tmp_path / "p.png", 300, 411)
    processor = transformers.ViTImageProcessor()
    expected = processor(Image.open(tmp_path / "p.png").convert("RGB"), return_tensors="pt")
    found = model_like("huggingface", channels=3).prepare(read(tmp_path / "p.png", colour=True))
    level = 1 / 255 / 0.5
    assert float((found.as_tensor() - expected["pixel_values"][0]).abs().max()) < 2 * level


def test_torchxrayvision_to_its_other_filter(torchvision: ModuleType, tmp_path):
    vision = pytest.importorskip("torchxrayvision")
    pytest.importorskip("skimage")
    values = picture(tmp_path / "p.png", 320, 260, colour=False)
    crop, resize = vision.datasets.XRayCenterCrop(), vision.datasets.XRayResizer(224)
    expected = resize(crop(vision.datasets.normalize(values, 255)[None]))
    found = model_like("torchxrayvision").prepare(read(tmp_path / "p.png", colour=False)).numpy()
    assert found.shape == expected.shape
    # Its Gaussian filter is not the triangle that Pillow and torch have.
    assert np.abs(found - expected).mean() < 0.03 * 2048
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98


def test_medmnist(torchvision: ModuleType, tmp_path):
    values = picture(tmp_path / "p.png", 28, 28, colour=False)
    found = model_like("medmnist").prepare(read(tmp_path / "p.png", colour=False)).numpy()
    np.testing.assert_allclose(found[0], values / 127.5 - 1, atol=1e-5)


def test_monai_2d_as_its_mednist_tutorial_reads_a_picture(tmp_path):
    picture(tmp_path / "p.png", 64, 50, colour=False)
    steps = mt.Compose(
        [mt.LoadImage(image_only=True), mt.EnsureChannelFirst(), mt.ScaleIntensity()]
    )
    expected = steps(tmp_path / "p.png").numpy()
    found = model_like("monai").prepare(read(tmp_path / "p.png", colour=False)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_monai_3d_as_its_densenet_tutorial_resizes_a_volume(tmp_path):
    random = np.random.default_rng(5)
    affine = np.array([[-1.2, 0, 0, 90], [0, 0.9, 0, -80], [0, 0, 1.5, -40], [0, 0, 0, 1.0]])
    volume = random.gamma(2, 50, size=(60, 71, 44)).astype(np.float32)
    nibabel.Nifti1Image(volume, affine).to_filename(tmp_path / "v.nii.gz")
    steps = mt.Compose(
        [
            mt.LoadImage(image_only=True),
            mt.ScaleIntensity(),
            mt.EnsureChannelFirst(channel_dim="no_channel"),
            mt.Resize((32, 32, 32)),
        ]
    )
    expected = steps(tmp_path / "v.nii.gz").numpy()
    model = model_like("monai", dims=3, size=(32, 32, 32))
    found = model.prepare(read_image(tmp_path / "v.nii.gz")).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_setting_that_is_given_replaces_the_presets_own():
    model = model_like("torchvision", channels=3, intensity="window:0,255", size=(96, 96))
    found = {one.name: one for one in model.settings}
    assert found["intensity"].value == "window:0,255"
    assert found["intensity"].source == found["size"].source == "given"
    assert found["interpolation"].source == "preset"
    assert model.input_size == (96, 96)


def test_an_unknown_library_and_one_for_other_axes_are_refused():
    with error_with(ErrorCode.NAME_UNKNOWN, "torchvison"):
        model_like("torchvison", channels=3)
    with error_with(ErrorCode.OPTION_CONFLICT, "torchvision"):
        model_like("torchvision", dims=3, spatial_dims=3)


def test_the_command_line_offers_every_preset():
    annotation = str(inspect.signature(add).parameters["like"].annotation)
    assert all(f"'{name}'" in annotation for name in PRESETS)
