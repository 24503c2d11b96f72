"""Channels are guessed from names, and not guessed where names do not tell."""

from __future__ import annotations

import pytest

from SaliencyExplain.engine.client.channel_names import guess_channels


@pytest.mark.parametrize(
    ("channels", "volumes", "expected"),
    [
        (["t1", "t1ce", "t2", "flair"], ["BraTS_001_t2", "BraTS_001_flair", "BraTS_001_t1ce", "BraTS_001_t1"], [3, 2, 0, 1]),  # noqa: E501
        (["T1c", "T1n", "T2f", "T2w"], ["T2-FLAIR", "T1 pre", "T1-Gd", "t2w"], [2, 1, 0, 3]),
        (["FLAIR", "T1"], ["t1_mprage", "ax t2 flair"], [1, 0]),
        (["t1ce"], ["t1_post_contrast", "t1"], [0]),
        (["t1"], ["t1ce", "t1"], [1]),
        (["image"], ["MRHead"], [0]),
        (["CT", "PET"], ["suv", "CT chest"], [1, 0]),
        # Two fit equally well, or none does.
        (["t1"], ["t1 first", "t1 second"], [None]),
        (["t1", "t2"], ["scan a", "scan b"], [None, None]),
        (["image"], ["a", "b"], [None]),
        (["t1"], [], [None]),
    ],
)  # fmt: skip
def test_guesses_channels_by_name(
    channels: list[str], volumes: list[str], expected: list[int | None]
) -> None:
    assert guess_channels(channels, volumes) == expected


def test_gives_no_volume_to_two_channels() -> None:
    assert guess_channels(["t1 a", "t1 b"], ["t1"]) == [None, None]
