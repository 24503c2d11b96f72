"""Whether a network's outputs are scores of classes, and how they become probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from SaliencyExplain.attribution.network.score_network import Activation
from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.bundle import METADATA
from SaliencyExplain.models.bundle_settings import Setting
from SaliencyExplain.models.metadata import Metadata
from SaliencyExplain.models.output_meaning import Output

_NAMES = f"network_data_format.outputs.pred.channel_def in {METADATA}"


@dataclass(frozen=True)
class Decision:
    """How a network's outputs become probabilities of named classes.

    Attributes:
        classes: Names of the classes.
        activation: What turns the outputs into probabilities.
        source: Where the activation is from: one of
            :data:`SaliencyExplain.models.bundle_settings.SOURCES`.
        one_logit: Whether there is a single output for two classes.
        independent: Whether several classes may be true at once.
        notes: Notes for the user.
    """

    classes: tuple[str, ...]
    activation: Activation
    source: str = "given"
    one_logit: bool = False
    independent: bool = False
    notes: tuple[str, ...] = ()


def decide(
    metadata: Metadata, configuration: Mapping[str, Any], output: Output, *, guess: bool = False
) -> Decision:
    """The class names and the activation that match the network's outputs.

    The activation is that of ``Activationsd`` in the configuration's ``postprocessing``
    (one with neither softmax nor sigmoid: the network gives probabilities itself), else
    what ``AsDiscreted`` there implies. It is checked against the network's outputs for synthetic
    images: an activation is never applied twice, and outputs that are not scores of classes are
    refused.

    Args:
        metadata: The metadata of the bundle.
        configuration: The content of its inference configuration.
        output: The analysis of the network's outputs.
        guess: Whether logits of several classes get a softmax where the activation is not said.

    Raises:
        ClassifierError: Names and outputs do not match, the activation is missing or does not
            match, or the outputs are not scores of classes.
    """
    classes, count = metadata.classes, output.count
    if not classes:
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"The classes have no names: the network gives {count} score"
            f"{'s' if count > 1 else ''}; name them in {_NAMES}.",
        )
    told, implied = told_activation(configuration)
    if implied and output.probabilities:
        told = None
    if count == 1 and len(classes) <= 2:
        return _single(classes, told, output)
    if len(classes) != count:
        fewer = (
            " One output fewer than classes is what an ordinal regression has."
            if 1 < count == len(classes) - 1
            else ""
        )
        raise ClassifierError(
            ErrorCode.MODEL_CLASSES,
            f"The network gives {count} score{'s' if count > 1 else ''} and {len(classes)} "
            f"classes are named ({', '.join(classes)}): name each score's class in "
            f"{_NAMES}.{fewer} Outputs of a regression are not scores of classes and cannot be "
            "explained.",
        )
    if output.no_classes:
        raise ClassifierError(ErrorCode.MODEL_OUTPUT, output.no_classes)
    if len(set(classes)) != len(classes):
        raise ClassifierError(
            ErrorCode.MODEL_CLASSES, f"Two classes have the same name: correct {_NAMES}."
        )
    decision = _several(classes, told, output, guess)
    said = {setting.name: setting for setting in metadata.settings}.get("activation")
    guessed = decision.source == "guessed" or (
        said is not None and said.source == "guessed" and said.value == decision.activation
    )
    return dataclasses.replace(decision, notes=decision.notes + _doubts(output, decision, guessed))


def found_settings(output: Output, decision: Decision) -> tuple[Setting, ...]:
    """The settings found from the outputs: the activation, and which output is used."""
    activation = Setting("activation", decision.activation, decision.source)
    if not output.path:
        return (activation,)
    value = f"{output.path}, {output.why}" if output.why else output.path
    return activation, Setting("output", value, "tried")


def _doubts(output: Output, decision: Decision, guessed: bool) -> tuple[str, ...]:
    """The notes on a guessed activation and on unusual outputs."""
    notes = []
    if guessed:
        never = (
            " The network's outputs are never negative, as evidences of a Dirichlet "
            "distribution are and logits are not."
            if output.never_negative
            else ""
        )
        notes.append(
            f"The activation {decision.activation} was guessed, since none is given: the "
            f"probabilities are right only if the network was trained with it.{never}"
        )
    if output.constant:
        notes.append(
            f"The network gives the same scores for each of {output.tried} synthetic images. "
            "Check that they depend on the image."
        )
    return tuple(notes)


def _several(
    classes: tuple[str, ...], told: Activation | None, output: Output, guess: bool
) -> Decision:
    source = "tried" if told is None else "given"
    if output.kind == "log-softmax":
        if told in ("sigmoid", "none"):
            raise ClassifierError(
                ErrorCode.MODEL_ACTIVATION,
                "The network ends in a log-softmax: the activation that makes probabilities of "
                f"its outputs is softmax, not {told}.",
            )
        return Decision(classes, "softmax", source)
    if output.kind == "softmax":
        if told in ("softmax", "sigmoid"):
            raise ClassifierError(
                ErrorCode.MODEL_ACTIVATION,
                f"The network ends in a softmax itself, and a {told} on top of it would give "
                "other probabilities: set the activation to none.",
            )
        notes = ("The network gives probabilities itself.",) if told is None else ()
        return Decision(classes, "none", source, notes=notes)
    if output.kind == "probabilities":
        if told in ("softmax", "sigmoid"):
            raise ClassifierError(
                ErrorCode.MODEL_ACTIVATION,
                f"The network's outputs always lie in [0, 1] ({output.range}): it ends in a "
                f"sigmoid itself, and a {told} on top of it would give other probabilities: set "
                "the activation to none.",
            )
        note = (
            "The network gives a probability for each class by itself, and they do not sum to 1: "
            "several classes may be true at once."
        )
        if output.falling:
            note = (
                f"The network's probabilities never rise from '{classes[0]}' to '{classes[-1]}' "
                f"on {output.tried} synthetic images, as cumulative probabilities (of a grade or "
                "more, of survival to a year) do. If they are cumulative, they are not "
                "probabilities of classes, and the maps must not be read as such; otherwise "
                "several classes may be true at once."
            )
        return Decision(classes, "none", source, independent=True, notes=(note,))
    if told == "none":
        raise ClassifierError(
            ErrorCode.MODEL_ACTIVATION,
            "The activation is none, but the network's outputs are not probabilities: they go "
            f"{output.range}. Where they are the logits of the classes, the activation is that of "
            "the training: softmax (cross-entropy) or sigmoid (binary cross-entropy). Outputs of "
            "a regression are not scores of classes and cannot be explained.",
        )
    if told is not None:
        return Decision(classes, told)
    if guess:
        return Decision(classes, "softmax", "guessed")
    raise ClassifierError(
        ErrorCode.MODEL_ACTIVATION,
        "The activation is missing: add an Activationsd with softmax (one class is true) or "
        "sigmoid (several may be) to 'postprocessing' in the configuration, as the network was "
        "trained.",
    )


def _single(classes: tuple[str, ...], told: Activation | None, output: Output) -> Decision:
    """The decision for one output and one or two names."""
    named = len(classes) == 2
    pair = classes if named else (f"not {classes[0]}", classes[0])
    no_class = (
        "A regression output or a risk score is not a class score and cannot be explained. Only "
        f"where it was trained as the logit of '{pair[1]}' (binary cross-entropy) is the "
        "activation sigmoid."
    )
    if output.kind == "probabilities":
        if told in ("softmax", "sigmoid"):
            raise ClassifierError(
                ErrorCode.MODEL_ACTIVATION,
                f"The network's one output always lies in [0, 1] ({output.range}): it is not a "
                f"logit, and a {told} of it would give wrong probabilities. Where it is the "
                f"probability of '{pair[1]}', set the activation to none; a score or measurement "
                "that is not a probability cannot be explained.",
            )
        note = (
            f"The network's one output is taken as the probability of '{pair[1]}', and 1 minus it "
            f"as that of '{pair[0]}': it lies in [0, 1] for each of {output.tried} synthetic "
            "images. If it is a score or measurement instead of a probability, the maps are "
            "meaningless."
        )
        source = "tried" if told is None else "given"
        return Decision(pair, "none", source, one_logit=True, notes=(note,))
    if told != "sigmoid":
        why = {
            "none": f"The network's one output is not a probability: it goes {output.range}.",
            "softmax": "A softmax of one output is 1 for every image.",
            None: (
                f"The network has one output, which goes {output.range}, and no activation is "
                "given."
            ),
        }[told]
        raise ClassifierError(ErrorCode.MODEL_OUTPUT, f"{why} {no_class}")
    if output.never_negative:
        raise ClassifierError(
            ErrorCode.MODEL_OUTPUT,
            "The network's one output is never negative, so that a sigmoid of it would never say "
            f"'{pair[0]}': it is a measurement and not a class score, and cannot be explained.",
        )
    if output.saturated and not named:
        raise ClassifierError(
            ErrorCode.MODEL_OUTPUT,
            f"The network's one output goes {output.range}, so that its sigmoid is always "
            f"{'1' if output.low > 0 else '0'}: it is a measurement, as of a regression, not a "
            "class score, and cannot be explained. Where it is a logit, name both classes.",
        )
    notes: tuple[str, ...] = ()
    if output.saturated:
        notes = (
            f"The network's one output goes {output.range}: check that it is a logit and not the "
            "output of a regression.",
        )
    elif not named:
        notes = (
            f"The network's one output is taken as the logit of '{pair[1]}' against '{pair[0]}'. "
            "If it is the output of a regression or a risk score, the probabilities are "
            "meaningless.",
        )
    return Decision(pair, "sigmoid", one_logit=True, notes=notes)


def told_activation(configuration: Mapping[str, Any]) -> tuple[Activation | None, bool]:
    """The activation in a configuration, and whether it is only implied."""
    steps = configuration.get("postprocessing")
    steps = steps.get("transforms", [steps]) if isinstance(steps, Mapping) else steps
    found: Activation | None = None
    for step in steps if isinstance(steps, list) else []:
        if not isinstance(step, Mapping):
            continue
        name = str(step.get("_target_", "")).rpartition(".")[2]
        if name.startswith("Activations"):
            if step.get("softmax"):
                return "softmax", False
            return ("sigmoid" if step.get("sigmoid") else "none"), False
        if name.startswith("AsDiscrete"):
            found = "softmax" if step.get("argmax") else "sigmoid"
    return found, found is not None
