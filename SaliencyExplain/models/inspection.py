"""What can be said of a classifier before it sees an image."""

from __future__ import annotations

import dataclasses
from typing import Any

from SaliencyExplain.attribution.graph.layer_outputs import closed_kind
from SaliencyExplain.attribution.graph.network_structure import analyse, last_layers_by_grid
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.probe import probe


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
        candidate_layers: for each convolution on whose cells the scores depend its name, output
        channels and the size of its feature map for ``measured_size`` voxels of input;
        default_layer: what class activation methods take, None where they refuse the network.
    """
    network = classifier.network
    with classifier.confined():
        layers, default, size = _feature_maps(classifier)
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
        "default_layer": default or None,
        "notes": list(classifier.notes),
    }


def _feature_maps(classifier: Classifier) -> tuple[list[dict[str, Any]], str, tuple[int, ...]]:
    """The layers, what class activation methods take by default, and the size of the input."""
    device = classifier.device
    try:
        network = classifier.to("cpu").network
        _, noise = probe(
            network.network,
            len(classifier.channels),
            classifier.spatial_dims,
            classifier.input_size,
        )
        size = tuple(noise.shape[2:])
        if closed_kind(network.network):
            return [], "", size
        structure = analyse(network, noise)
    finally:
        classifier.to(device)
    layers = []
    for name in network.convolutions():
        output = structure.outputs.get(name)
        if output is not None and output.spots:
            layout = output.spots[-1].layout
            size_of_map = list(layout.counts)
            layers.append({"name": name, "channels": layout.channels, "size": size_of_map})
    if classifier.windows is not None:
        return layers, next(iter(last_layers_by_grid(network, noise)), ""), size
    return layers, " and ".join(spot.told for spot in structure.targets), size
