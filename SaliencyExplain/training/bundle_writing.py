"""From training settings to a network, and from its weights to the classifier's bundle."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.networks import build_network, network_definition
from SaliencyExplain.models.wrapping import wrap
from SaliencyExplain.training.training_settings import Settings


def new_network(settings: Settings, *, trust: bool = False) -> nn.Module:
    """The network with random weights, which depend on the seed alone.

    Args:
        settings: How it is trained.
        trust: Whether a network of the user's own code may be built.

    Raises:
        ClassifierError: It cannot be built.
    """
    torch.manual_seed(settings.seed)
    definition = network_definition(
        settings.network,
        settings.network_args,
        channels=len(settings.channels),
        classes=len(settings.classes),
        spatial_dims=settings.spatial_dims,
        size=settings.size,
        trust=trust,
    )
    return build_network(definition, trust=trust)


def untrained_classifier(
    settings: Settings, network: nn.Module, *, trust: bool = False
) -> Classifier:
    """The classifier before training.

    A network learns from images that this classifier has prepared, so that the preprocessing is
    the one that the trained classifier will be used with.

    Args:
        settings: How it is trained.
        network: Its weights are copied.
        trust: Whether a network of the user's own code may be built.

    Raises:
        ClassifierError: It cannot be loaded.
    """
    with tempfile.TemporaryDirectory(prefix="saliency-explain-") as scratch:
        bundle = write_bundle(
            settings, network.state_dict(), Path(scratch) / "untrained", "untrained", trust=trust
        )
        return load_classifier(bundle, trust=trust)


def write_bundle(
    settings: Settings,
    state: dict[str, Tensor],
    out: Path,
    description: str,
    *,
    metrics: Mapping[str, Any] | None = None,
    documents: Mapping[str, bytes] | None = None,
    trust: bool = False,
) -> Path:
    """Writes the bundle of a classifier that was trained here.

    Args:
        settings: How it was trained.
        state: The network's weights.
        out: Folder of the bundle; it must not exist.
        description: Its description in the metadata.
        metrics: How well it does, for its metadata.
        documents: Files of its folder ``docs`` by name.
        trust: Whether a network of the user's own code may be built.

    Returns:
        The bundle's folder.

    Raises:
        ClassifierError: The network does not fit the settings.
        OutputError: The bundle cannot be written.
    """
    return wrap(
        settings.network,
        state,
        settings.classes,
        out,
        network_args=settings.network_args,
        channels=settings.channels,
        spatial_dims=settings.spatial_dims,
        spacing=settings.spacing,
        size=settings.size,
        fit=settings.fit,
        intensity=settings.intensity,
        activation="softmax",
        own_training=True,
        description=description,
        eval_metrics=metrics,
        documents=documents,
        trust=trust,
    )


@contextlib.contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """Makes torch use deterministic algorithms where available."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
