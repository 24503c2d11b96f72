"""The metadata of a bundle that is made of a network and its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import monai
import numpy as np
import torch

from SaliencyExplain.errors import ErrorCode, InputError, wrong_type
from SaliencyExplain.models.input_channels import are_colours

_ACTIVATIONS: dict[str, dict[str, bool]] = {
    "softmax": {"softmax": True},
    "sigmoid": {"sigmoid": True},
    "none": {},
}


def check_names(classes: Sequence[str], channels: Sequence[str]) -> None:
    """Checks the names of the classes and channels.

    Raises:
        InputError: They are no lists of names, no class or channel is named, or one of them twice.
    """
    for name, given in (("classes", classes), ("channels", channels)):
        # A text is a sequence, too: of its letters.
        if not isinstance(given, (list, tuple)):
            raise wrong_type(name, "a list of names", given)
        for one in given:
            if not isinstance(one, str):
                raise wrong_type(name, "a list of names, each a text", one)
    if not classes or len(set(classes)) != len(classes):
        raise InputError(
            ErrorCode.NAME_DUPLICATE, "Name each class once, in the order of the network's scores."
        )
    if not channels or len(set(channels)) != len(channels):
        raise InputError(
            ErrorCode.NAME_DUPLICATE, "Name each channel once, in the network's order."
        )


def activation_step(activation: str | None) -> dict[str, Any]:
    """The ``postprocessing`` of a configuration; nothing where the activation is not known.

    Args:
        activation: ``softmax``, ``sigmoid``, ``none``, or None.

    Raises:
        InputError: The activation is unknown.
    """
    if activation is None:
        return {}
    if activation not in _ACTIVATIONS:
        raise InputError(
            ErrorCode.VALUE_FORM, f"The activation is softmax, sigmoid or none, not '{activation}'."
        )
    step = {"_target_": "Activationsd", "keys": "pred", **_ACTIVATIONS[activation]}
    return {"postprocessing": {"_target_": "Compose", "transforms": [step]}}


def described_as_segmentation(content: dict[str, Any]) -> None:
    """Changes the ``metadata.json`` of a bundle to that of a segmentation network."""
    content["task"] = "segmentation"
    content["network_data_format"]["outputs"]["pred"]["format"] = "segmentation"
    content["network_data_format"]["outputs"]["pred"]["spatial_shape"] = content[
        "network_data_format"
    ]["inputs"]["image"]["spatial_shape"]


def bundle_metadata(
    classes: Sequence[str],
    channels: Sequence[str],
    dims: int,
    size: Sequence[int] | None,
    description: str,
) -> dict[str, Any]:
    """The ``metadata.json`` of a MONAI bundle that classifies.

    Args:
        classes: Names of the classes, in the order of the outputs.
        channels: Names of the channels.
        dims: Spatial axes, 2 or 3.
        size: Voxels along each axis of the input; None: any.
        description: One line.
    """

    def numbered(names: Sequence[str]) -> dict[str, str]:
        return {str(index): name for index, name in enumerate(names)}

    return {
        "version": "1.0.0",
        "changelog": {"1.0.0": "first version"},
        "monai_version": monai.__version__.split("+")[0],
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {},
        "task": "classification",
        "description": description,
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "RGB" if are_colours(channels) else "magnitude",
                    "num_channels": len(channels),
                    "spatial_shape": [int(value) for value in size] if size else ["*"] * dims,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": numbered(channels),
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "classification",
                    "num_channels": len(classes),
                    "spatial_shape": [1],
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": False,
                    "channel_def": numbered(classes),
                }
            },
        },
    }
