"""Several images as the channels of one input, in the classifier's order."""

from __future__ import annotations

import pytest

from SaliencyExplain.errors import InputError
from SaliencyExplain.models.input_channels import are_colours, order_channels

CHANNELS = ("t1", "t1ce", "t2", "flair")


@pytest.mark.slow
def test_names_bring_images_into_the_classifiers_order() -> None:
    assert order_channels(["flair", "t1", "T2", "t1ce"], CHANNELS) == [1, 3, 2, 0]


def test_without_names_the_given_order_counts() -> None:
    assert order_channels([None] * 4, CHANNELS) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([None] * 3, r"takes 4 channels \(t1, t1ce, t2, flair\), and 3 were given"),
        (["t1"], "and 1 was given"),
        (["t1", "t1ce", "t2", None], "all images a channel name or none"),
        (["t1", "t1", "t2", "flair"], "'t1' is given twice"),
        (["t1", "t1c", "t2", "flair"], "Did you mean 't1ce'"),
    ],
)
def test_wrong_channels_say_which_are_wanted(given, says) -> None:
    with pytest.raises(InputError, match=says):
        order_channels(given, CHANNELS)


def test_red_green_and_blue_are_a_colour_picture() -> None:
    assert are_colours(["R", "G", "B"])
    assert are_colours(["red", "green", "blue"])
    assert not are_colours(["t1", "t2", "flair"])
    assert not are_colours(["blue", "green", "red"])
