"""A classifier of a network that is in memory, such as one that was just trained."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError, wrong_type
from SaliencyExplain.models.assembly import assemble
from SaliencyExplain.models.bundle import identity_of
from SaliencyExplain.models.bundle_metadata import activation_step, check_names
from SaliencyExplain.models.bundle_settings import Setting
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.configuration import Configuration
from SaliencyExplain.models.library_presets import chosen_words, preset_dims
from SaliencyExplain.models.metadata import Metadata
from SaliencyExplain.models.preprocessing import build_preprocessing
from SaliencyExplain.models.preprocessing_words import PreprocessingWords
from SaliencyExplain.models.probe import convolution_dims
from SaliencyExplain.models.sliding_window import described_inferer
from SaliencyExplain.models.user_preprocessing import (
    behaviour_of,
    description_of,
    usable_preprocessing,
)

Preprocessing = Callable[[dict[str, Any]], Any]


def Model(  # noqa: N802 - it makes an object, as a class does
    network: nn.Module,
    classes: Sequence[str],
    *,
    channels: Sequence[str] = ("image",),
    spatial_dims: int | None = None,
    like: str | None = None,
    preprocessing: Callable[..., Any] | None = None,
    activation: str | None = None,
    output: str | None = None,
    window: Sequence[int] | None = None,
    name: str = "",
    **words: Any,
) -> Classifier:
    """A network that is in memory, with what is done to an image before it.

    The model holds a copy of the network as it is now, in eval mode. The network itself is left
    as it is and may be trained on; make a new model to explain what it has learnt since. The copy
    runs on a few synthetic images to determine the kind of its outputs.

    Args:
        network: Takes ``(B, C, *S)`` and returns a score for each class, or a map of each class.
        classes: Names of the classes in the order of the scores; one or two for a single logit.
        channels: Names of the input's channels in the network's order; red, green, blue for
            colour pictures.
        spatial_dims: 2 or 3; None: as size, spacing or the network's convolutions say.
        like: A library whose own preprocessing it is: ``monai``, ``torchvision``, ``timm``,
            ``huggingface``, ``torchxrayvision`` or ``medmnist``
            (:data:`SaliencyExplain.models.library_presets.PRESETS`).
        preprocessing: The preprocessing as an object, instead of a library and words: a MONAI
            Compose of dictionary transforms on ``image`` or of array transforms, or a function
            that takes and returns a MetaTensor ``(C, *S)``. Maps come back by the affine that it
            leaves, which is checked; reading the file is left out of it.
        activation: ``softmax``, ``sigmoid``, or ``none`` where the network ends in one. None: none
            where its outputs are probabilities, else softmax.
        output: Which output holds the class scores, where the network returns several: an index,
            a key, or several with dots between them.
        window: Of a segmentation network the voxels per axis of the windows in which it is run
            over an image; None: whole images.
        name: Of the model; empty: that of the network's class.
        **words: The preprocessing in words: ``spacing`` (mm), ``size`` (voxels), ``intensity``
            (``zscore``, ``window:low,high`` and others) and what else
            :class:`~SaliencyExplain.models.preprocessing_words.PreprocessingWords` has.

    Returns:
        The model, on the CPU; computations move it to the chosen device.

    Raises:
        InputError: An argument does not make sense.
        ClassifierError: The network takes no such image or is no classifier of these classes, or
            the preprocessing cannot be undone.

    Example:
        >>> import SaliencyExplain as se
        >>> from torch import nn
        >>> net = nn.Sequential(
        ...     nn.Conv3d(1, 4, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)
        ... )
        >>> model = se.Model(net, classes=["none", "glioma"], spacing=(4, 4, 4), intensity="zscore")
        >>> model.classes, model.spacing
        (('none', 'glioma'), (4.0, 4.0, 4.0))
    """
    if not isinstance(network, nn.Module):
        raise wrong_type("network", "a torch.nn.Module", network)
    check_names(classes, channels)
    given = PreprocessingWords.of(words)
    dims = spatial_dims or given.dims or preset_dims(like) or convolution_dims(network)
    if dims not in (2, 3):
        raise InputError(
            ErrorCode.OPTION_MISSING,
            "Give the number of axes of the images (spatial_dims=2 or spatial_dims=3): the "
            "network does not define it.",
        )
    if preprocessing is None:
        chosen: PreprocessingWords | None
        steps, settings, chosen = _from_words(dims, channels, like, words)
        size = None if chosen.size is None else tuple(int(edge) for edge in chosen.size)
    else:
        others = [word for word, value in {"like": like, **words}.items() if value is not None]
        if others:
            raise InputError(
                ErrorCode.OPTION_CONFLICT,
                f"The preprocessing object replaces the other settings: leave out {others[0]}.",
            )
        size, chosen = None, None
        steps = usable_preprocessing(preprocessing, len(channels), dims)
        settings = (Setting("preprocessing", description_of(steps), "given"),)
    if window is not None:
        settings += (Setting("window", "x".join(map(str, window)), "given"),)
    copied = _copy_of(network)
    title = name or type(network).__name__
    return assemble(
        copied,
        Metadata(tuple(channels), tuple(classes), dims, size, output, settings, words=chosen),
        {**activation_step(activation), "inferer": described_inferer(window, dims)},
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
    dims: int, channels: Sequence[str], like: str | None, words: Mapping[str, Any]
) -> tuple[Preprocessing, tuple[Setting, ...], PreprocessingWords]:
    """The preprocessing that the words mean, its settings, and the words with a preset's own."""
    chosen, sources = chosen_words(words, like, dims)
    content = {
        "preprocessing": {"_target_": "Compose", "transforms": chosen.steps(dims, len(channels))}
    }
    settings = chosen.settings(dims, channels, sources)
    built = build_preprocessing(Configuration(content, trust=False), dims)
    return built, tuple(settings), chosen


def _copy_of(network: nn.Module) -> nn.Module:
    # The wrappers of torch.compile and DataParallel are not a part of the network.
    inner = getattr(network, "_orig_mod", network)
    inner = inner.module if isinstance(inner, nn.DataParallel) else inner
    try:
        copied: nn.Module = copy.deepcopy(inner).cpu()
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ClassifierError(
            ErrorCode.MODEL_FORMAT,
            f"The network {type(inner).__name__} cannot be copied: {lines[0][:300]}. A copy is "
            "needed to leave the given network unchanged.",
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
