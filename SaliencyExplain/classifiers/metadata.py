"""What a bundle's metadata.json says of a classifier's input and output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from SaliencyExplain.attribution.network import Activation
from SaliencyExplain.classifiers.bundle import METADATA
from SaliencyExplain.errors import ClassifierError, ErrorCode


@dataclass(frozen=True)
class Metadata:
    """The part of ``network_data_format`` that a classifier needs.

    Attributes:
        channels: Names of the input's channels.
        classes: Names of the classes; empty where none are given.
        spatial_dims: 2 or 3; None where the shape is not given.
        size: The input's voxels per axis where they are fixed numbers.
    """

    channels: tuple[str, ...]
    classes: tuple[str, ...]
    spatial_dims: int | None
    size: tuple[int, ...] | None


def parse(content: Mapping[str, Any]) -> Metadata:
    """Reads MONAI's ``network_data_format``.

    Raises:
        ClassifierError: It is missing or not of MONAI's form; says what to add.
    """
    data = _dictionary(content.get("network_data_format"), "network_data_format")
    inputs = _dictionary(data.get("inputs"), "network_data_format.inputs")
    outputs = _dictionary(data.get("outputs"), "network_data_format.outputs")
    image = _dictionary(
        inputs.get("image", next(iter(inputs.values())) if len(inputs) == 1 else None),
        "network_data_format.inputs.image",
    )
    prediction = _dictionary(
        outputs.get("pred", next(iter(outputs.values())) if len(outputs) == 1 else None),
        "network_data_format.outputs.pred",
    )
    names = _names(image.get("channel_def"), "network_data_format.inputs.image.channel_def")
    count = image.get("num_channels", len(names) or None)
    if not isinstance(count, int) or count < 1:
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"{METADATA} does not say how many channels go in: add "
            "network_data_format.inputs.image.num_channels.",
        )
    if len(names) != count:
        if names:
            raise ClassifierError(
                ErrorCode.MODEL_CONFIGURATION,
                f"{METADATA} names {len(names)} channels in network_data_format.inputs.image."
                f"channel_def and has num_channels {count}.",
            )
        names = ("image",) if count == 1 else tuple(f"channel{i}" for i in range(count))
    dims, size = _shape(image.get("spatial_shape"))
    classes = _names(prediction.get("channel_def"), "network_data_format.outputs.pred.channel_def")
    return Metadata(names, classes, dims, size)


def decide(
    metadata: Metadata, configuration: Mapping[str, Any], outputs: int, probabilities: bool
) -> tuple[tuple[str, ...], Activation, bool, tuple[str, ...]]:
    """Class names and activation that fit what the network gave.

    The activation is that of ``Activationsd`` in the configuration's ``postprocessing``
    (one with neither softmax nor sigmoid: the network gives probabilities itself), else
    what ``AsDiscreted`` there implies.

    Args:
        metadata: What the bundle says.
        configuration: The content of its inference configuration.
        outputs: How many scores the network gives.
        probabilities: Whether its scores are probabilities already.

    Returns:
        Names of the classes, activation, whether there is one logit for two classes, notes.

    Raises:
        ClassifierError: Names and scores do not fit, or the activation is not said.
    """
    classes = metadata.classes
    where = f"network_data_format.outputs.pred.channel_def in {METADATA}"
    if not classes:
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"The classes have no names: the network gives {outputs} score"
            f"{'s' if outputs > 1 else ''}; name them in {where}.",
        )
    activation = _activation(configuration)
    if outputs == 1 and len(classes) <= 2:
        if activation in ("softmax", "none"):
            raise ClassifierError(
                ErrorCode.MODEL_ACTIVATION,
                f"The network gives one score for {len(classes)} class"
                f"{'es' if len(classes) > 1 else ''}, which wants the activation sigmoid and "
                f"not {activation}.",
            )
        if len(classes) == 1:
            classes = (f"not {classes[0]}", classes[0])
        return classes, "sigmoid", True, ()
    if len(classes) != outputs:
        raise ClassifierError(
            ErrorCode.MODEL_CLASSES,
            f"The network gives {outputs} score{'s' if outputs > 1 else ''} and {len(classes)} "
            f"classes are named ({', '.join(classes)}): correct {where}.",
        )
    if len(set(classes)) != len(classes):
        raise ClassifierError(
            ErrorCode.MODEL_CLASSES, f"Two classes have the same name: correct {where}."
        )
    if activation is None:
        if not probabilities:
            raise ClassifierError(
                ErrorCode.MODEL_ACTIVATION,
                "The activation is not said: add an Activationsd with softmax (one class is "
                "true) or sigmoid (several may be) to 'postprocessing' in the configuration.",
            )
        return classes, "none", False, ("The network gives probabilities itself.",)
    if activation == "softmax" and probabilities:
        raise ClassifierError(
            ErrorCode.MODEL_ACTIVATION,
            "The network ends in a softmax itself, and its configuration asks for another one: "
            "set the activation to none.",
        )
    return classes, activation, False, ()


def _activation(configuration: Mapping[str, Any]) -> Activation | None:
    steps = configuration.get("postprocessing")
    steps = steps.get("transforms", [steps]) if isinstance(steps, Mapping) else steps
    found: Activation | None = None
    for step in steps if isinstance(steps, list) else []:
        if not isinstance(step, Mapping):
            continue
        name = str(step.get("_target_", "")).rpartition(".")[2]
        if name.startswith("Activations"):
            if step.get("softmax"):
                return "softmax"
            return "sigmoid" if step.get("sigmoid") else "none"
        if name.startswith("AsDiscrete"):
            found = "softmax" if step.get("argmax") else "sigmoid"
    return found


def _dictionary(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"{METADATA} has no {where}: add it, as MONAI bundles have it.",
        )
    return value


def _names(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(str(name) for name in value)
    if not isinstance(value, Mapping) or not all(str(key).isdecimal() for key in value):
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION,
            f'{METADATA}: {where} is not of the form {{"0": "name", …}}.',
        )
    numbered = {int(key): str(name) for key, name in value.items()}
    if sorted(numbered) != list(range(len(numbered))):
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION,
            f"{METADATA}: {where} does not number its names 0, 1, 2, ….",
        )
    return tuple(numbered[index] for index in range(len(numbered)))


def _shape(value: Any) -> tuple[int | None, tuple[int, ...] | None]:
    if not isinstance(value, list) or len(value) not in (2, 3):
        return None, None
    fixed = all(isinstance(edge, int) and edge > 0 for edge in value)
    return len(value), tuple(value) if fixed else None
