"""The windows in which a segmentation network sees an image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError
from SaliencyExplain.models.checked import CheckedBuilder
from SaliencyExplain.models.targets import shown

_ARGUMENTS = ("roi_size", "overlap", "mode", "sigma_scale", "padding_mode", "cval")
_LONGEST_EDGE = 4096
_WHOLE_IMAGE = "SimpleInferer"
_SLIDING = ("SlidingWindowInferer", "SlidingWindowInfererAdapt")

#: Window of an explanation, in voxels along each axis, where the network takes whole images.
_DEFAULT_EDGES = {2: 256, 3: 96}
#: Voxels of a window beyond which an explanation takes a smaller one, and its largest edge then: a
#: gradient keeps all feature maps of the window.
_MOST_VOXELS, _LARGEST_EDGE = 160**3, 128


@dataclass(frozen=True)
class SlidingWindow:
    """How a segmentation network is run over an image, as MONAI's ``SlidingWindowInferer`` has it.

    Attributes:
        size: Voxels of a window per axis; None along an axis that is taken whole. None: the whole
            image in one pass.
        overlap: Share of a window that the next one covers again.
        mode: ``constant`` or ``gaussian``: the weights by which overlapping windows are averaged.
        sigma_scale: Standard deviation for ``gaussian``, in window sizes.
        padding_mode: How an image that is smaller than a window is continued.
        cval: The value for the padding mode ``constant``.
    """

    size: tuple[int | None, ...] | None = None
    overlap: float = 0.25
    mode: str = "constant"
    sigma_scale: float = 0.125
    padding_mode: str = "constant"
    cval: float = 0.0

    def of_explanation(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Voxels per axis of the window in which a region is explained.

        Args:
            shape: Voxels per axis of the network's input.
        """
        if self.size is None:
            return tuple(min(edge, _DEFAULT_EDGES[len(shape)]) for edge in shape)
        usual = self.of_prediction(shape)
        if math.prod(usual) <= _MOST_VOXELS:
            return usual
        return tuple(min(edge, _LARGEST_EDGE) for edge in usual)

    def of_prediction(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Voxels per axis of the windows in which an image is predicted.

        Args:
            shape: Voxels per axis of the network's input.
        """
        if self.size is None:
            return shape
        return tuple(edge or whole for edge, whole in zip(self.size, shape, strict=True))


def described_inferer(window: Sequence[int] | None, spatial_dims: int) -> dict[str, Any]:
    """The ``inferer`` of a bundle's configuration.

    Args:
        window: Voxels per axis; None: the network takes whole images.
        spatial_dims: 2 or 3.

    Raises:
        InputError: The window has another number of axes, or is no number of voxels.
    """
    if window is None:
        return {"_target_": _WHOLE_IMAGE}
    edges = [int(edge) for edge in window]
    if len(edges) != spatial_dims or not all(0 < edge <= _LONGEST_EDGE for edge in edges):
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"The window {edges} is not {spatial_dims} numbers of voxels from 1 to "
            f"{_LONGEST_EDGE}.",
        )
    return {"_target_": _SLIDING[0], "roi_size": edges}


def sliding_window(configuration: Mapping[str, Any], spatial_dims: int) -> SlidingWindow:
    """The ``inferer`` of a bundle's configuration; without one, whole images.

    Args:
        configuration: The content of the bundle's inference configuration.
        spatial_dims: 2 or 3.

    Raises:
        ClassifierError: It is of another kind, or its arguments make no sense.
    """
    described = configuration.get("inferer")
    if described is None:
        return SlidingWindow()
    target = described.get("_target_") if isinstance(described, Mapping) else described
    name = str(target).rpartition(".")[2]
    if name == _WHOLE_IMAGE:
        return SlidingWindow()
    if name not in _SLIDING or not isinstance(described, Mapping):
        raise _refused(f"is {shown(target)}, not {_SLIDING[0]} or {_WHOLE_IMAGE}")
    arguments = {key: described[key] for key in _ARGUMENTS if key in described}
    built = CheckedBuilder({**configuration, "inferer": arguments}).build("inferer")
    return SlidingWindow(
        size=_size(built.get("roi_size"), spatial_dims),
        overlap=_number(built, "overlap", 0.25, 0.0, 0.99),
        mode=_word(built, "mode", ("constant", "gaussian")),
        sigma_scale=_number(built, "sigma_scale", 0.125, 1e-3, 10.0),
        padding_mode=_word(built, "padding_mode", ("constant", "reflect", "replicate", "circular")),
        cval=_number(built, "cval", 0.0, -1e9, 1e9),
    )


def check_whole_image(configuration: Mapping[str, Any]) -> None:
    """Checks that a classifier is run on whole images, as it is here.

    Args:
        configuration: The content of the bundle's inference configuration.

    Raises:
        ClassifierError: Its ``inferer`` runs it on parts of an image.
    """
    described = configuration.get("inferer")
    target = described.get("_target_") if isinstance(described, Mapping) else None
    if target is not None and str(target).rpartition(".")[2] != _WHOLE_IMAGE:
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"The bundle's 'inferer' is {shown(target)}, which classifies parts of an image and "
            "joins their scores; only classifiers of whole images are supported. Give the model "
            "one part at a time (a region of interest), with a SimpleInferer.",
        )


def _size(value: Any, spatial_dims: int) -> tuple[int | None, ...]:
    edges = list(value) if isinstance(value, (list, tuple)) else [value] * spatial_dims
    whole = (None, *range(-1, 1))
    sizes = [
        edge is None or (isinstance(edge, int) and not isinstance(edge, bool)) for edge in edges
    ]
    if len(edges) != spatial_dims or not all(sizes) or math.prod(e or 1 for e in edges) > 2**29:
        raise _refused(f"has the roi_size {shown(value)}, not {spatial_dims} numbers of voxels")
    return tuple(None if edge in whole or edge < 0 else int(edge) for edge in edges)


def _number(built: Mapping[str, Any], key: str, default: float, low: float, high: float) -> float:
    value = built.get(key, default)
    if isinstance(value, (list, tuple)) and len(set(value)) == 1:
        value = value[0]
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not plain or not low <= value <= high:
        raise _refused(f"has the {key} {shown(value)}, not a number from {low:g} to {high:g}")
    return float(value)


def _word(built: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> str:
    value = str(getattr(built.get(key, choices[0]), "value", built.get(key, choices[0])))
    if value.lower() not in choices:
        raise _refused(f"has the {key} {shown(value)}, not one of {', '.join(choices)}")
    return value.lower()


def _refused(why: str) -> ClassifierError:
    return ClassifierError(
        ErrorCode.MODEL_CONFIGURATION, f"The bundle's 'inferer' {why}. Correct the configuration."
    )
