"""Images whose intensities the preprocessing cuts off or makes constant, and those it suits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai import transforms
from monai.data import MetaTensor

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.models.classifier import INTENSITY_NOTES
from SaliencyExplain.models.clipping import run_watched
from SaliencyExplain.models.intensity import intensity_transforms
from Testing.models.conftest import affine_of, classifier_of, image_of

SARCOMAS = ("STS_002", "STS_019", "STS_024", "STS_025")


def made(words: str, channels: int = 1) -> list[object]:
    """The transforms of an intensity word."""
    return [
        getattr(transforms, step.pop("_target_"))(**step)
        for step in intensity_transforms(words, channels)
    ]


def notes_of(image: MetaTensor, words: str | list[object]) -> list[str]:
    axes = image.ndim - 1
    steps = made(words, len(image)) if isinstance(words, str) else words
    classifier = classifier_of(steps, axes)
    classifier.channels = tuple(f"c{number}" for number in range(len(image)))
    return classifier.prepare(image).meta[INTENSITY_NOTES]


def is_told(image: MetaTensor, words: str) -> bool:
    """Whether there is a note, or a refusal because nothing at all is left."""
    try:
        return len(notes_of(image, words)) == 1
    except InputError as error:
        return error.code is ErrorCode.IMAGE_VALUES


def changed(image: MetaTensor, scale: float, offset: float = 0.0) -> MetaTensor:
    return image_of(image.numpy() * scale + offset, image.affine.numpy())


def picture(high: float) -> MetaTensor:
    """Something like an X-ray: a smooth field of grey values, with noise and a black corner."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(0, 1, 120), np.linspace(0, 1, 100), indexing="ij")
    values = 0.5 + 0.4 * np.sin(5 * x) * np.cos(4 * y) + 0.03 * rng.normal(size=x.shape)
    values[:2, :2] = 0.0
    values = np.clip(values, 0, 1)
    return image_of(np.round(high * values)[None], affine_of(2, "straight"))


def body(offset: float = 0.0, tissue: float = 40.0) -> MetaTensor:
    """A ball of tissue with fat around it and bone inside, in air; Hounsfield units."""
    rng = np.random.default_rng(1)
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, 40)] * 3, indexing="ij"))
    radius = np.sqrt((place**2).sum(0))
    values = np.where(radius < 0.85, -90.0, -1000.0)
    values = np.where(radius < 0.75, tissue, values)
    values = np.where(radius < 0.3, 700.0, values)
    return image_of((values + 15 * rng.normal(size=radius.shape) + offset)[None], np.eye(4))


def test_a_16_bit_picture_in_an_8_bit_window_is_told_with_its_share() -> None:
    image = picture(65535.0)
    (note,) = notes_of(image, "window:0,255")
    share = 100 * float((image.numpy() > 255).mean())
    assert f"{share:.2f} %" in note
    assert f"{float(image.numpy().max()):g}" in note
    assert notes_of(picture(255.0), "window:0,255") == []


@pytest.mark.parametrize("words", ["window:0,255", "imagenet"])
def test_a_picture_scaled_before_is_told(words) -> None:
    channels = 3 if words == "imagenet" else 1
    scaled, usual = picture(255.0), picture(255.0)
    scaled = image_of(np.repeat(scaled.numpy() / 255, channels, 0), scaled.affine.numpy())
    usual = image_of(np.repeat(usual.numpy(), channels, 0), usual.affine.numpy())
    (note,) = notes_of(scaled, words)
    assert "constant" in note
    assert notes_of(usual, words) == []


def test_stored_values_in_a_window_of_hounsfield_units_are_told() -> None:
    assert notes_of(body(), "window:-100,240") == []
    assert notes_of(body(), "window:-1000,1000") == []
    assert is_told(body(1024.0), "window:-100,240")
    assert is_told(body(), "window:924,1264")
    assert is_told(body(1024.0, tissue=60.0), "window:-1000,1000")


@pytest.mark.parametrize(
    "step",
    [
        transforms.Lambdad(keys="image", func=lambda x: torch.clamp(x, 0, 255) / 255),
        transforms.ThresholdIntensityd(keys="image", threshold=255, above=False, cval=255),
        transforms.ScaleIntensityRanged(keys="image", a_min=0, a_max=255, b_min=0, b_max=1),
        transforms.NormalizeIntensityd(keys="image", subtrahend=123.0, divisor=58.0),
    ],
)
def test_steps_of_a_users_own_bundle_are_watched_too(step) -> None:
    assert len(notes_of(picture(65535.0), [step])) == 1
    assert notes_of(picture(255.0), [step]) == []


def test_the_channel_is_named_and_padding_does_not_count() -> None:
    good, bad = picture(255.0), picture(65535.0)
    both = image_of(np.concatenate([good.numpy(), bad.numpy()]), good.affine.numpy())
    (note,) = notes_of(both, "window:0,255")
    assert "c1" in note
    assert "c0" not in note
    # A field of view far larger than the image: the padding lies inside of the window.
    pad = transforms.ResizeWithPadOrCropd(keys="image", spatial_size=[500, 500], value=100.0)
    (note,) = notes_of(bad, [pad, *made("window:0,255")])
    share = 100 * float((bad.numpy() > 255).mean())
    assert f"{share:.2f} %" in note


def test_one_hot_voxel_that_leaves_the_rest_black_is_told() -> None:
    image = picture(255.0)
    image[0, 5, 5] = 1e6
    assert len(notes_of(image, "scale")) == 1
    assert notes_of(picture(255.0), "scale") == []


@pytest.mark.parametrize("lazy", [False, True])
def test_watching_changes_no_byte(lazy) -> None:
    steps = [
        transforms.Spacingd(keys="image", pixdim=[1.3, 1.3, 1.3], mode="bilinear"),
        transforms.Resized(keys="image", spatial_size=[30, 31, 32], mode="trilinear"),
        *made("window:-100,240"),
        transforms.CenterSpatialCropd(keys="image", roi_size=[20, 20, 20]),
        *made("zscore"),
    ]
    compose = transforms.Compose(steps, lazy=lazy)
    expected = compose({"image": body().clone()})["image"]
    found, _ = run_watched(compose, body().clone(), ["image"])
    assert found.as_tensor().numpy().tobytes() == expected.as_tensor().numpy().tobytes()
    np.testing.assert_array_equal(found.affine, expected.affine)


def test_a_question_tells_it() -> None:
    classifier = classifier_of(made("window:0,255"), 2)
    assert any("cuts off" in note for note in prepare(picture(65535.0), classifier, "0").notes)
    assert not prepare(picture(255.0), classifier, "0").notes


@pytest.mark.parametrize("patient", SARCOMAS)
def test_usual_windows_of_real_scans_are_no_reason_for_a_note(shared_data: Path, patient) -> None:
    folder = shared_data / "soft-tissue-sarcoma-nifti" / patient
    scan = read_image(folder / "CT_image.nii.gz")[:, ::2, ::2]
    windows = ["-100,240", "-160,240", "-1000,1000", "-1350,150", "0,80", "-450,1050", "300,2000"]
    for words in [*(f"window:{one}" for one in windows), "scale", "percentile", "zscore"]:
        assert notes_of(scan, words) == [], words
    for words in ("window:-100,240", "window:-1350,150", "window:0,80"):
        assert is_told(changed(scan, 1.0, 1024.0), words), words
    assert is_told(changed(scan, 1 / 3000, 1 / 3), "window:0,255")
    for name in ("MR_T1", "PET"):
        other = read_image(folder / f"{name}_image.nii.gz")
        for words in ("scale", "percentile", "percentile:0.5,99.5", "zscore", "zscore-nonzero"):
            assert notes_of(other, words) == [], (name, words)
    for words in ("window:0,10", "window:0,20"):
        assert notes_of(other, words) == [], words


@pytest.mark.slow
def test_real_pictures_in_8_bits_are_no_reason_for_a_note(shared_data: Path) -> None:
    pictures = [
        *sorted((shared_data / "cxr-nih-boxes").glob("*.png"))[:4],
        *sorted((shared_data / "cxr-lung-masks").glob("?.jpg")),
        *sorted((shared_data / "brain-mri-4class-nickparvar").glob("*/*.jp*g")),
    ]
    assert len(pictures) > 10
    for path in pictures:
        image = read_image(path)[:1]
        for words in ("window:0,255", "scale", "percentile", "zscore"):
            assert notes_of(image, words) == [], (path.name, words)
        for scale in (257.0, 16.0, 1 / 255):
            assert is_told(changed(image, scale), "window:0,255"), (path.name, scale)
        assert is_told(changed(image, 16.0), "window:0,65535"), path.name
