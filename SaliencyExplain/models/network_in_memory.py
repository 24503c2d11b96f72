"""A classifier of a network that is in memory, such as one that was just trained."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError
from SaliencyExplain.models.assembly import assemble
from SaliencyExplain.models.bundle import identity_of
from SaliencyExplain.models.bundle_settings import Setting
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.configuration import Configuration
from SaliencyExplain.models.metadata import Metadata
from SaliencyExplain.models.preprocessing import build_preprocessing
from SaliencyExplain.models.probe import convolution_dims
from SaliencyExplain.models.user_preprocessing import (
    behaviour_of,
    description_of,
    usable_preprocessing,
)
from SaliencyExplain.models.wrapped_metadata import activation_step, check_names
from SaliencyExplain.models.wrapped_preprocessing import (
    Fit,
    preprocessing_settings,
    preprocessing_steps,
)

Preprocessing = Callable[[dict[str, Any]], Any]


def classifier_of_network(
    network: nn.Module,
    classes: Sequence[str],
    *,
    channels: Sequence[str] = ("image",),
    spatial_dims: int | None = None,
    spacing: Sequence[float] | None = None,
    size: Sequence[int] | None = None,
    fit: Fit | None = None,
    intensity: str | None = None,
    orientation: str | None = None,
    preprocessing: Callable[..., Any] | None = None,
    activation: str | None = None,
    output: str | None = None,
    name: str = "",
) -> Classifier:
    """A classifier of a network and of what is done to an image before it.

    The classifier has a copy of the network as it is now, on the CPU and in eval mode: the
    network itself stays as it is and may be trained on. The network runs on a few made images.

    Args:
        network: Takes ``(B, C, *S)`` and returns a score for each class.
        classes: Names of the classes in the order of the scores; one or two for a single logit.
        channels: Names of the input's channels in the network's order.
        spatial_dims: 2 or 3; None: as size, spacing or the network's convolutions say.
        spacing: Voxel size to resample to, mm, one number per axis; None: the image's own.
        size: Voxels per axis of the network's input; None: the image's own.
        fit: How the size is reached, ``resize`` or ``crop`` (and pad); None: crop with a spacing,
            resize without.
        intensity: One of :data:`SaliencyExplain.models.intensity.WORDS`; None: as in the file.
        orientation: Axis codes that the network was trained with, such as ``RAS``; ``none``: as
            in the file; None: RAS in 3D, PL in 2D (rows downwards, as pictures are).
        preprocessing: All of that as an object instead; see
            :func:`~SaliencyExplain.models.user_preprocessing.usable_preprocessing`.
        activation: ``softmax``, ``sigmoid``, or ``none`` where the network ends in one; None:
            none for outputs that are probabilities for all made images, else softmax.
        output: Path of the class scores where the network returns several outputs.
        name: Of the classifier; empty: that of the network's class.

    Raises:
        InputError: An argument does not make sense.
        ClassifierError: The network takes no such image or is no classifier of these classes, or
            the preprocessing cannot be undone.
    """
    check_names(classes, channels)
    dims = spatial_dims or (len(size) if size else len(spacing) if spacing else None)
    dims = dims or convolution_dims(network)
    if dims not in (2, 3):
        raise InputError(
            ErrorCode.OPTION_MISSING,
            "Say whether the network takes 2D or 3D images (spatial_dims).",
        )
    words = {
        "spacing": spacing, "size": size, "fit": fit, "intensity": intensity,
        "orientation": orientation,
    }  # fmt: skip
    if preprocessing is None:
        steps, settings = _from_words(dims, channels, spacing, size, fit, intensity, orientation)
    else:
        if given := [word for word, value in words.items() if value is not None]:
            raise InputError(
                ErrorCode.OPTION_CONFLICT,
                f"The preprocessing does all that is done to an image: leave out {given[0]}.",
            )
        steps = usable_preprocessing(preprocessing, len(channels), dims)
        settings = (Setting("preprocessing", description_of(steps), "given"),)
    copied = _copy_of(network)
    fixed = None if size is None else tuple(int(edge) for edge in size)
    title = name or type(network).__name__
    return assemble(
        copied,
        Metadata(tuple(channels), tuple(classes), dims, fixed, output, settings),
        activation_step(activation),
        name=title,
        spatial_dims=dims,
        preprocessing=steps,
        identity=_identity(copied, settings, behaviour_of(steps, len(channels), dims)),
        source=None,
        form="nn.Module",
        trusted=True,
        guess=activation is None,
    )


def _from_words(
    dims: int,
    channels: Sequence[str],
    spacing: Sequence[float] | None,
    size: Sequence[int] | None,
    fit: Fit | None,
    intensity: str | None,
    orientation: str | None,
) -> tuple[Preprocessing, tuple[Setting, ...]]:
    """The preprocessing that the words mean, and its settings."""
    letters = orientation or "standard"
    listed = preprocessing_steps(
        dims, len(channels), spacing, size, fit, intensity or "none", letters
    )
    content = {"preprocessing": {"_target_": "Compose", "transforms": listed}}
    settings = preprocessing_settings(
        dims, channels, spacing, size, fit, intensity, letters, own_training=False
    )
    built = build_preprocessing(Configuration(content, trust=False), dims)
    return built, tuple(settings)


def _copy_of(network: nn.Module) -> nn.Module:
    # What torch.compile and DataParallel put around a network is not a part of it.
    inner = getattr(network, "_orig_mod", network)
    inner = inner.module if isinstance(inner, nn.DataParallel) else inner
    try:
        copied: nn.Module = copy.deepcopy(inner).cpu()
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ClassifierError(
            ErrorCode.MODEL_FORMAT,
            f"The network {type(inner).__name__} cannot be copied, which keeps yours as it is: "
            f"{lines[0][:300]}",
        ) from error
    copied.eval()
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
    return copied


def _identity(network: nn.Module, settings: Sequence[Setting], behaviour: bytes) -> str:
    """sha256 (hex) over the weights, the layers, and the preprocessing."""
    weights = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        if isinstance(value, torch.Tensor):
            weights.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
            values = value.detach().contiguous().reshape(-1)
            weights.update(values.view(torch.uint8).numpy().tobytes())
    said = "\n".join(f"{one.name}: {one.value}" for one in settings)
    return identity_of(
        {
            "network": str(network).encode(),
            "weights": weights.digest(),
            "preprocessing": said.encode() + behaviour,
        }
    )
