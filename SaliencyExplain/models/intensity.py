"""The kinds of intensity scaling, each one or more MONAI transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name

#: Each word with what it does. Several are written with ``+`` between them, in their order.
WORDS = {
    "none": "as in the file",
    "zscore": "mean 0 and standard deviation 1, each channel by itself",
    "zscore-nonzero": "the same over the voxels that are not 0, which stay 0",
    "scale": "least value to 0 and greatest to 1, each channel by itself (scale:-1,1: to -1 and 1)",
    "percentile": "1st percentile to 0 and 99th to 1, cut off there (percentile:low,high)",
    "window": "window:low,high brings low to 0 and high to 1, cut off there; "
    "window:low,high,a,b brings them to a and b",
    "clip": "clip:low,high cuts off below and above, nothing else",
    "fixed": "fixed:mean/deviation subtracts and divides; one number each, or one for each channel",
    "imagenet": "8-bit colours to 0..1, then the mean and deviation of torchvision's networks",
}
#: Between two words.
_THEN = "+"
_PERCENTILES = (1.0, 99.0)
_UNIT = (0.0, 1.0)
# The values of torchvision's pretrained weights, in its documentation of each of them.
_IMAGENET = "fixed:0.485,0.456,0.406/0.229,0.224,0.225"


def intensity_transforms(words: str, channels: int) -> list[dict[str, Any]]:
    """Configuration of the transforms that some of the :data:`WORDS` mean.

    Args:
        words: One, or several such as ``clip:-1000,400+zscore``.
        channels: Of the input.

    Raises:
        InputError: No such word, or its numbers are missing or in the wrong order.
    """
    return [
        step for one in words.strip().lower().split(_THEN) for step in _transforms(one, channels)
    ]


def padding_value(words: str) -> float:
    """The raw intensity of added voxels: the lower end of a window or clip, else 0."""
    word, _, rest = words.strip().lower().split(_THEN)[0].partition(":")
    return _numbers(words, rest, (2, 4))[0] if word in ("window", "clip") else 0.0


def _transforms(words: str, channels: int) -> list[dict[str, Any]]:
    """The transforms of one word."""
    word, _, rest = words.strip().partition(":")
    if word not in WORDS:
        raise unknown_name("intensity scaling", word, WORDS)
    if word == "none":
        return []
    if word in ("zscore", "zscore-nonzero"):
        return [_step("NormalizeIntensityd", nonzero=word != "zscore", channel_wise=True)]
    if word == "scale":
        low, high = _numbers(words, rest, (2,)) if rest else _UNIT
        return [_step("ScaleIntensityd", minv=low, maxv=high, channel_wise=True)]
    if word == "imagenet":
        if channels != 3:
            raise InputError(
                ErrorCode.VALUE_FORM,
                "The intensity scaling imagenet needs three channels (red,green,blue).",
            )
        return [_window(0.0, 255.0, *_UNIT), *_transforms(_IMAGENET, channels)]
    if word == "fixed":
        return [_fixed(words, rest, channels)]
    if word == "clip":
        low, high = _numbers(words, rest, (2,))
        # The ends are brought to themselves, so that nothing but the cut is left.
        return [_window(low, high, low, high)]
    if word == "window":
        low, high, *to = _numbers(words, rest, (2, 4))
        return [_window(low, high, *(to or _UNIT))]
    low, high = _numbers(words, rest, (2,)) if rest else _PERCENTILES
    if not (low >= 0 and high <= 100):
        raise InputError(
            ErrorCode.VALUE_RANGE,
            f"The intensity scaling '{words}' needs percentiles from 0 to 100.",
        )
    return [
        _step(
            "ScaleIntensityRangePercentilesd",
            lower=low,
            upper=high,
            b_min=0.0,
            b_max=1.0,
            clip=True,
            channel_wise=True,
        )
    ]


def _step(target: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": target, "keys": "image", **arguments}


def _window(low: float, high: float, to_low: float, to_high: float) -> dict[str, Any]:
    return _step(
        "ScaleIntensityRanged", a_min=low, a_max=high, b_min=to_low, b_max=to_high, clip=True
    )


def _fixed(words: str, rest: str, channels: int) -> dict[str, Any]:
    try:
        mean, deviation = (
            [float(number) for number in part.split(",")] for part in rest.split("/")
        )
    except ValueError:
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"The intensity scaling '{words}' needs a mean and a deviation, such as "
            "fixed:0.5/0.25, or as many of each as there are channels.",
        ) from None
    if not {len(mean), len(deviation)} <= {1, channels} or min(deviation) <= 0:
        raise InputError(
            ErrorCode.VALUE_RANGE,
            f"The intensity scaling '{words}' needs one mean and one deviation above 0, or "
            f"{channels} of each.",
        )
    return _step(
        "NormalizeIntensityd",
        subtrahend=_each(mean, channels),
        divisor=_each(deviation, channels),
        channel_wise=True,
    )


def _each(values: Sequence[float], channels: int) -> list[float]:
    return list(values) * channels if len(values) == 1 else list(values)


def _numbers(words: str, rest: str, counts: tuple[int, ...]) -> tuple[float, ...]:
    """The numbers behind a word, of which the first is the lower one."""
    try:
        numbers = tuple(float(number) for number in rest.split(","))
        if len(numbers) not in counts:
            raise ValueError
    except ValueError:
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"The intensity scaling '{words}' needs {' or '.join(map(str, counts))} numbers, such "
            "as window:-100,240.",
        ) from None
    if not numbers[0] < numbers[1] or not numbers[-2] < numbers[-1]:
        raise InputError(
            ErrorCode.VALUE_RANGE, f"The intensity scaling '{words}' needs the lower number first."
        )
    return numbers
