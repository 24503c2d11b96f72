"""What may stand for a classifier: a network in memory, a file or folder, a shipped one."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from SaliencyExplain.demo.shipped import classifier_folder
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.network_in_memory import classifier_of_network
from SaliencyExplain.models.wrapped_preprocessing import Fit
from SaliencyExplain.models.wrapping import wrap

#: How a classifier that is shipped is named.
_SHIPPED = "demo:"


def Model(  # noqa: N802 - it makes an object, as a class does
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
    """A network that is in memory, with what is done to an image before it.

    The model holds a copy of the network as it is now, in eval mode. The network itself is left
    as it is and may be trained on; make a new model to explain what it has learnt since. The copy
    runs on a few made images, which shows what its outputs are.

    Args:
        network: Takes ``(B, C, *S)`` and returns a score for each class.
        classes: Names of the classes in the order of the scores; one or two for a single logit.
        channels: Names of the input's channels in the network's order; red, green, blue for
            colour pictures.
        spatial_dims: 2 or 3; None: as size, spacing or the network's convolutions say.
        spacing: Voxel size to resample to, mm, a number for each axis; None: the image's own.
        size: Voxels along each axis of the network's input; None: the image's own.
        fit: How the size is reached: ``crop`` (and pad) about the centre, or ``resize`` the field
            of view. None: crop with a spacing, resize without.
        intensity: How intensities are scaled: ``zscore``, ``zscore-nonzero``, ``scale``,
            ``percentile``, ``window:low,high`` or ``imagenet``; None: not at all.
        orientation: Axis codes that the network was trained with, such as ``RAS``; ``none``: as
            in the file. None: RAS in 3D, PL in 2D (rows downwards, as pictures are).
        preprocessing: All of that as an object instead: a MONAI Compose of dictionary transforms
            on ``image`` or of array transforms, or a function that takes and returns a MetaTensor
            ``(C, *S)``. Maps come back by the affine that it leaves, which is checked; reading
            the file is left out of it.
        activation: ``softmax``, ``sigmoid``, or ``none`` where the network ends in one. None: none
            where its outputs are probabilities, else softmax.
        output: Which output holds the class scores, where the network returns several: an index,
            a key, or several with dots between them.
        name: Of the model; empty: that of the network's class.

    Returns:
        The model, on the CPU; computations move it to the device that they are asked for.

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
    return classifier_of_network(
        network,
        classes,
        channels=channels,
        spatial_dims=spatial_dims,
        spacing=spacing,
        size=size,
        fit=fit,
        intensity=intensity,
        orientation=orientation,
        preprocessing=preprocessing,
        activation=activation,
        output=output,
        name=name,
    )


def load_model(
    source: str | PathLike[str], *, trust: bool = False, network: str | None = None, **settings: Any
) -> Classifier:
    """Opens a model from a file or folder.

    Args:
        source: A MONAI bundle (folder or zip), a TorchScript or torch.export file with a bundle's
            metadata, ``demo:NAME`` for one that is shipped; or, with ``classes``, anything that
            ``saliency-explain classifier wrap`` reads: weights of a ``network``, or a program.
        trust: Whether code that comes with the model may be run.
        network: Name of the network's class, such as ``DenseNet121`` or ``timm.resnet18``, where
            the file holds weights alone.
        **settings: Further arguments of :func:`SaliencyExplain.models.wrapping.wrap`: classes,
            channels, spacing, size, intensity and so on.

    Raises:
        InputError: An argument does not make sense.
        ClassifierError: There is no model, it is refused, or a part of it is missing.

    Example:
        >>> import SaliencyExplain as se
        >>> se.load_model("demo:phantom-2d-honest").classes[1]
        'glioma-like'
    """
    if network is None and not settings:
        return load_classifier(_path_of(source), trust=trust)
    if "classes" not in settings:
        raise InputError(
            ErrorCode.OPTION_MISSING,
            f"{source}: name the classes in the order of the network's scores (classes=[...]).",
        )
    classes = settings.pop("classes")
    with tempfile.TemporaryDirectory(prefix="saliency-explain-") as folder:
        bundle = Path(folder) / Path(source).stem
        wrap(network, Path(source), classes, bundle, trust=trust, **settings)
        return dataclasses.replace(load_classifier(bundle, trust=trust), source=None)


def model_of(given: Any, *, trust: bool = False) -> Classifier:
    """The model that a user gave: one that is open, or the file or folder of one.

    Raises:
        InputError: It is neither; a bare network has no classes and no preprocessing.
    """
    if isinstance(given, Classifier):
        return given
    if isinstance(given, (str, PathLike)):
        return load_model(given, trust=trust)
    hint = ": give Model(network, classes=[...], ...)" if isinstance(given, nn.Module) else ""
    raise InputError(
        ErrorCode.VALUE_FORM,
        f"A model is what Model(...) or load_model(...) gives, or a path, not a "
        f"{type(given).__name__}{hint}.",
    )


def _path_of(source: str | PathLike[str]) -> Path:
    text = str(source)
    return (
        classifier_folder(text.removeprefix(_SHIPPED)) if text.startswith(_SHIPPED) else Path(text)
    )
