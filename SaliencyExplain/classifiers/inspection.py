"""What can be said of a classifier before it sees an image."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from SaliencyExplain.attribution.network import CONVOLUTIONS
from SaliencyExplain.classifiers.classifier import Classifier
from SaliencyExplain.classifiers.probe import probe


def describe(classifier: Classifier) -> dict[str, Any]:
    """Everything of a classifier that fits into a JSON document.

    Args:
        classifier: The classifier; one forward pass measures its layers.

    Returns:
        name, format, identity (sha256), trusted, classes, channels, spatial_dims, spacing
        in mm, input_size in voxels, activation, output (path of the class scores in what the
        network returns, None where it returns nothing else), independent (whether several
        classes may be true), settings (what was told and what was guessed), parameters
        (their number), preprocessing (names of the transforms in order), notes, and
        candidate_layers: for each convolution its name, output channels and the size of its
        feature map for ``measured_size`` voxels of input.
    """
    network = classifier.network
    layers, size = _feature_maps(classifier)
    return {
        "name": classifier.name,
        "format": classifier.format,
        "identity": classifier.identity,
        "trusted": classifier.trusted,
        "classes": list(classifier.classes),
        "channels": list(classifier.channels),
        "spatial_dims": classifier.spatial_dims,
        "spacing": list(classifier.spacing) if classifier.spacing else None,
        "input_size": list(classifier.input_size) if classifier.input_size else None,
        "activation": network.activation,
        "one_logit": network.one_logit,
        "output": network.output or None,
        "independent": network.independent,
        "settings": [dataclasses.asdict(setting) for setting in classifier.settings],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "preprocessing": [
            type(step).__name__ for step in getattr(classifier.preprocessing, "transforms", ())
        ],
        "measured_size": list(size),
        "candidate_layers": layers,
        "notes": list(classifier.notes),
    }


def _feature_maps(classifier: Classifier) -> tuple[list[dict[str, Any]], tuple[int, ...]]:
    network = classifier.network.network
    found: dict[str, list[int]] = {}

    def remember(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            found[name] = list(output.shape[2:])

        return hook

    layers = {name: m for name, m in network.named_modules() if isinstance(m, CONVOLUTIONS)}
    handles = [module.register_forward_hook(remember(name)) for name, module in layers.items()]
    device = classifier.device
    try:
        _, noise = probe(
            classifier.to("cpu").network.network,
            len(classifier.channels),
            classifier.spatial_dims,
            classifier.input_size,
        )
    finally:
        classifier.to(device)
        for handle in handles:
            handle.remove()
    described = [
        {"name": name, "channels": module.out_channels, "size": found[name]}
        for name, module in layers.items()
        if name in found
    ]
    return described, tuple(noise.shape[2:])
