"""The analysis of a network's output: which part holds the class scores, and what its numbers mean.

Found by running the network on a few synthetic images, before any image of a user is explained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.network.network_outputs import (
    described,
    is_scores,
    outputs_by_path,
    scores_in,
)
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import ClassifierError, ErrorCode, unknown_name
from SaliencyExplain.models.bundle import METADATA
from SaliencyExplain.models.no_classes import falling, in_doubt, no_classes

Kind = Literal["logits", "log-softmax", "softmax", "probabilities"]

_ROUNDING = 1e-5
#: A sigmoid of more than this is 1 to nine digits, so every image would get the same class.
_SATURATED = 20.0
#: Number of synthetic images of a usual magnitude: noise, zeros, even noise.
_USUAL = 3
#: Operations that only arrange, choose or average values.
_ARRANGING = (
    *(
        "View",
        "Reshape",
        "ReshapeAlias",
        "UnsafeView",
        "AsStrided",
        "Alias",
        "Squeeze",
        "Unsqueeze",
    ),
    *(
        "Flatten",
        "Permute",
        "Transpose",
        "T",
        "Expand",
        "Clone",
        "Copy",
        "ToCopy",
        "Select",
        "Slice",
    ),
    *("Index", "IndexSelect", "Gather", "Narrow", "Split", "SplitWithSizes", "Unbind", "Cat"),
    *("Stack", "Mean", "Sum", "Add", "Sub", "Rsub", "Mul", "Div", "Neg", "AvgPool2D", "AvgPool3D"),
    *("AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "MkldnnAdaptiveAvgPool2D"),
    *("AdaptiveMaxPool2D", "AdaptiveMaxPool3D"),
)
_LINEAR = {"Addmm", "Mm", "Bmm", "Baddbmm", "Addmv", "Mv", "Dot", "Linear", "Convolution"}
_BOUNDED = {"Sigmoid", "Softmax", "Hardsigmoid", "Clamp", "ClampMin", "ClampMax"}
_NEVER_NEGATIVE = {"Relu", "Softplus", "Exp", "Abs", "Threshold", "Pow", "Sqrt"}


@dataclass(frozen=True)
class Output:
    """The class scores of a network for synthetic images.

    Attributes:
        path: Where they are in what the network returns; empty where it is one tensor.
        count: How many there are for an image.
        kind: ``softmax``: in [0, 1] with the sum 1; ``log-softmax``: their logarithms;
            ``probabilities``: each in [0, 1] for every image that was tried; else ``logits``.
        low: Least value.
        high: Greatest value.
        saturated: Whether a sigmoid of each value would be 1, or 0 of each.
        never_negative: Whether the network's last operation lets no negative value through.
        no_classes: Why the outputs are not scores of classes, as a sentence; empty if they may be.
        falling: Whether three or more probabilities never rise from one output to the next.
        constant: Whether the scores are the same for every image.
        tried: How many images were tried.
        why: Why it is this one of several outputs; empty where there is one.
        note: The same as a sentence.
    """

    path: str
    count: int
    kind: Kind
    low: float
    high: float
    saturated: bool = False
    never_negative: bool = False
    no_classes: str = ""
    falling: bool = False
    constant: bool = False
    tried: int = 1
    why: str = ""
    note: str = ""

    @property
    def probabilities(self) -> bool:
        """Whether the values are probabilities as they are."""
        return self.kind in ("softmax", "probabilities")

    @property
    def range(self) -> str:
        """What the values were, in words."""
        return f"from {self.low:.4g} to {self.high:.4g} on {self.tried} synthetic images"


def examine(
    network: nn.Module,
    noise: Tensor,
    result: Any,
    classes: Sequence[str],
    wanted: str | None,
    reason: str = "as the bundle says",
) -> Output:
    """Finds the class scores in what a network returns, and what kind of numbers they are.

    Args:
        network: In eval mode, its parameters frozen.
        noise: An image ``(1, C, *S)`` that the network takes.
        result: What it returned for that.
        classes: Names of the classes; empty where they are not known.
        wanted: Path of the scores where it is given.
        reason: Why it is that one, for people.

    Raises:
        ClassifierError: There are none, or several outputs may be meant.
        InputError: No output has the requested name.
    """
    path, why = _chosen(result, classes, wanted, reason)
    found = _observed(network, path, noise, result)
    if not why:
        return found
    parts = outputs_by_path(result)
    note = (
        f"The network returns {len(parts)} outputs, {described(parts)}: the class scores are "
        f"taken from '{path}', {why}."
    )
    return dataclasses.replace(found, why=why, note=note)


def _chosen(
    result: Any, classes: Sequence[str], wanted: str | None, reason: str
) -> tuple[str, str]:
    """Path of the class scores, and why it is this one where there are several."""
    parts = outputs_by_path(result)
    if wanted is not None:
        if wanted not in parts:
            raise unknown_name("output of the network", wanted, [name for name in parts if name])
        return wanted, reason if len(parts) > 1 else ""
    tensors = {name: part for name, part in parts.items() if isinstance(part, Tensor)}
    if len(parts) == 1 and len(tensors) == 1:
        return next(iter(tensors)), ""
    scores = {name: part for name, part in tensors.items() if is_scores(part)}
    widths = [len(classes)] if classes else [part.shape[1] for part in scores.values()]
    fitting = [name for name, part in scores.items() if part.shape[1] in widths]
    if not fitting and len(classes) in (1, 2):
        fitting = [
            name for name, part in tensors.items() if part.numel() == 1 and part.is_floating_point()
        ]
    what = f"a score for each of the {len(classes)} classes" if classes else "scores of classes"
    if not fitting:
        raise ClassifierError(
            ErrorCode.MODEL_OUTPUT,
            f"The network is not a classifier of these classes: none of its outputs has {what} "
            f"({', '.join(classes)}). They are {described(parts)}.",
        )
    if len(fitting) == 1:
        return fitting[0], f"the only one with {what}"
    independent = _without_activated(scores, fitting)
    if len(independent) == 1:
        return independent[0], "of which the others of this shape are the activation"
    named = [name for name in fitting if name.rpartition(".")[2].lower() == "logits"]
    if len(named) == 1:
        return named[0], "because of its name"
    raise ClassifierError(
        ErrorCode.MODEL_OUTPUT,
        f"The network returns several outputs that may be {what}: "
        f"{described({name: parts[name] for name in fitting})}. Choose one: --output {fitting[0]} "
        "where a bundle is made of it (model add), or "
        f'"network_output": "{fitting[0]}" in network_data_format.outputs.pred of {METADATA}.',
    )


def _without_activated(scores: dict[str, Tensor], names: Sequence[str]) -> list[str]:
    """The names without those whose values are the softmax or sigmoid of another's."""

    def made_of(name: str, other: str) -> bool:
        values, source = scores[name].flatten(1), scores[other].flatten(1)
        return values.shape == source.shape and any(
            torch.allclose(values, made, atol=_ROUNDING)
            for made in (source.softmax(1), source.sigmoid(), source.log_softmax(1))
        )

    return [
        name
        for name in names
        if not any(
            made_of(name, other) and not made_of(other, name) for other in names if other != name
        )
    ]


def _made_images(noise: Tensor) -> Iterator[Tensor]:
    """Images of several kinds, then images of magnitudes for which logits leave [0, 1]."""
    generator = torch.Generator().manual_seed(1)
    even = torch.rand(noise.shape, generator=generator)
    yield torch.zeros_like(noise)
    yield even
    yield 255 * even
    yield -5 * torch.ones_like(noise)
    yield 1000 * noise


def _observed(network: nn.Module, path: str, noise: Tensor, result: Any) -> Output:
    form = ScoreNetwork(network, "none", output=path)

    def scores_of(returned: Any) -> Tensor:
        part = scores_in(returned, path)
        if isinstance(part, Tensor) and part.is_complex():
            raise ClassifierError(
                ErrorCode.MODEL_OUTPUT,
                "The network's outputs are complex numbers, which are not scores of classes. "
                "Change the network to return real numbers.",
            )
        # A single output may come as (B,), or as a number for one image.
        if isinstance(part, Tensor) and part.ndim < 2 and part.numel() == 1:
            part = part.reshape(1, 1)
        return form.checked(part, 1)[0].double()

    seen = [scores_of(result)]
    for image in _made_images(noise):
        if len(seen) > 1 and _settled(torch.stack(seen)):
            break
        with torch.no_grad():
            # A copy: a network may write into its input.
            found = scores_of(network(image.clone()))
        if bool(torch.isfinite(found).all()):
            seen.append(found)
    values = torch.stack(seen)
    kind = _kind(values)
    single = values.shape[1] == 1
    last: set[str] = set()
    doubtful = not single and in_doubt(values)
    if kind == "probabilities" or (kind == "logits" and single) or doubtful:
        last = _last_operations(network, path, noise)
        if kind == "probabilities" and last & _LINEAR and not last & _BOUNDED:
            kind = "logits"
    return Output(
        path=path,
        count=values.shape[1],
        kind=kind,
        low=float(values.min()),
        high=float(values.max()),
        saturated=single and kind == "logits" and _saturated(values),
        never_negative=bool(last) and last <= _NEVER_NEGATIVE and bool((values >= 0).all()),
        no_classes="" if single else no_classes(values, kind, last),
        falling=kind == "probabilities" and falling(values),
        constant=len(values) > 1 and bool((values == values[:1]).all()),
        tried=len(seen),
    )


def _settled(values: Tensor) -> bool:
    """Whether further images would change nothing."""
    kind = _kind(values)
    if kind == "probabilities" or (values.shape[1] > 1 and in_doubt(values)):
        return False
    return values.shape[1] > 1 or len(values) >= _USUAL or not _saturated(values)


def _saturated(values: Tensor) -> bool:
    """Whether the first images, which have usual magnitudes, all saturate a sigmoid."""
    values = values[:_USUAL]
    return bool((values > _SATURATED).all() or (values < -_SATURATED).all())


def _kind(values: Tensor) -> Kind:
    """The kind of numbers of the scores ``(images, K)``."""
    several = values.shape[1] > 1
    ones = torch.ones(len(values), dtype=values.dtype)
    sums = values.exp().sum(dim=1)
    if several and (values <= _ROUNDING).all() and torch.allclose(sums, ones, atol=_ROUNDING):
        return "log-softmax"
    if bool((values < -1e-6).any() or (values > 1 + 1e-6).any()):
        return "logits"
    if several and torch.allclose(values.sum(dim=1), ones, atol=_ROUNDING):
        return "softmax"
    return "probabilities"


def _last_operations(network: nn.Module, path: str, noise: Tensor) -> set[str]:
    """Names of the last operations that do more than arrange values, from autograd's graph.

    Empty where it is not known.
    """
    try:
        with torch.enable_grad():
            # No leaf: a network may write into its input.
            image = noise.clone().requires_grad_().clone()
            waiting = [scores_in(network(image), path).grad_fn]
    except (RuntimeError, NotImplementedError, ClassifierError):
        return set()
    found: set[str] = set()
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = type(node).__name__.rstrip("0123456789").removesuffix("Backward").strip("_")
        if name in _ARRANGING:
            waiting += [following for following, _ in node.next_functions]
        else:
            found.add(name)
    return found
