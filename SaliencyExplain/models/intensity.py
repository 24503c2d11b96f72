"""The kinds of intensity scaling, each a MONAI transform."""

from __future__ import annotations

from typing import Any

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name

#: Each word with what it does.
WORDS = {
    "none": "as in the file",
    "zscore": "mean 0 and standard deviation 1, each channel by itself",
    "zscore-nonzero": "the same over the voxels that are not 0, which stay 0",
    "scale": "least value to 0 and greatest to 1, each channel by itself",
    "percentile": "1st percentile to 0 and 99th to 1, cut off there (percentile:low,high)",
    "window": "window:low,high brings low to 0 and high to 1, cut off there",
    "imagenet": "8-bit colours to 0..1, then the mean and deviation of torchvision's networks",
}
_PERCENTILES = (1.0, 99.0)
# The values of torchvision's pretrained weights, in its documentation of each of them.
_IMAGENET_MEAN = [0.485, 0.456, 0.406]
_IMAGENET_DEVIATION = [0.229, 0.224, 0.225]


def intensity_transforms(words: str, channels: int) -> list[dict[str, Any]]:
    """Configuration of the transforms that one of the :data:`WORDS` means.

    Raises:
        InputError: No such word, or its numbers are missing or in the wrong order.
    """
    word, _, rest = words.strip().lower().partition(":")
    if word not in WORDS:
        raise unknown_name("intensity scaling", word, WORDS)
    if word == "none":
        return []
    if word in ("zscore", "zscore-nonzero"):
        return [_step("NormalizeIntensityd", nonzero=word != "zscore", channel_wise=True)]
    if word == "scale":
        return [_step("ScaleIntensityd", minv=0.0, maxv=1.0, channel_wise=True)]
    if word == "imagenet":
        if channels != 3:
            raise InputError(
                ErrorCode.VALUE_FORM,
                "The intensity scaling imagenet needs three channels (red,green,blue).",
            )
        return [
            _window(0.0, 255.0),
            _step(
                "NormalizeIntensityd",
                subtrahend=_IMAGENET_MEAN,
                divisor=_IMAGENET_DEVIATION,
                channel_wise=True,
            ),
        ]
    low, high = _numbers(words, rest, _PERCENTILES if word == "percentile" else None)
    if word == "window":
        return [_window(low, high)]
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


def padding_value(words: str) -> float:
    """The raw intensity of added voxels: a window's lower end, else 0."""
    word, _, rest = words.strip().lower().partition(":")
    return _numbers(words, rest, None)[0] if word == "window" else 0.0


def _step(target: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": target, "keys": "image", **arguments}


def _window(low: float, high: float) -> dict[str, Any]:
    return _step("ScaleIntensityRanged", a_min=low, a_max=high, b_min=0.0, b_max=1.0, clip=True)


def _numbers(words: str, rest: str, default: tuple[float, float] | None) -> tuple[float, float]:
    if not rest and default is not None:
        return default
    try:
        low, high = (float(number) for number in rest.split(","))
    except ValueError:
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"The intensity scaling '{words}' needs two numbers, such as window:-100,240.",
        ) from None
    if not low < high:
        raise InputError(
            ErrorCode.VALUE_RANGE, f"The intensity scaling '{words}' needs the lower number first."
        )
    if default is not None and not (low >= 0 and high <= 100):
        raise InputError(
            ErrorCode.VALUE_RANGE,
            f"The intensity scaling '{words}' needs percentiles from 0 to 100.",
        )
    return low, high
