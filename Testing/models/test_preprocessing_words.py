"""What the words of a preprocessing do to an image, and that its affine stays true."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.models.configuration import Configuration
from SaliencyExplain.models.intensity import intensity_transforms
from SaliencyExplain.models.picture_steps import (
    AntialiasedResized,
    CenterCropd,
    ShortestResized,
    SquareCropd,
    SquarePadd,
)
from SaliencyExplain.models.preprocessing import affine_error, build_preprocessing
from SaliencyExplain.models.preprocessing_words import FITS, PreprocessingWords
from Testing.expected_errors import error_with


def prepared(image: MetaTensor, **words) -> MetaTensor:
    """The image after the preprocessing that the words mean."""
    dims = image.ndim - 1
    steps = PreprocessingWords.of(words).steps(dims, len(image))
    content = {"preprocessing": {"_target_": "Compose", "transforms": steps}}
    return build_preprocessing(Configuration(content, trust=False), dims)({"image": image})["image"]


def scaled(values, words: str) -> np.ndarray:
    """Values after an intensity scaling alone."""
    image = MetaTensor(torch.tensor(values, dtype=torch.float32), affine=torch.eye(4))
    return prepared(image, intensity=words, orientation="none").numpy()


CT = [[[-2000.0, -1000.0], [-300.0, 400.0]], [[0.0, 50.0], [100.0, 900.0]]]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("clip:-1000,400", np.clip(CT, -1000, 400)),
        ("window:-1000,400", (np.clip(CT, -1000, 400) + 1000) / 1400),
        ("window:-1000,400,-1,1", (np.clip(CT, -1000, 400) + 1000) / 700 - 1),
        ("window:0,255,-1024,1024", np.clip(CT, 0, 255) / 255 * 2048 - 1024),
        ("fixed:10/20", (np.array(CT) - 10) / 20),
        ("fixed:10,20/2,4", (np.array(CT) - [[[10]], [[20]]]) / [[[2]], [[4]]]),
    ],
)
def test_a_scaling_does_what_it_says(words, expected):
    np.testing.assert_allclose(scaled(CT, words), expected, rtol=1e-5, atol=1e-5)


def test_scalings_follow_one_another_in_their_order():
    clipped = np.clip(CT, -1000, 400)
    mean, deviation = clipped.mean((1, 2)), clipped.std((1, 2))
    expected = (clipped - mean[:, None, None]) / deviation[:, None, None]
    np.testing.assert_allclose(scaled(CT, "clip:-1000,400+zscore"), expected, atol=1e-5)
    least, most = scaled(CT, "scale:-1,1").min((1, 2)), scaled(CT, "scale:-1,1").max((1, 2))
    np.testing.assert_allclose([least, most], [[-1, -1], [1, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        ("clip", ErrorCode.VALUE_FORM, "clip"),
        ("clip:1,2,3,4", ErrorCode.VALUE_FORM, "clip:1,2,3,4"),
        ("window:5,1", ErrorCode.VALUE_RANGE, "window:5,1"),
        ("window:0,1,1,0", ErrorCode.VALUE_RANGE, "window:0,1,1,0"),
        ("fixed:1", ErrorCode.VALUE_FORM, "fixed:1"),
        ("fixed:1/0", ErrorCode.VALUE_RANGE, "fixed:1/0"),
        ("fixed:1,2,3/1", ErrorCode.VALUE_RANGE, "fixed:1,2,3/1"),
        ("percentile:-1,50", ErrorCode.VALUE_RANGE, "percentile:-1,50"),
        ("zscore+squash", ErrorCode.NAME_UNKNOWN, "squash"),
    ],
)
def test_a_scaling_that_makes_no_sense_is_refused(words, code, named):
    with error_with(code, named):
        intensity_transforms(words, 2)


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        ({"fit": "squash", "size": [8, 8]}, ErrorCode.NAME_UNKNOWN, "squash"),
        ({"fit": "shortest"}, ErrorCode.OPTION_MISSING, "shortest"),
        ({"shortest": 9, "size": [8, 8]}, ErrorCode.OPTION_CONFLICT, "shortest"),
        ({"interpolation": "area", "antialias": True}, ErrorCode.OPTION_CONFLICT, "area"),
        ({"antialias": True, "align_corners": True}, ErrorCode.OPTION_CONFLICT, "corners"),
        ({"spacings": [1, 1]}, ErrorCode.NAME_UNKNOWN, "spacing"),
        ({"order": "backwards"}, ErrorCode.NAME_UNKNOWN, "backwards"),
    ],
)
def test_words_that_exclude_each_other_are_refused(words, code, named):
    with error_with(code, named):
        PreprocessingWords.of(words)


def test_antialiasing_is_refused_in_3d_and_a_crop_larger_than_the_shortest_side():
    words = PreprocessingWords.of({"size": [8, 8, 8], "antialias": True})
    with error_with(ErrorCode.OPTION_CONFLICT):
        words.steps(3, 1)
    words = PreprocessingWords.of({"size": [8, 12], "fit": "shortest", "shortest": 10})
    with error_with(ErrorCode.VALUE_RANGE, "10", "12"):
        words.steps(2, 1)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("fit", FITS)
def test_every_fit_reaches_the_size_and_its_affine_says_where_the_voxels_went(fit, dims):
    size = [16, 12, 14][:dims]
    sizes = ("bilinear", "bicubic") if dims == 2 else ("trilinear",)
    for mode, aligned in itertools.product(sizes, (False, True)):
        interpolation = "cubic" if mode == "bicubic" else "linear"
        words = PreprocessingWords.of(
            {"size": size, "fit": fit, "interpolation": interpolation, "align_corners": aligned}
        )
        content = {"preprocessing": {"_target_": "Compose", "transforms": words.steps(dims, 1)}}
        steps = build_preprocessing(Configuration(content, trust=False), dims)
        image = MetaTensor(torch.rand(1, *(29, 34, 25)[:dims]), affine=torch.eye(4))
        assert tuple(steps({"image": image})["image"].shape[1:]) == tuple(size)
        assert affine_error(steps, dims) < 0.05, (mode, aligned)


@pytest.mark.parametrize(
    "step",
    [
        AntialiasedResized("image", mode="bilinear", spatial_size=(12, 20)),
        AntialiasedResized("image", mode="bicubic", shortest=15),
        ShortestResized("image", mode="bilinear", shortest=40, align_corners=True),
        CenterCropd("image", size=(10, 50)),
        SquareCropd("image"),
        SquarePadd("image", value=3.0),
    ],
    ids=lambda step: type(step).__name__,
)
def test_a_step_of_ours_keeps_the_affine_true(step):
    assert affine_error(step, 2) < 0.05


def test_intensities_may_be_scaled_before_the_image_is_resized():
    image = MetaTensor(torch.arange(64.0).reshape(1, 8, 8), affine=torch.eye(4))
    words = {"size": [4, 4], "interpolation": "area", "intensity": "scale", "orientation": "none"}
    after = prepared(image, **words).numpy()
    before = prepared(image, **words, order="intensity-first").numpy()
    blocks = image.numpy().reshape(1, 4, 2, 4, 2).mean((2, 4))
    np.testing.assert_allclose(before, blocks / 63, atol=1e-6)
    np.testing.assert_allclose(
        after, (blocks - blocks.min()) / (blocks.max() - blocks.min()), atol=1e-6
    )


def test_the_foreground_is_the_box_of_what_is_above_zero():
    image = MetaTensor(torch.zeros(1, 10, 10, 10), affine=torch.eye(4))
    image[0, 2:5, 3:9, 4] = 7.0
    found = prepared(image, foreground=True, orientation="none")
    assert tuple(found.shape) == (1, 3, 6, 1)
    assert found.affine[:3, 3].tolist() == [2, 3, 4]


def test_settings_say_which_words_were_given():
    words = PreprocessingWords.of({"size": [8, 8], "antialias": True, "order": "intensity-first"})
    sources = {"size": "given", "antialias": "given", "order": "preset"}
    found = {one.name: one for one in words.settings(2, ["image"], sources)}
    assert found["size"].source == found["interpolation"].source == "given"
    assert found["order of steps"].source == "preset"
    assert found["order of steps"].value.startswith("intensity")
    assert found["orientation"].source == found["fit"].source == "guessed"
    trained = words.settings(2, ["image"], {}, "trained")
    assert {one.source for one in trained} == {"trained"}
