"""Classifiers as arguments: an open one, a file or folder, a shipped one."""

from __future__ import annotations

import dataclasses
import inspect
import tempfile
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from SaliencyExplain.api.argument_checks import path_of
from SaliencyExplain.demo.shipped import classifier_path
from SaliencyExplain.errors import ErrorCode, InputError, unknown_name, wrong_type
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.preprocessing_words import PreprocessingWords
from SaliencyExplain.models.wrapping import wrap

#: The settings of :func:`load_model`: the arguments of ``wrap`` that it does not set itself.
_SETTINGS = tuple(
    name
    for name in (
        *inspect.signature(wrap).parameters,
        *(one.name for one in dataclasses.fields(PreprocessingWords)),
    )
    if name not in ("network", "weights", "out", "trust", "words")
)


def load_model(
    source: str | PathLike[str], *, trust: bool = False, network: str | None = None, **settings: Any
) -> Classifier:
    """Opens a model from a file or folder.

    Args:
        source: A MONAI bundle (folder or zip), a folder of Hugging Face's Transformers, a
            TorchScript or torch.export file with a bundle's metadata, ``demo:NAME`` for one that
            is shipped; or, with ``classes``, anything that ``saliency-explain model add`` reads:
            weights of a ``network``, or a program.
        trust: Whether code that comes with the model may be run.
        network: Name of the network's class, such as ``DenseNet121`` or ``timm.resnet18``, where
            the file holds weights alone.
        **settings: Further arguments of :func:`SaliencyExplain.models.wrapping.wrap`: classes,
            channels, spacing, size, intensity and so on.

    Raises:
        InputError: An argument does not make sense, or there is none of that name.
        ClassifierError: The model does not exist, is refused, or lacks a part.

    Example:
        >>> import SaliencyExplain as se
        >>> se.load_model("demo:phantom-2d-honest").classes[1]
        'glioma-like'
    """
    path_of("source", source)
    for name in settings:
        if name not in _SETTINGS:
            raise unknown_name("setting of a model", name, _SETTINGS)
    if network is None and not settings:
        return load_classifier(classifier_path(source), trust=trust)
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
    hint = " (Model(network, classes=[...]) makes one)" if isinstance(given, nn.Module) else ""
    raise wrong_type("model", f"one of Model(...) or load_model(...){hint}, or a path", given)
