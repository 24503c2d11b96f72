"""DeepLIFT and Deep SHAP: contributions to the difference of the score from a reference's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn

from SaliencyExplain.attribution.graph.operation_catalogue import Kind
from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.methods.baseline_method import BaselineMethod
from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.anytime import AnytimeMap
from SaliencyExplain.attribution.passes.batches import in_batches
from SaliencyExplain.attribution.passes.gradient_path import no_slope
from SaliencyExplain.attribution.passes.propagation import (
    Propagation,
    check_same,
    in_forward_passes,
    target_score,
    traced,
    vjp,
    with_backward,
)
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.perturbation.baselines import (
    background_images,
    check_baseline,
)

#: Forward passes for one reference: the reference, the image and its backward pass, in which the
#: nonlinear layers run again. Measured on ResNet-18 of 48^3 voxels.
_COST = 7.0

#: Below this difference of a cell's inputs the derivative replaces the quotient of differences,
#: which would be mostly rounding error. The library shap does the same.
_SMALL = 1e-6

_LINEAR = (Kind.LINEAR, Kind.MEAN, Kind.SUM, Kind.SCALE, Kind.BATCH_NORMALISATION)
_CELL_BY_CELL = (Kind.ACTIVATION, Kind.CURVE)


class DifferencePropagation(Propagation):
    """A network whose backward pass computes multipliers in place of gradients.

    It runs on the references first and stores the inputs of its nonlinear operations. It then
    runs on the image, whose gradient is the multiplier of Shrikumar et al. 2017.
    """

    def __init__(self, graph: fx.GraphModule, method: str) -> None:
        super().__init__(graph, method)
        self._references: dict[fx.Node, list[Tensor]] = {}
        self._remembering = False

    def multipliers(
        self, image: Tensor, references: Tensor, start: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The multiplier of each voxel for each reference.

        Args:
            image: ``(1, C, *S)``.
            references: ``(B, C, *S)``.
            start: Function that returns the target's column of the scores, ``(B,)``.

        Returns:
            Multipliers ``(B, C, *S)``, and the network's outputs for references and image.
        """
        try:
            self._remembering = True
            with torch.no_grad():
                below = self.scores(references)
            self._remembering = False
            voxels = image.detach().expand_as(references).clone().requires_grad_()
            with torch.enable_grad():
                above = self.scores(voxels)
                if not above.requires_grad:
                    raise no_slope(self._method)
                multipliers = torch.autograd.grad(start(above).sum(), voxels)[0]
        finally:
            self._references.clear()
        return multipliers, below, above.detach()

    def rule(
        self,
        node: fx.Node,
        kind: Kind,
        module: nn.Module | None,
        function: Callable[..., Any],
        inputs: Sequence[Tensor],
    ) -> Any:
        """See :meth:`Propagation.rule`."""
        if kind in _LINEAR:
            return function(*inputs)
        if kind not in (*_CELL_BY_CELL, Kind.MAXIMUM, Kind.PRODUCT):
            return None
        if self._remembering:
            self._references[node] = list(inputs)
            return function(*inputs)
        seen = self._references[node]
        if kind is Kind.PRODUCT:
            return with_backward(function, _product(function, seen), *inputs)
        back = _maximum if kind is Kind.MAXIMUM else _rescaled
        return with_backward(function, back(function, seen[0]), *inputs)


def _rescaled(function: Callable[..., Tensor], reference: Tensor) -> Callable[..., Any]:
    """The rescale rule: the quotient of the differences (Shrikumar et al. 2017)."""

    def back(coming: Tensor, inputs: Sequence[Tensor], output: Tensor) -> Sequence[Tensor]:
        difference = inputs[0] - reference
        small = difference.abs() < _SMALL
        quotient = (output - function(reference)) / difference.masked_fill(small, 1.0)
        return [torch.where(small, vjp(function, inputs[0], coming), coming * quotient)]

    return back


def _maximum(function: Callable[..., Tensor], reference: Tensor) -> Callable[..., Any]:
    """Max pooling: the difference of the output is assigned to the cells of the maxima.

    An increase of the output is the contribution of the cell that is largest in the image, a
    decrease that of the cell that was largest in the reference. The difference of that cell is
    never smaller than that of the output. Windows may overlap.
    """

    def back(coming: Tensor, inputs: Sequence[Tensor], output: Tensor) -> Sequence[Tensor]:
        values = inputs[0]
        gain = output - function(reference)
        given = vjp(function, values, coming * gain.clamp(min=0)) + vjp(
            function, reference, coming * gain.clamp(max=0)
        )
        difference = values - reference
        small = difference.abs() < _SMALL
        slope = vjp(function, values, coming)
        return [torch.where(small, slope, given / difference.masked_fill(small, 1.0))]

    return back


def _product(function: Callable[..., Tensor], seen: Sequence[Tensor]) -> Callable[..., Any]:
    """The difference of each factor times the mean of the other factor.

    These are the Shapley values of a product of two; they add up to the difference.
    """

    def back(coming: Tensor, inputs: Sequence[Tensor], output: Tensor) -> Sequence[Tensor]:
        one, other = ((now + then) / 2 for now, then in zip(inputs, seen, strict=True))
        return [
            vjp(lambda values: function(values, other), inputs[0], coming),
            vjp(lambda values: function(one, values), inputs[1], coming),
        ]

    return back


class _Comparison:
    """An image compared with references, for one target."""

    def __init__(self, task: Task, method: str) -> None:
        self._network: ScoreNetwork = task.network
        self._image = plain(task.input)
        self._target, self._method = task.target, method
        self._note = task.note
        self._walk: DifferencePropagation | None = None
        self.score = 0.0
        self.score_of_references: list[float] = []

    def contributions(self, references: Tensor) -> Tensor:
        """Contribution of each voxel to the difference from each reference, ``(B, C, *S)``."""
        network, target = self._network, self._target
        expected = None
        if self._walk is None:
            with torch.no_grad():
                expected = network(self._image)
            graph = traced(network, self._image, self._method)
            self._walk = DifferencePropagation(graph, self._method)
            if self._walk.note:
                self._note(self._walk.note)
        scored = self._walk.network_of_scores(network)
        multipliers, below, above = self._walk.multipliers(
            self._image, references, lambda scores: target_score(scored, scores, target)
        )
        if expected is not None:
            same = network.checked(self._walk.finished(above), len(above))[:1]
            check_same(same, expected, self._method)
        self.score = float(target_score(scored, above, target)[0])
        self.score_of_references += target_score(scored, below, target).tolist()
        return multipliers * (self._image - references)


def _record(task: Task, comparison: _Comparison, values: Tensor) -> None:
    references = comparison.score_of_references
    task.record(
        {
            "score": comparison.score,
            "reference_score": sum(references) / len(references),
            "sum": float(values.double().sum()),
        }
    )


@dataclass(frozen=True)
class DeepLift(BaselineMethod):
    """DeepLIFT with the rescale rule.

    The map's values add up to the target's score of the image minus that of the baseline; both
    are recorded. The rules for products of two maps (squeeze and excitation) and for overlapping
    windows of max pooling keep this sum.
    """

    name: ClassVar[str] = "deeplift"
    explains_probabilities: ClassVar[bool] = False
    family: ClassVar[str] = "relevance"
    title: ClassVar[str] = "DeepLIFT"
    source: ClassVar[str] = (
        "Shrikumar et al. 2017, rescale rule; equals captum.attr.DeepLift, summed over channels"
    )
    signed: ClassVar[bool] = True

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; contributions of the channels are added."""
        reference = self.start(task)
        comparison = _Comparison(task, self.name)
        values = torch.zeros_like(reference[0, 0])
        total = self.forward_passes(task)
        with untouched(task.network):
            for _, found in in_batches(
                in_forward_passes(task, total),
                1,
                lambda _: comparison.contributions(reference),
                gradient=True,
                total=1.0,
            ):
                values = found[0].sum(0).float()
        _record(task, comparison, values)
        return {"": values}

    def forward_passes(self, task: Task) -> float:
        """One for a check, one for the reference, and the image's forward and backward pass."""
        check_baseline(task, self.baseline, self.name)
        return _COST + 1.0


@dataclass(frozen=True)
class DeepShap(Method):
    """Deep SHAP: DeepLIFT averaged over background images.

    The values add up to the target's score of the image minus the mean score of the backgrounds.
    """

    name: ClassVar[str] = "deepshap"
    explains_probabilities: ClassVar[bool] = False
    family: ClassVar[str] = "relevance"
    requires: ClassVar[tuple[str, ...]] = ("backgrounds",)
    title: ClassVar[str] = "Deep SHAP"
    source: ClassVar[str] = (
        "Lundberg and Lee 2017, section 4.2; equals captum.attr.DeepLiftShap, summed over channels"
    )
    signed: ClassVar[bool] = True
    parts: ClassVar[str] = "backgrounds"

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; contributions of the channels are added.

        Raises:
            InputError: No background images were given, or they do not fit the image.
        """
        backgrounds = background_images(task, self.name)
        comparison, growing = _Comparison(task, self.name), AnytimeMap(task)
        added = torch.zeros(backgrounds.shape[2:], dtype=torch.float64, device=task.input.device)
        count, done, total = len(backgrounds), 0, self.forward_passes(task)

        def compute(indices: range) -> Tensor:
            chosen = backgrounds[indices.start : indices.stop].to(task.input.device)
            return comparison.contributions(chosen)

        def so_far() -> dict[str, Tensor]:
            return {"": (added / done).float()}

        with untouched(task.network):
            for indices, found in in_batches(
                in_forward_passes(task, total, count),
                count,
                compute,
                gradient=True,
                total=float(count),
            ):
                for contributions in found:
                    added += contributions.sum(0)
                done = indices.stop
                if growing.is_enough(done / count, so_far):
                    break
        values = so_far()
        _record(task, comparison, values[""])
        task.record({"backgrounds": done})
        return values

    def forward_passes(self, task: Task) -> float:
        """One for a check; for each background one, and the image's forward and backward pass."""
        return _COST * len(background_images(task, self.name)) + 1.0
