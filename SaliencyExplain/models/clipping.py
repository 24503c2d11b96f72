"""How much of an image's intensities the preprocessing cuts off or makes almost constant.

A 16-bit picture in a window made for 8 bits is white everywhere, and an image in [0, 1] in the
same window is black: for both the network gives a prediction without an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai import transforms
from monai.data import MetaTensor
from monai.transforms import Compose
from numpy.typing import NDArray
from skimage.filters import threshold_multiotsu

from SaliencyExplain.models import network_grid

#: Thresholds, held against 6 CTs, 8 MRs, 4 PETs and 21 pictures with the usual windows and
#: percentiles (``Testing/models/test_clipping.py``). Shares are of the voxels that are
#: brighter than the background: a CT's air is cut off in nearly every window.
#: Soft tissue windows cut off 5 to 35 % of them, a brain window on a trunk 46 to 76 %, a
#: window for bone alone 92 to 97 %; one for stored values (HU + 1024) 98.7 % or more.
_CUT_OFF = 0.98
#: At the upper end a CT's windows cut off up to 28 % (bone and contrast), and 50 to 100 % of an
#: image in HU + 1024.
_CUT_OFF_ABOVE = 0.45
#: Percentiles cut off the hottest voxels of a PET, nearly half of the bright ones, which
#: are 2 % of the image.
_CUT_OFF_ABOVE_OF_ALL = 0.1
#: Share of the output's range between the 0.1st and 99.9th percentile: usual pipelines use 13 %
#: or more, a 12-bit picture in a window of 16 bits 2 to 5 %, one in [0, 1] in 0 to 255 0.4 %.
_LITTLE_OF_RANGE = 0.1
#: Values scaled by a fixed mean and deviation whose median is farther from 0 than this, in
#: deviations, are probably on another scale than the images of which the mean was computed.
_FAR_FROM_MEAN = 10.0
#: Number of voxels of the regular sample that is checked.
_SAMPLE = 300_000
_NOT_MEASURED = ("monai.transforms.spatial.", "monai.transforms.croppad.")

_Range = tuple[float, float]


@dataclass(frozen=True)
class _Loss:
    """The loss of intensities of a channel in a step.

    Attributes:
        what: ``cut off``, ``almost constant`` or ``far``.
        of_all: Share of the image's voxels that are cut off.
        of_bright: Share of those brighter than the background.
        used: Share of the output's range that is used.
        values: Least and greatest value before the step.
    """

    what: str
    of_all: float
    of_bright: float
    used: float
    values: _Range


def run_watched(
    preprocessing: Callable[[dict[str, Any]], Any], image: MetaTensor, channels: Sequence[str]
) -> tuple[Any, list[str]]:
    """Runs a preprocessing and reports the step that removes most of the image's intensities.

    Args:
        preprocessing: MONAI transforms on ``{"image": MetaTensor}``; a ``Compose`` is run stepwise.
        image: ``(C, *S)`` with its affine.
        channels: Names of the channels.

    Returns:
        What the preprocessing gives for ``image``, the same bytes as without watching, and a
        sentence for the first step after which little of the intensities is left.
    """
    data: dict[str, Any] = {"image": image}
    if not isinstance(preprocessing, Compose) or type(preprocessing) is not Compose:
        return preprocessing(data)["image"], []
    shape, affine = tuple(image.shape[1:]), _affine(image)
    notes: list[str] = []
    steps = list(preprocessing.transforms)
    start = 0
    for number, step in enumerate(steps):
        if type(step).__module__.startswith(_NOT_MEASURED) or notes:
            continue
        # Steps that move voxels run together: lazy ones are resampled once.
        if start < number:
            data = preprocessing(data, start=start, end=number)
        before = data["image"]
        sampled = _Sample(before, shape, affine) if isinstance(before, MetaTensor) else None
        data = preprocessing(data, start=number, end=number + 1)
        start = number + 1
        if sampled is not None:
            notes += sampled.lost_by(step, data["image"], channels)
    if start < len(steps):
        data = preprocessing(data, start=start)
    return data["image"], notes


class _Sample:
    """A regular sample of an image's voxels, without the padding around it."""

    def __init__(self, image: MetaTensor, shape: tuple[int, ...], affine: NDArray[Any]) -> None:
        self._shape = tuple(image.shape)
        self._affine = _affine(image)
        count = int(np.prod(self._shape[1:]))
        stride = max(1, round((count / _SAMPLE) ** (1 / (image.ndim - 1))))
        self._places = (slice(None), *(slice(None, None, stride) for _ in self._shape[1:]))
        self._values = self._of(image)
        strides = np.eye(4)
        axes = range(image.ndim - 1)
        strides[axes, axes] = stride
        self._inside = network_grid.inside_mask(
            self._values.shape[1:], self._affine @ strides, shape, affine
        )

    def lost_by(self, step: Any, after: Any, channels: Sequence[str]) -> list[str]:
        """A note on the intensities that a step removed, where it removed too many."""
        if not isinstance(after, MetaTensor) or tuple(after.shape) != self._shape:
            return []
        if not np.allclose(_affine(after), self._affine) or not self._inside.any():
            return []
        now = self._of(after)
        losses = [
            _loss(step, before[self._inside], values[self._inside])
            for before, values in zip(self._values, now, strict=True)
        ]
        lost = {
            name: one for name, one in zip(_named(channels, losses), losses, strict=True) if one
        }
        return [_sentence(step, lost, len(losses))] if lost else []

    def _of(self, image: MetaTensor) -> NDArray[np.float64]:
        return np.array(image.as_tensor()[self._places].to(torch.float64).numpy(), copy=True)


def _loss(step: Any, before: NDArray[Any], after: NDArray[Any]) -> _Loss | None:
    """The loss of intensities of a channel's voxels; None where enough is left."""
    if np.array_equal(before, after) or before.min() == before.max():
        return None
    bright = _brighter_than_background(before)
    window, outputs = _window(step), _output_range(step)
    if window is not None:
        below, above = before < window[0], before > window[1]
    else:
        below, above = _merged(before, after, after.min()), _merged(before, after, after.max())
    cut, top = below | above, above
    spread = float(np.subtract(*np.percentile(after[bright], (99.9, 0.1))))
    used = spread / (outputs[1] - outputs[0]) if outputs is not None else 1.0
    values = (float(before.min()), float(before.max()))

    def found(what: str) -> _Loss:
        return _Loss(what, float(cut.mean()), float(cut[bright].mean()), used, values)

    if cut[bright].mean() >= _CUT_OFF or (
        top[bright].mean() >= _CUT_OFF_ABOVE and top.mean() >= _CUT_OFF_ABOVE_OF_ALL
    ):
        return found("cut off")
    if used < _LITTLE_OF_RANGE:
        return found("almost constant")
    if _has_fixed_mean(step) and abs(np.median(after[bright])) > _FAR_FROM_MEAN:
        return found("far")
    if _has_fixed_mean(step) and spread < _LITTLE_OF_RANGE:
        return found("almost constant")
    return None


def _merged(before: NDArray[Any], after: NDArray[Any], end: float) -> NDArray[np.bool_]:
    """Voxels that a step brought to one end of its output though they differed."""
    at: NDArray[np.bool_] = after == end
    differed = bool(before[at].max() > before[at].min())
    return at if differed else np.zeros_like(at)


def _brighter_than_background(values: NDArray[Any]) -> NDArray[np.bool_]:
    """The foreground: voxels above the lower of Otsu's two thresholds.

    The lower of two, since a single threshold of a head without air separates bone from brain. What
    lies far below as one value, as around a scanner's circle, is taken for background first.
    """
    least = values.min()
    rest = values[values > least] if (values == least).mean() > 0.01 else values
    low, high = np.percentile(rest, (2, 99.5))
    if low == high:
        return np.ones(values.shape, dtype=bool)
    try:
        threshold = threshold_multiotsu(np.clip(values, low, high), classes=3)[0]
    except ValueError:
        # Fewer than three values.
        threshold = low
    bright: NDArray[np.bool_] = values > threshold
    return bright if bright.any() else np.ones(values.shape, dtype=bool)


def _plain(step: Any) -> Any:
    """The transform behind a dictionary transform."""
    for name in ("scaler", "normalizer"):
        inner = getattr(step, name, None)
        if inner is not None:
            return inner
    return step


def _window(step: Any) -> _Range | None:
    """The values that a step maps onto its output's ends."""
    plain = _plain(step)
    if isinstance(plain, transforms.ScaleIntensityRange):
        return float(plain.a_min), float(plain.a_max)
    return None


def _output_range(step: Any) -> _Range | None:
    """The range that a step maps intensities to, where it says one."""
    plain = _plain(step)
    if isinstance(
        plain, (transforms.ScaleIntensityRange, transforms.ScaleIntensityRangePercentiles)
    ):
        ends = plain.b_min, plain.b_max
        if isinstance(plain, transforms.ScaleIntensityRange) and None in ends:
            ends = plain.a_min, plain.a_max
    elif isinstance(plain, transforms.ScaleIntensity):
        ends = plain.minv, plain.maxv
    else:
        return None
    if ends is None or None in ends or ends[0] == ends[1]:
        return None
    low, high = sorted(float(end) for end in ends)
    return low, high


def _has_fixed_mean(step: Any) -> bool:
    plain = _plain(step)
    return isinstance(plain, transforms.NormalizeIntensity) and plain.subtrahend is not None


def _affine(image: MetaTensor) -> NDArray[np.float64]:
    return np.asarray(image.affine, dtype=np.float64)


def _named(channels: Sequence[str], losses: Sequence[object]) -> list[str]:
    """Names of the channels; numbers where a step made others of them."""
    if len(channels) == len(losses):
        return list(channels)
    return [str(number) for number in range(len(losses))]


def _sentence(step: Any, lost: dict[str, _Loss], channels: int) -> str:
    worst = max(lost.values(), key=lambda one: (one.of_bright, -one.used))
    name = type(step).__name__
    where = f" in {', '.join(lost)}" if channels > 1 else ""
    window = _window(step)
    ends = f", and the window from {window[0]:g} to {window[1]:g}" if window else ""
    values = f"The image's values go from {worst.values[0]:g} to {worst.values[1]:g}{ends}."
    if worst.what == "cut off":
        outside = window is not None and not _plain(step).clip
        verb = "leaves outside of its window" if outside else "cuts off"
        found = (
            f"{name} {verb} {_exact(worst.of_all)} of the image's voxels, and "
            f"{_exact(worst.of_bright)} of those brighter than its background{where}."
        )
    elif worst.what == "far":
        found = (
            f"{name} gives values far from 0, since the image's mean differs from the one that it "
            f"subtracts{where}."
        )
    else:
        found = (
            f"{name} leaves the image almost constant{where}: it uses {_exact(worst.used)} of the "
            "range that the network was made for."
        )
    return (
        f"{found} {values} Check that its intensities are of the kind that the classifier was "
        "trained with (8 or 16 bits, Hounsfield units or stored values, scaled before). "
        "Otherwise the prediction is unreliable."
    )


def _exact(share: float) -> str:
    """A share in per cent with two digits; all only where it is all."""
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    return "more than 99.99 %" if share >= 0.99995 else f"{100 * share:.2f} %"
