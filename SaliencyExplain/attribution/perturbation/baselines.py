"""Baselines: images from which a path starts, without the explained content."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from SaliencyExplain.attribution.network.frozen_network import plain
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.perturbation.infill import infill_of
from SaliencyExplain.errors import ErrorCode, InputError

#: The baselines by name. The minimum of an image is its black.
BASELINES = ("minimum", "mean", "value", "blur", "backgrounds")


def baseline_image(task: Task, kind: str, *, value: float, blur_mm: float, method: str) -> Tensor:
    """The image from which a path to the task's image starts.

    Args:
        task: Image, spacing and backgrounds.
        kind: One of :data:`BASELINES`: the mean of the background images, or what
            :func:`infill_of` puts into a place that is the whole image.
        value: The constant for ``value``, in the units of the prepared input.
        blur_mm: Standard deviation of the blur in millimetres; 0: a sixteenth of the longest
            side.
        method: Name of the method, for the error.

    Returns:
        ``(1, C, *S)``, on the image's device.

    Raises:
        InputError: No background images were given, or they do not fit the image.
    """
    image = plain(task.input)
    if kind == "backgrounds":
        mean = background_images(task, method).double().mean(dim=0, keepdim=True)
        return mean.to(image)
    corner = np.zeros((1, image.ndim - 2), dtype=np.int64)
    infill = infill_of(image, kind, task.spacing, value=value, blur_mm=blur_mm)
    return infill.boxes(corner, image.shape[2:])


def check_baseline(task: Task, kind: str, method: str) -> None:
    """Raises InputError if a baseline needs background images and none fit.

    Called when the cost is reported, before any method runs.
    """
    if kind == "backgrounds":
        background_images(task, method)


def background_images(task: Task, method: str) -> Tensor:
    """The background images that were given, ``(N, C, *S)`` on the CPU.

    Raises:
        InputError: None were given, or they do not fit the image.
    """
    if task.backgrounds is None or not len(task.backgrounds):
        raise InputError(
            ErrorCode.BACKGROUNDS,
            f"{method}: it compares with background images, and none were given. Give background "
            "images (--background).",
        )
    backgrounds = plain(task.backgrounds)
    if backgrounds.shape[1:] != task.input.shape[1:]:
        raise InputError(
            ErrorCode.BACKGROUNDS,
            f"Background images: after preprocessing they have {tuple(backgrounds.shape[1:])} "
            f"channels and voxels, and the image has {tuple(task.input.shape[1:])}. Give "
            "backgrounds that have the image's size after preprocessing.",
        )
    return backgrounds
