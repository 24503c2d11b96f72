"""The output of a segmentation network: a map of each class at the image's own resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from SaliencyExplain.attribution.network.network_outputs import (
    described,
    is_scores,
    outputs_by_path,
)
from SaliencyExplain.errors import ClassifierError, ErrorCode, unknown_name
from SaliencyExplain.models.bundle_settings import Setting
from SaliencyExplain.models.decision import Decision, told_activation
from SaliencyExplain.models.metadata import Metadata

_ROUNDING = 1e-5


@dataclass(frozen=True)
class SegmentationOutput:
    """Where the maps of the classes are, and what they mean.

    Attributes:
        path: Path of the logits in what the network returns.
        decision: Names of the classes and the activation.
        note: Which of several outputs it is, as a sentence; empty where there is one.
    """

    path: str
    decision: Decision
    note: str = ""


def segmentation_output(
    result: Any, noise: Tensor, metadata: Metadata, configuration: Mapping[str, Any]
) -> SegmentationOutput | None:
    """The maps of the classes in what a network returned; None where it is a classifier.

    Of several outputs at different resolutions (deep supervision) it is the one at the image's.

    Args:
        result: What the network returned for ``noise``.
        noise: ``(1, C, *S)``.
        metadata: The metadata of the bundle.
        configuration: Its ``postprocessing`` says the activation.

    Raises:
        ClassifierError: The metadata says a segmentation and there is no such output, there are
            several, or names or activation do not match it.
    """
    parts = outputs_by_path(result)
    maps = {name: part for name, part in parts.items() if _is_map(part, noise)}
    scores = any(is_scores(part) for part in parts.values())
    wanted = metadata.output
    if not metadata.segmentation and (not maps or scores) and wanted not in maps:
        return None
    if wanted is not None and wanted not in parts:
        raise unknown_name("output of the network", wanted, [name for name in parts if name])
    if wanted is not None:
        maps = {name: part for name, part in maps.items() if name == wanted}
    count = len(metadata.classes)
    fitting = {name: part for name, part in maps.items() if part.shape[1] == count} or maps
    if len(fitting) != 1:
        what = "none of its outputs is" if not fitting else "several of its outputs are"
        raise ClassifierError(
            ErrorCode.MODEL_OUTPUT,
            f"The network segments, and {what} a map of each class at the resolution of the image "
            f"({_edges(noise.shape[2:])}). They are {described(parts)}. Name one as output.",
        )
    path, values = next(iter(fitting.items()))
    note = ""
    if len(parts) > 1:
        note = (
            f"The network returns {len(parts)} outputs, {described(parts)}: the map of each class "
            f"is taken from '{path}', at the resolution of the image."
        )
    return SegmentationOutput(path, _decision(values, metadata, configuration), note)


def segmentation_settings(output: SegmentationOutput) -> tuple[Setting, ...]:
    """The settings found from the output: the activation, and which output is used."""
    activation = Setting("activation", output.decision.activation, output.decision.source)
    if not output.path:
        return (activation,)
    return activation, Setting("output", output.path, "tried")


def _decision(values: Tensor, metadata: Metadata, configuration: Mapping[str, Any]) -> Decision:
    classes, count = metadata.classes, values.shape[1]
    one_logit = count == 1 and len(classes) in (1, 2)
    if not one_logit and len(classes) != count:
        raise ClassifierError(
            ErrorCode.MODEL_CLASSES,
            f"The network segments {count} class{'es' if count > 1 else ''} and {len(classes)} "
            f"are named ({', '.join(classes)}): name the class of each channel of its output.",
        )
    if len(set(classes)) != len(classes):
        raise ClassifierError(ErrorCode.MODEL_CLASSES, "Two classes have the same name.")
    if one_logit and len(classes) == 1:
        classes = (f"not {classes[0]}", classes[0])
    told, implied = told_activation(configuration)
    found = values.detach().double()
    inside = bool((found >= -_ROUNDING).all() and (found <= 1 + _ROUNDING).all())
    sums = found.sum(dim=1)
    softmaxed = inside and count > 1 and torch.allclose(sums, torch.ones_like(sums), atol=1e-4)
    if softmaxed or (inside and told == "none"):
        if told in ("softmax", "sigmoid") and not implied:
            raise ClassifierError(
                ErrorCode.MODEL_ACTIVATION,
                f"The network ends in a softmax itself, and a {told} on top of it would give "
                "other probabilities: set the activation to none.",
            )
        note = "The network gives probabilities itself: a region's score is their mean."
        return Decision(
            classes,
            "none",
            "tried",
            one_logit=one_logit,
            independent=not softmaxed and not one_logit,
            notes=(note,),
        )
    if told == "none":
        raise ClassifierError(
            ErrorCode.MODEL_ACTIVATION,
            "The activation is none, but the network's outputs are not probabilities: set it to "
            "softmax (one class at each voxel) or sigmoid (several may be), as in the training.",
        )
    if one_logit:
        source = "given" if told == "sigmoid" else "guessed"
        return Decision(classes, "sigmoid", source, one_logit=True)
    if told is not None:
        return Decision(classes, told, independent=told == "sigmoid")
    note = (
        "The activation softmax was guessed, since none is given: where the network was trained "
        "with a sigmoid, the region of a class is another."
    )
    return Decision(classes, "softmax", "guessed", notes=(note,))


def _is_map(part: Any, noise: Tensor) -> bool:
    return (
        isinstance(part, Tensor)
        and part.is_floating_point()
        and part.ndim == noise.ndim
        and part.shape[2:] == noise.shape[2:]
        and len(part) == len(noise)
    )


def _edges(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
