"""A preprocessing given as an object: whether maps can be brought back through it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform
from numpy.typing import NDArray

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.geometry import is_invertible, spacing_of
from SaliencyExplain.models.preprocessing import (
    IMAGE,
    check_not_random,
    check_step,
    steps_for_images,
)

#: Voxels of the image that is sent through a preprocessing to see where it puts them.
_SHAPE = (52, 60, 44)
#: Places of a bright blob in that image, as shares of its sides; off centre, so that a flip shows.
_PLACES = ((0.40, 0.58, 0.42), (0.60, 0.44, 0.56))
#: Standard deviation of the blob, in voxels.
_WIDTH = 5.0
#: Largest distance of a blob from its position by the affine, in voxels of the coarser grid.
_TOLERANCE = 0.5


@dataclass(frozen=True)
class OnImage:
    """A function of an image as a transform on ``{"image": MetaTensor}``.

    Attributes:
        function: Takes and returns ``(C, *S)`` as a MetaTensor with its affine.
    """

    function: Callable[[MetaTensor], Any]

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """The same dictionary with the image that the function returns."""
        return {**data, IMAGE: self.function(data[IMAGE])}


def usable_preprocessing(
    given: Callable[..., Any], channels: int, spatial_dims: int
) -> Callable[[dict[str, Any]], Any]:
    """A user's preprocessing as a transform on ``{"image": MetaTensor}``, checked.

    Transforms that read a file, bring its channels first or choose a device are left out: images
    come in as ``(C, *S)``, and the device is chosen where the network runs.

    Args:
        given: A MONAI Compose of dictionary transforms on ``image`` or of transforms of arrays,
            one such transform, or any function that takes and returns a MetaTensor ``(C, *S)``.
        channels: Channels of the image.
        spatial_dims: 2 or 3.

    Raises:
        ClassifierError: It is random, fails, or does not return the affine of its result, so that
            maps cannot be brought back.
    """
    if not callable(given):
        raise ClassifierError(
            ErrorCode.MODEL_PREPROCESSING,
            f"The preprocessing is a {type(given).__name__}; give a MONAI Compose or a function "
            "that takes and returns a MetaTensor (C, *S).",
        )
    steps = steps_for_images(given if isinstance(given, Compose) else [given])
    of_dictionaries = [isinstance(step, MapTransform) for step in steps]
    if all(of_dictionaries):
        for step in steps:
            check_step(step, spatial_dims)
        return Compose(steps, lazy=given.lazy if isinstance(given, Compose) else False)
    if any(of_dictionaries):
        raise ClassifierError(
            ErrorCode.MODEL_PREPROCESSING,
            "The preprocessing has transforms of dictionaries and of arrays: use one of the two.",
        )
    for step in steps:
        check_not_random(step)
    whole = OnImage(Compose(steps) if isinstance(given, Compose) else given)
    _check_places(whole, channels, spatial_dims)
    return whole


def description_of(preprocessing: Callable[[dict[str, Any]], Any]) -> str:
    """The names of a preprocessing's steps."""
    function = preprocessing.function if isinstance(preprocessing, OnImage) else preprocessing
    steps = function.transforms if isinstance(function, Compose) else [function]
    return ", ".join(getattr(one, "__name__", type(one).__name__) for one in steps) or "none"


def behaviour_of(
    preprocessing: Callable[[dict[str, Any]], Any], channels: int, spatial_dims: int
) -> bytes:
    """The result of a preprocessing for one synthetic image, part of the classifier's identity."""
    image, _ = _blob(_PLACES[0][:spatial_dims], channels)
    return np.ascontiguousarray(_run(preprocessing, image).as_tensor().float().numpy()).tobytes()


def _check_places(preprocessing: OnImage, channels: int, spatial_dims: int) -> None:
    """Checks the affine after a preprocessing whose steps are unknown.

    A bright blob goes through it. Whatever is done to the intensities, as long as brighter stays
    brighter, the blob's centre is where the brightest voxels are, and the affine must say so.
    """
    errors = []
    for place in _PLACES:
        image, centre = _blob(place[:spatial_dims], channels)
        first, second = (_run(preprocessing, image.clone()) for _ in range(2))
        if first.shape != second.shape or not torch.equal(first.as_tensor(), second.as_tensor()):
            raise ClassifierError(
                ErrorCode.MODEL_PREPROCESSING,
                "The preprocessing gives another result for the same image each time: leave out "
                "random steps.",
            )
        errors.append(_distance(first, image, centre, spatial_dims))
    seen = [error for error in errors if error is not None]
    if not seen:
        raise ClassifierError(
            ErrorCode.MODEL_PREPROCESSING,
            "The preprocessing leaves nothing of the middle of an image of "
            f"{' x '.join(map(str, _SHAPE[:spatial_dims]))} voxels, so it cannot be checked "
            "whether it can be undone.",
        )
    if max(seen) > _TOLERANCE:
        raise ClassifierError(
            ErrorCode.MODEL_PREPROCESSING,
            "The preprocessing cannot be undone: after it the affine is wrong by "
            f"{max(seen):.1f} voxels. Use MONAI's transforms, which track it, or set the affine "
            "of the MetaTensor that is returned.",
        )


def _blob(place: tuple[float, ...], channels: int) -> tuple[MetaTensor, NDArray[np.float64]]:
    """An image ``(C, *S)`` with one bright blob, and the blob's centre in the world, mm."""
    axes = len(place)
    shape = _SHAPE[:axes]
    affine = np.diag([-1.1, -1.4, 1.2 if axes == 3 else 1.0, 1.0])
    affine[:axes, 3] = (40.0, 70.0, 20.0)[:axes]
    centre = np.array([round(share * size) for share, size in zip(place, shape, strict=True)])
    grid = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"))
    squared = ((grid - centre.reshape(-1, *[1] * axes)) ** 2).sum(axis=0)
    values = 1.0 + 100.0 * np.exp(-squared / (2 * _WIDTH**2))
    tensor = torch.from_numpy(values).float().expand(channels, *shape).clone()
    world = affine @ [*centre, *[0.0] * (3 - axes), 1.0]
    return MetaTensor(tensor, affine=torch.from_numpy(affine)), world[:axes]


def _run(preprocessing: Callable[[dict[str, Any]], Any], image: MetaTensor) -> MetaTensor:
    try:
        found = preprocessing({IMAGE: image})[IMAGE]
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ClassifierError(
            ErrorCode.MODEL_PREPROCESSING,
            f"The preprocessing fails on an image of {tuple(image.shape)}: {lines[0][:300]}",
        ) from error
    affine = found.affine.numpy() if isinstance(found, MetaTensor) else np.zeros((4, 4))
    known = affine.shape == (4, 4) and is_invertible(affine)
    if not isinstance(found, MetaTensor) or found.ndim != image.ndim or not known:
        raise ClassifierError(
            ErrorCode.MODEL_PREPROCESSING,
            f"The preprocessing cannot be undone: it returns {_what(found)} instead of a "
            f"MetaTensor of {image.ndim} axes (channels first) with its affine.",
        )
    return found


def _what(found: Any) -> str:
    shape = f" of the shape {tuple(found.shape)}" if hasattr(found, "shape") else ""
    return f"a {type(found).__name__}{shape}"


def _distance(
    found: MetaTensor, image: MetaTensor, centre: NDArray[np.float64], axes: int
) -> float | None:
    """How far the blob is from where it was, in voxels; None where it is cut off."""
    values = found.as_tensor()[0].double().numpy()
    # The second is for a preprocessing that inverts the intensities.
    for signed in (values, -values):
        low, high = float(signed.min()), float(signed.max())
        weights = np.clip(signed - (low + high) / 2, 0.0, None)
        ends = [np.take(weights, [0, -1], axis=axis).any() for axis in range(axes)]
        if high > low and not any(ends):
            break
    else:
        return None
    along = [
        np.moveaxis(weights, axis, 0).reshape(size, -1).sum(1)
        for axis, size in enumerate(values.shape)
    ]
    index = [np.average(np.arange(len(one)), weights=one) for one in along]
    affine = found.affine.numpy().astype(np.float64)
    world = (affine @ [*index, *[0.0] * (3 - axes), 1.0])[:axes]
    before = image.affine.numpy().astype(np.float64)
    voxel = max(max(spacing_of(one, axes)) for one in (affine, before))
    return float(np.linalg.norm(world - centre) / voxel)
